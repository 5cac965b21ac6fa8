"""Random changes that a phone, an app or a person makes to a photo of the same thing. They never look at the label.

Greyscale and screenshots fall on both classes alike, so that neither the lack of colour nor an app's frame tells the
model anything.
"""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

from training.dataset import Pixels

Random = np.random.Generator


@dataclass(frozen=True)
class Augmentation:
    """How often and how far. Chances are in 0-1, angles in degrees, sizes in pixels of the model's input."""

    crop_min_area: float = 0.55  # of the picture; less and the desk may be cut away
    quarter_turn: float = 0.2
    angle: float = 8.0  # standard deviation of the camera's tilt
    perspective: float = 0.08  # how far each corner may move, as a share of the side
    grey: float = 0.25
    exposure: float = 1.0  # stops
    white_balance: float = 0.15
    tint: float = 0.08  # coloured light, as of LED strips
    blur: float = 0.3
    noise: float = 0.2
    small: float = 0.2  # scaled down and up again
    smallest: int = 64
    jpeg: float = 0.5
    screenshot: float = 0.06


def augment(photo: Pixels, size: int, settings: Augmentation, random: Random) -> Pixels:
    """One view of ``photo`` ``(h, h, 3)`` as ``(size, size, 3)`` uint8. The same state of ``random``: the same view."""
    image = _reframe(photo, size, settings, random)
    image = _relight(image, settings, random)
    if random.random() < settings.blur:
        image = blurred(image, random.uniform(0.5, 3.0)) if random.random() < 0.6 else shaken(image, random)
    if random.random() < settings.small:
        image = shrunk(image, int(random.integers(settings.smallest, size * 3 // 4)))
    if random.random() < settings.noise:
        image = noisy(image, random.uniform(2.0, 18.0), random)
    if random.random() < settings.grey:
        image = image.convert("L").convert("RGB")
    if random.random() < settings.screenshot:
        image = screenshot(image, random)
    if random.random() < settings.jpeg:
        image = compressed(image, int(random.integers(12, 80)))
    return np.asarray(image)


def _reframe(photo: Pixels, size: int, settings: Augmentation, random: Random) -> Image.Image:
    """Mirror, turn, tilt, crop and shift the corners in one resampling; what lies outside is mirrored in."""
    side = photo.shape[0]
    pad = side // 4
    source = Image.fromarray(np.pad(photo, ((pad, pad), (pad, pad), (0, 0)), mode="reflect"))
    area = random.uniform(settings.crop_min_area, 1.0)
    stretch = np.exp(random.uniform(-0.2, 0.2))
    half = np.minimum(np.sqrt(area) * np.array([stretch, 1.0 / stretch]), 1.0) / 2.0
    centre = 0.5 + random.uniform(-1.0, 1.0, 2) * (0.5 - half)
    corners = np.array([[-1, -1], [-1, 1], [1, 1], [1, -1]]) * half  # in the order of PIL's QUAD: from upper left down
    corners = corners + random.uniform(-1.0, 1.0, (4, 2)) * settings.perspective * half
    angle = np.radians(random.normal(0.0, settings.angle))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    corners = np.clip(corners @ turn + centre, -0.24, 1.24) * side + pad
    if random.random() < 0.5:
        corners = corners[[3, 2, 1, 0]]
    if random.random() < settings.quarter_turn:
        corners = np.roll(corners, int(random.choice([1, 1, 2, 3, 3])), axis=0)
    return source.transform(
        (size, size), Image.Transform.QUAD, data=tuple(corners.ravel()), resample=Image.Resampling.BILINEAR
    )


def _relight(image: Image.Image, settings: Augmentation, random: Random) -> Image.Image:
    """Exposure, gamma, colour of the light, contrast and saturation."""
    values = np.asarray(image, dtype=np.float32) / 255.0
    values = values ** np.float32(np.exp(random.normal(0.0, 0.25)))
    gain = 2.0 ** np.clip(random.normal(0.0, settings.exposure / 2.0), -2 * settings.exposure, settings.exposure)
    light = gain * np.exp(random.uniform(-settings.white_balance, settings.white_balance, 3))
    if random.random() < settings.tint:
        light = light * random.uniform(0.35, 1.2, 3)
    image = Image.fromarray((np.clip(values * light.astype(np.float32), 0.0, 1.0) * 255.0).astype(np.uint8))
    image = ImageEnhance.Contrast(image).enhance(random.uniform(0.7, 1.3))
    return ImageEnhance.Color(image).enhance(random.uniform(0.5, 1.4))


def blurred(image: Image.Image, radius: float) -> Image.Image:
    """Out of focus: Gaussian, ``radius`` in pixels."""
    return image.filter(ImageFilter.GaussianBlur(radius))


def shaken(image: Image.Image, random: Random) -> Image.Image:
    """Moved while exposed: a five-pixel streak in one of four directions."""
    kernel = np.zeros((5, 5), dtype=np.float32)
    line = np.arange(5)
    rows, columns = ((line, line), (line, line[::-1]), (np.full(5, 2), line), (line, np.full(5, 2)))[random.integers(4)]
    kernel[rows, columns] = 1.0
    return image.filter(ImageFilter.Kernel((5, 5), kernel.ravel().tolist(), scale=5.0))


def shrunk(image: Image.Image, side: int) -> Image.Image:
    """Scaled down to ``side`` pixels and back up: a thumbnail."""
    small = image.resize((side, side), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return small.resize(image.size, Image.Resampling.BILINEAR)


def noisy(image: Image.Image, sigma: float, random: Random) -> Image.Image:
    """Sensor noise with standard deviation ``sigma``, of 255."""
    values = np.asarray(image, dtype=np.float32)
    return Image.fromarray(np.clip(values + random.normal(0.0, sigma, values.shape), 0, 255).astype(np.uint8))


def compressed(image: Image.Image, quality: int) -> Image.Image:
    """Through JPEG and back."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def screenshot(image: Image.Image, random: Random, share: tuple[float, float] = (0.35, 0.8)) -> Image.Image:
    """The photo across the full width of an app's screen: bars, lines of text and buttons above and below it.

    ``share`` is how much of the screen's height the photo takes, from and to.
    """
    size = image.width
    dark = bool(random.random() < 0.5)
    page, ink = (int(random.integers(0, 40)), 210) if dark else (int(random.integers(235, 256)), 60)
    screen = Image.new("RGB", (size, size), (page, page, page))
    height = int(size * random.uniform(*share))
    top = int(random.uniform(0.25, 0.75) * (size - height))
    screen.paste(image.resize((size, height), Image.Resampling.BILINEAR), (0, top))
    draw = ImageDraw.Draw(screen)
    for left in (0.06, 0.72, 0.80, 0.88):  # clock and signal, at the edge of every phone's screen
        draw.rectangle((left * size, 0.015 * size, (left + 0.05) * size, 0.03 * size), fill=(ink,) * 3)
    for line in range(top + height + 8, size - 16, 11):
        right = size * random.uniform(0.3, 0.9)
        draw.rectangle((10, line, right, line + 4), fill=(ink,) * 3)
    for left in np.linspace(0.1, 0.8, 4):
        draw.ellipse((left * size, size - 12, left * size + 8, size - 4), fill=(ink,) * 3)
    return screen
