"""A desk drawn from nothing, for models that take no photo. The prompt's digest picks the colours."""

from __future__ import annotations

import hashlib

from PIL import Image, ImageDraw, ImageFilter

_SIDE = 1024
_WALLS = ((226, 214, 196), (208, 220, 214), (222, 208, 212), (204, 212, 226))
_WOODS = ((176, 124, 78), (205, 163, 112), (128, 88, 60), (222, 204, 178))
_ACCENTS = ((214, 92, 72), (62, 124, 142), (226, 170, 60), (112, 142, 88))
Colour = tuple[int, int, int]


def scene(prompt: str) -> Image.Image:
    """A square RGB picture of 1024: wall, window, desk and what stands on it."""
    digest = hashlib.sha256(prompt.encode()).digest()
    wall, wood, accent = _WALLS[digest[0] % 4], _WOODS[digest[1] % 4], _ACCENTS[digest[2] % 4]
    image = Image.new("RGB", (_SIDE, _SIDE), wall)
    pen = ImageDraw.Draw(image)
    _room(pen, wall, left=bool(digest[3] % 2))
    _desk(pen, wood)
    _monitor(pen, accent)
    _lamp(pen, accent)
    _plant(pen)
    _small_things(pen, accent)
    glow = Image.new("L", image.size, 0)
    ImageDraw.Draw(glow).polygon([(790, 420), (880, 420), (1010, 690), (660, 690)], fill=120)
    light = Image.new("RGB", image.size, (255, 236, 190))
    return Image.composite(light, image, glow.filter(ImageFilter.GaussianBlur(40)))


def _room(pen: ImageDraw.ImageDraw, wall: Colour, *, left: bool) -> None:
    pen.rectangle((0, 860, _SIDE, _SIDE), fill=_darker(wall, 0.62))
    x = 60 if left else 300
    pen.rectangle((x, 60, x + 250, 380), fill=(246, 246, 240))
    for i in range(2):
        for j in range(2):
            corner = (x + 14 + i * 116, 74 + j * 150)
            pen.rectangle((*corner, corner[0] + 106, corner[1] + 140), fill=(168, 206, 232))
    pen.rectangle((620, 110, 760, 290), fill=_darker(wall, 0.5))
    pen.rectangle((632, 122, 748, 278), fill=_lighter(wall))


def _desk(pen: ImageDraw.ImageDraw, wood: Colour) -> None:
    pen.polygon([(60, 700), (964, 700), (1010, 770), (14, 770)], fill=wood)
    pen.rectangle((14, 770, 1010, 800), fill=_darker(wood, 0.8))
    for x in (60, 910):
        pen.rectangle((x, 800, x + 46, 1010), fill=_darker(wood, 0.65))
    pen.rectangle((620, 800, 880, 940), fill=_darker(wood, 0.9))
    for y in (815, 880):
        pen.rectangle((635, y, 865, y + 48), fill=wood)
        pen.ellipse((740, y + 18, 760, y + 32), fill=_darker(wood, 0.5))


def _monitor(pen: ImageDraw.ImageDraw, accent: Colour) -> None:
    pen.rounded_rectangle((330, 420, 700, 640), 12, fill=(34, 36, 42))
    pen.rectangle((344, 434, 686, 620), fill=_lighter(accent))
    pen.polygon([(344, 620), (470, 500), (560, 580), (610, 540), (686, 620)], fill=accent)
    pen.rectangle((500, 640, 530, 700), fill=(60, 62, 70))
    pen.rounded_rectangle((440, 692, 590, 708), 8, fill=(60, 62, 70))


def _lamp(pen: ImageDraw.ImageDraw, accent: Colour) -> None:
    pen.line([(880, 700), (920, 560), (835, 430)], fill=(48, 48, 54), width=12)
    pen.rounded_rectangle((840, 690, 930, 708), 8, fill=(48, 48, 54))
    pen.polygon([(800, 380), (870, 380), (900, 450), (760, 450)], fill=accent)
    pen.ellipse((800, 436, 860, 470), fill=(255, 240, 180))


def _plant(pen: ImageDraw.ImageDraw) -> None:
    for x, y in ((120, 560), (160, 520), (200, 560), (140, 600), (190, 610)):
        pen.ellipse((x - 34, y - 44, x + 34, y + 44), fill=(70 + x % 40, 132, 78))
    pen.polygon([(110, 630), (214, 630), (200, 712), (124, 712)], fill=(236, 228, 216))


def _small_things(pen: ImageDraw.ImageDraw, accent: Colour) -> None:
    pen.rounded_rectangle((360, 722, 620, 756), 8, fill=(238, 238, 240))
    for row in range(3):
        for key in range(14):
            x, y = 368 + key * 18, 727 + row * 9
            pen.rectangle((x, y, x + 13, y + 6), fill=(196, 198, 204))
    pen.ellipse((650, 722, 690, 758), fill=(238, 238, 240))
    pen.rounded_rectangle((256, 662, 306, 720), 8, fill=accent)
    pen.arc((296, 672, 326, 708), -90, 90, fill=accent, width=8)


def _darker(colour: Colour, by: float) -> Colour:
    red, green, blue = colour
    return int(red * by), int(green * by), int(blue * by)


def _lighter(colour: Colour) -> Colour:
    red, green, blue = colour
    return (red + 255) // 2, (green + 255) // 2, (blue + 255) // 2
