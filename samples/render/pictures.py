"""Flat pictures drawn here for the things in the scenes that show one: a screen, prints on the wall, paper, spines."""

import random

import bpy
import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

Pixel = tuple[int, int, int]

WORDS = [
    "the", "of", "form", "light", "and", "wood", "table", "notes", "house", "garden", "river", "paper", "study",
    "line", "north", "winter", "letters", "sea",
]  # fmt: skip


def to_blender(name: str, drawn: Image.Image) -> bpy.types.Image:
    rows = np.asarray(drawn.convert("RGBA"), dtype=np.float32)[::-1] / 255.0
    stored = bpy.data.images.new(name, drawn.width, drawn.height)
    stored.pixels.foreach_set(np.ascontiguousarray(rows).ravel())
    stored.pack()
    return stored


def _blurred_noise(size: tuple[int, int], cells: int, rng: random.Random) -> np.ndarray:
    """Soft noise from 0 to 1, about `cells` blobs across."""
    dots = np.random.default_rng(rng.randrange(2**31)).random((max(2, cells * size[1] // size[0]), cells))
    soft = Image.fromarray((dots * 255).astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)
    return np.asarray(soft, dtype=np.float32) / 255.0


def landscape(size: tuple[int, int], rng: random.Random, top: Pixel, low: Pixel, hills: Pixel) -> Image.Image:
    """Hills one behind the other under a sky: a wallpaper or a print."""
    width, height = size
    fade = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    sky = np.array(top, np.float32) * (1 - fade) + np.array(low, np.float32) * fade
    scene = np.broadcast_to(sky, (height, width, 3)).copy()
    scene += (_blurred_noise(size, 6, rng)[:, :, None] - 0.5) * 22
    rows = np.arange(height)[:, None]
    for layer in range(5):
        near = (layer + 1) / 5
        ridge = _blurred_noise((width, 8), 4 + 3 * layer, rng)[4] * 0.24 + _blurred_noise((width, 8), 40, rng)[4] * 0.02
        line = height * (0.34 + 0.13 * layer + ridge)
        colour = np.array(low, np.float32) * (1 - near) + np.array(hills, np.float32) * near
        scene = np.where((rows > line[None, :])[:, :, None], colour, scene)
    return Image.fromarray(np.clip(scene, 0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(0.8))


def _line_of_words(rng: random.Random, count: int) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(count))


def desktop(rng: random.Random) -> Image.Image:
    """A computer's screen: an editor and a document over a landscape."""
    screen = landscape((1280, 720), rng, (88, 126, 168), (214, 190, 170), (38, 54, 72))
    draw = ImageDraw.Draw(screen)
    small, medium = ImageFont.load_default(13), ImageFont.load_default(20)
    draw.rectangle((0, 0, 1280, 26), fill=(28, 30, 36))
    for index, label in enumerate(("Files", "Edit", "View", "Window", "Help")):
        draw.text((20 + 80 * index, 5), label, font=small, fill=(225, 225, 230))
    draw.text((1180, 5), "Thu 10:42", font=small, fill=(225, 225, 230))
    draw.rounded_rectangle((60, 60, 720, 640), 8, fill=(30, 32, 40))
    draw.rectangle((60, 84, 200, 640), fill=(38, 41, 50))
    colours = [(198, 120, 221), (152, 195, 121), (97, 175, 239), (229, 192, 123), (171, 178, 191)]
    for row in range(32):
        across = 222 + 22 * rng.choice((0, 1, 1, 2, 2, 3))
        draw.text((206, 92 + 17 * row), f"{row + 1}", font=ImageFont.load_default(9), fill=(90, 95, 110))
        if rng.random() < 0.14:
            continue
        for _ in range(rng.randint(1, 6)):
            word = rng.choice(WORDS)
            draw.text((across, 90 + 17 * row), word, font=small, fill=rng.choice(colours))
            across += int(draw.textlength(word + " ", font=small)) + 2
        if row < 18:
            draw.text((72, 94 + 24 * row), rng.choice(WORDS) + ".py", font=small, fill=(160, 166, 180))
    draw.rounded_rectangle((690, 120, 1220, 680), 8, fill=(246, 246, 243))
    draw.text((730, 150), "Notes for the garden house", font=medium, fill=(40, 40, 44))
    for row in range(9):
        draw.text((730, 190 + 20 * row), _line_of_words(rng, 9), font=small, fill=(90, 90, 96))
    draw.rectangle((730, 392, 1180, 640), fill=(228, 231, 234))
    for bar in range(9):
        height = rng.randint(40, 210)
        draw.rectangle((752 + 46 * bar, 628 - height, 782 + 46 * bar, 628), fill=(92, 138, 168))
    return screen


def page(rng: random.Random, heading: str = "Plan") -> Image.Image:
    """A printed sheet: a heading, paragraphs and a box."""
    sheet = Image.new("RGB", (630, 890), (244, 243, 238))
    draw = ImageDraw.Draw(sheet)
    body = ImageFont.load_default(14)
    draw.text((70, 70), heading, font=ImageFont.load_default(34), fill=(30, 30, 34))
    for row in range(34):
        if row % 9 == 8 or 14 < row < 22:
            continue
        draw.text((70, 140 + 20 * row), _line_of_words(rng, 11)[:70], font=body, fill=(60, 60, 66))
    draw.rectangle((70, 440, 560, 570), outline=(80, 80, 86), width=2)
    draw.line([(80 + 60 * i, rng.randint(455, 560)) for i in range(9)], fill=(170, 70, 60), width=3)
    return sheet


def shapes_print(rng: random.Random, ground: Pixel, colours: list[Pixel]) -> Image.Image:
    """An abstract print: a few large soft shapes on paper."""
    size = (600, 800)
    art = Image.new("RGB", size, ground)
    draw = ImageDraw.Draw(art)
    for index, colour in enumerate(colours):
        x, y, r = rng.randint(140, 460), 180 + 150 * index, rng.randint(100, 170)
        if index % 2:
            draw.rounded_rectangle((x - r, y - r * 0.7, x + r, y + r * 0.7), int(r * 0.6), fill=colour)
        else:
            draw.ellipse((x - r, y - r, x + r, y + r), fill=colour)
    for _ in range(3):
        y = rng.randint(250, 700)
        draw.line([(60, y), (250, y - 60), (540, y + 30)], fill=(50, 46, 44), width=4, joint="curve")
    grain = np.random.default_rng(5).normal(0, 5, (size[1], size[0], 1))
    return Image.fromarray(np.clip(np.asarray(art, np.float32) + grain, 0, 255).astype(np.uint8))


def spine(rng: random.Random, ground: Pixel, ink: Pixel) -> Image.Image:
    """A book's spine, drawn lying down: a title between two bands."""
    back = Image.new("RGB", (720, 110), ground)
    draw = ImageDraw.Draw(back)
    if rng.random() < 0.6:
        draw.rectangle((26, 0, 34, 110), fill=ink)
        draw.rectangle((686, 0, 694, 110), fill=ink)
    if rng.random() < 0.4:
        draw.rectangle((560, 0, 660, 110), fill=tuple(min(255, c + 40) for c in ground))
    title = _line_of_words(rng, rng.randint(2, 3)).title()
    draw.text((70, 32), title, font=ImageFont.load_default(rng.choice((38, 46))), fill=ink)
    return back


def outdoors(rng: random.Random) -> Image.Image:
    """What is behind the window, out of focus: bright sky over trees."""
    size = (480, 480)
    leaves = _blurred_noise(size, 40, rng)[:, :, None]
    crowns = _blurred_noise((480, 8), 7, rng)[4][None, :]
    rows = np.linspace(0, 1, 480, dtype=np.float32)[:, None]
    sky = np.full((480, 480, 3), (226, 236, 250), np.float32)
    trees = np.array((112, 142, 92), np.float32) * (0.45 + 0.9 * leaves)
    scene = np.where((rows > 0.42 + 0.3 * (crowns - 0.5))[:, :, None], trees, sky)
    return Image.fromarray(np.clip(scene, 0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(9))
