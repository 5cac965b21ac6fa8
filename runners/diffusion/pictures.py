"""What a pipeline drew becomes a picture of its photo's shape, or the reason why it is none."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deskterior.errors import RunnerFailed
from runners.diffusion.failures import Withheld

BLACK = 4 / 255
"""A picture in which nothing is brighter is no picture."""


def finish(photo: Image.Image, drawn: NDArray[Any], *, flagged: bool) -> Image.Image | RunnerFailed:
    """`drawn` `(height, width, 3)`, of 0 to 1, in the shape of `photo`. `flagged`: the model's safety checker was."""
    if flagged:
        return Withheld("The drawing model's own safety checker withheld this picture")
    if not np.isfinite(drawn).all():
        return RunnerFailed("The drawing model drew something that is no picture (NaN). Try DRAWING_PRECISION=float32")
    if drawn.max() <= BLACK:
        return RunnerFailed("The drawing model drew a black picture. Try again, or DRAWING_PRECISION=float32")
    made = Image.fromarray((drawn.clip(0, 1) * 255).round().astype(np.uint8))
    return made.resize(_shape_of(photo, made), Image.Resampling.LANCZOS)


def _shape_of(photo: Image.Image, drawn: Image.Image) -> tuple[int, int]:
    """The photo's shape at the area of what was drawn: sides are rounded for the network, and undone here."""
    area, ratio = drawn.width * drawn.height, photo.width / photo.height
    if abs(drawn.width - drawn.height * ratio) < 1:
        return drawn.size
    return max(1, round(math.sqrt(area * ratio))), max(1, round(math.sqrt(area / ratio)))
