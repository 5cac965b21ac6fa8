"""What a photo may have gone through before it arrives, each as one named, repeatable change.

A screenshot counts as what its picture shows: if one photo fills the width of the screen, it is what the person wants
judged, and turning them away costs more than a picture restyled with a bar at its top. So a desk in an app's frame
should stay a desk.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance

from training.augment import blurred, compressed, noisy, screenshot, shrunk
from training.dataset import Pixels

Change = Callable[[Image.Image, np.random.Generator], Image.Image]


def _turned(image: Image.Image, degrees: float) -> Image.Image:
    """Turned, and cropped so that no corner is empty."""
    side = image.width
    radians = np.radians(degrees)
    inner = int(side / (abs(np.cos(radians)) + abs(np.sin(radians))))
    edge = (side - inner) // 2
    turned = image.rotate(degrees, Image.Resampling.BICUBIC)
    return turned.crop((edge, edge, edge + inner, edge + inner)).resize((side, side), Image.Resampling.BILINEAR)


CHANGES: dict[str, Change] = {
    "as taken": lambda image, _: image,
    "JPEG quality 30": lambda image, _: compressed(image, 30),
    "JPEG quality 10": lambda image, _: compressed(image, 10),
    "blur, 2 px of 224": lambda image, _: blurred(image, 2.0),
    "blur, 4 px of 224": lambda image, _: blurred(image, 4.0),
    "dark, a quarter of the light, noise": lambda image, random: noisy(
        ImageEnhance.Brightness(image).enhance(0.25), 6.0, random
    ),
    "turned by 15 degrees": lambda image, _: _turned(image, 15.0),
    "on its side (90 degrees)": lambda image, _: image.transpose(Image.Transpose.ROTATE_90),
    "96 px": lambda image, _: shrunk(image, 96),
    "greyscale": lambda image, _: image.convert("L").convert("RGB"),
    "screenshot": lambda image, random: screenshot(image, random),
}


def changed(photos: Pixels, change: Change, seed: int) -> Pixels:
    """Apply ``change`` to each photo of ``(n, 224, 224, 3)``, the same way for the same seed."""
    return np.stack(
        [
            np.asarray(change(Image.fromarray(photo), np.random.default_rng((seed, number))))
            for number, photo in enumerate(photos)
        ]
    )
