"""Five styles as image filters. An image in, RGB of the same size out; the same pixels every time."""

from __future__ import annotations

import re
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageChops, ImageEnhance, ImageFilter

Floats = npt.NDArray[np.float32]


class Style(Enum):
    BASIC = "basic"
    CARTOON = "cartoon"
    SIMPLE = "simple"
    OIL = "oil"
    MSPAINT = "mspaint"


_WORDS = {
    Style.MSPAINT: r"ms[ -]?paint|microsoft paint|paint program|bucket fill|그림판",
    Style.OIL: r"\boil\b|oil[ -]paint|impasto|유화",
    Style.CARTOON: r"cartoon|comic|anime|카툰|만화|웹툰",
    Style.SIMPLE: r"minimal|\bsimple\b|uncluttered|scandinavian|미니멀|심플",
}
_HEADING = re.compile(r"^\W*(basic|cartoon|simple|oil|ms ?paint|paint)\b[^:\n]{0,20}:", re.MULTILINE)
_LOOSE = Style.SIMPLE  # its words also turn up in the wording of other styles ("simple shapes")
_PAINT_COLOURS = (
    "000000 7f7f7f 880015 ed1c24 ff7f27 fff200 22b14c 00a2e8 3f48cc a349a4 "
    "ffffff c3c3c3 b97a57 ffaec9 ffc90e efe4b0 b5e61d 99d9ea 7092be c8bfe7"
)


def detect(prompt: str) -> Style:
    """The style that the words ask for: by a heading, else the one named most, the first of those; else BASIC."""
    low = prompt.lower()
    if heading := _HEADING.search(low):
        name = heading[1].replace(" ", "")
        return Style("mspaint" if name == "paint" else name)
    found = [(style, [m.start() for m in re.finditer(words, low)]) for style, words in _WORDS.items()]
    named = [(style is _LOOSE, -len(at), at[0], style) for style, at in found if at]
    return min(named, key=lambda n: n[:3])[3] if named else Style.BASIC


def restyle(image: Image.Image, style: Style) -> Image.Image:
    """The image in that style."""
    return {
        Style.BASIC: _basic,
        Style.CARTOON: _cartoon,
        Style.SIMPLE: _simple,
        Style.OIL: _oil,
        Style.MSPAINT: _mspaint,
    }[style](image.convert("RGB"))


def _basic(image: Image.Image) -> Image.Image:
    """Evening light: warmer, more contrast, darker towards the corners."""
    image = ImageEnhance.Color(ImageEnhance.Contrast(image).enhance(1.18)).enhance(1.2)
    pixels = np.asarray(image, np.float32) * np.array([1.10, 1.0, 0.80], np.float32)
    height, width = pixels.shape[:2]
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    vignette = 1.08 - 0.38 * np.clip(x * x + y * y, 0, 2) ** 1.3 / 2
    return _image(pixels * vignette[..., None])


