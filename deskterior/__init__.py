"""Everything of the service that is not a model."""
