"""The pictures that the sandbox draws: a photo visibly restyled, a desk scene from nothing, a product card."""