def _cartoon(image: Image.Image) -> Image.Image:
    """Flat, strong colours within dark outlines."""
    smooth = _half(image).filter(ImageFilter.MedianFilter(5)).filter(ImageFilter.MedianFilter(3))
    outlines = _outlines(smooth, 34).filter(ImageFilter.MaxFilter(3))
    flat = ImageEnhance.Color(smooth).enhance(1.7).quantize(14, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    flat = ImageEnhance.Brightness(flat.convert("RGB")).enhance(1.08).resize(image.size, Image.Resampling.BICUBIC)
    mask = outlines.resize(image.size, Image.Resampling.BICUBIC).filter(ImageFilter.GaussianBlur(0.8))
    return Image.composite(Image.new("RGB", image.size, (24, 18, 28)), flat, mask)


def _simple(image: Image.Image) -> Image.Image:
    """Bright and calm: little colour, soft surfaces, much white."""
    soft = image.filter(ImageFilter.MedianFilter(3)).filter(ImageFilter.GaussianBlur(max(image.size) / 700))
    soft = ImageEnhance.Color(soft).enhance(0.3)
    pixels = np.asarray(soft, np.float32) / 255
    lifted = 0.24 + 0.78 * pixels**0.72
    return _image(lifted * np.array([252, 251, 248], np.float32))


def _oil(image: Image.Image) -> Image.Image:
    """Brush strokes: each pixel takes the mean of the calmest of the four patches around it (Kuwahara's filter)."""
    small = ImageEnhance.Color(_half(image)).enhance(1.45)
    painted = _image(_kuwahara(np.asarray(small, np.float32), 4))
    relief = painted.convert("L").filter(ImageFilter.Kernel((3, 3), (-1, -1, 0, -1, 0, 1, 0, 1, 1), 1, 128))
    canvas = ImageChops.soft_light(painted, Image.merge("RGB", [relief] * 3))
    warm = np.asarray(canvas.resize(image.size, Image.Resampling.BICUBIC), np.float32)
    return _image(warm * np.array([1.05, 0.99, 0.86], np.float32))


def _mspaint(image: Image.Image) -> Image.Image:
    """The old palette of twenty colours, in blocks, with a one-pixel pencil around them."""
    blocks = (max(1, image.width // 5), max(1, image.height // 5))
    small = ImageEnhance.Brightness(image.resize(blocks, Image.Resampling.BOX)).enhance(1.2)
    small = ImageEnhance.Color(small).enhance(1.5)
    small = small.filter(ImageFilter.ModeFilter(3))
    palette = Image.new("P", (1, 1))
    palette.putpalette(bytes.fromhex(_PAINT_COLOURS.replace(" ", "")))
    flat = small.quantize(palette=palette, dither=Image.Dither.NONE).convert("RGB").filter(ImageFilter.ModeFilter(3))
    pencil = Image.composite(Image.new("RGB", blocks, "black"), flat, _outlines(small, 60))
    return pencil.resize(image.size, Image.Resampling.NEAREST)


def _half(image: Image.Image) -> Image.Image:
    return image.resize((max(8, image.width // 2), max(8, image.height // 2)), Image.Resampling.BOX)


def _outlines(image: Image.Image, threshold: int) -> Image.Image:
    """A mask of the edges: white where the brightness changes by more than `threshold` from pixel to pixel."""
    grey = np.asarray(image.convert("L").filter(ImageFilter.GaussianBlur(0.7)), np.int16)
    across = np.abs(np.diff(grey, axis=1, append=grey[:, -1:]))
    down = np.abs(np.diff(grey, axis=0, append=grey[-1:]))
    return Image.fromarray(np.where(across + down > threshold * 0.5, 255, 0).astype(np.uint8))


def _kuwahara(pixels: Floats, radius: int) -> Floats:
    height, width = pixels.shape[:2]
    padded = np.pad(pixels, ((radius, radius), (radius, radius), (0, 0)), mode="edge")
    grey = padded.mean(axis=2)
    size = radius + 1
    mean = _box(padded, size)
    spread = _box(grey[..., None] ** 2, size) - _box(grey[..., None], size) ** 2
    best, calm = mean[:height, :width].copy(), spread[:height, :width].copy()
    for top, left in ((0, radius), (radius, 0), (radius, radius)):
        here = spread[top : top + height, left : left + width]
        calmer = here < calm
        np.copyto(best, mean[top : top + height, left : left + width], where=calmer)
        np.copyto(calm, here, where=calmer)
    return best


def _box(values: Floats, size: int) -> Floats:
    """Means over all squares of `size`, by running sums."""
    sums = np.cumsum(np.cumsum(values, axis=0, dtype=np.float64), axis=1)
    sums = np.pad(sums, ((1, 0), (1, 0), (0, 0)))
    total = sums[size:, size:] - sums[:-size, size:] - sums[size:, :-size] + sums[:-size, :-size]
    return (total / size**2).astype(np.float32)


def _image(pixels: npt.NDArray[np.floating[Any]]) -> Image.Image:
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
