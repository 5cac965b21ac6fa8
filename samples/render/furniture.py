"""Furniture and what fills a home: desk, chairs, bookcase, books, plants, prints and rugs."""

import math
import random

import materials as made_of
import pictures
from shapes import Point, box, cushion, cylinder, lathe, leg, panel, placed, sheet, tube

BOOK_COLOURS = [
    (34, 52, 78), (150, 52, 40), (222, 208, 178), (60, 88, 70), (196, 150, 62), (44, 42, 44), (120, 134, 150),
    (206, 202, 194), (106, 44, 58), (84, 116, 128), (230, 226, 216), (176, 98, 60),
]  # fmt: skip


def desk(at: Point, width: float, depth: float, height: float, top, frame, front) -> None:
    """A table on a steel frame with a drawer unit under its right end."""
    with placed(at):
        box("desk top", (width, depth, 0.032), (0, 0, height - 0.016), top, bevel=0.004)
        under = height - 0.032
        for x in (-width / 2 + 0.06, width / 2 - 0.06):
            for y in (-depth / 2 + 0.06, depth / 2 - 0.06):
                box("leg", (0.04, 0.04, under), (x, y, under / 2), frame)
            box("side rail", (0.04, depth - 0.16, 0.04), (x, 0, under - 0.02), frame)
        box("back rail", (width - 0.16, 0.03, 0.04), (0, depth / 2 - 0.06, under - 0.02), frame)
        with placed((width / 2 - 0.33, 0.02, 0)):
            box("drawers", (0.4, depth - 0.16, under - 0.06), (0, 0, (under - 0.06) / 2 + 0.03), front)
            tall = (under - 0.09) / 3
            for index in range(3):
                z = 0.05 + tall * (index + 0.5)
                box("drawer", (0.392, 0.02, tall - 0.006), (0, -depth / 2 + 0.075, z), front)
                grip = [(-0.06, -depth / 2 + 0.05, z + 0.05), (0.06, -depth / 2 + 0.05, z + 0.05)]
                tube("handle", grip, 0.005, frame, bent=False)


def office_chair(at: Point, turn: float, fabric) -> None:
    """A swivel chair, its back towards its own -y."""
    plastic = made_of.solid("chair plastic", (0.018, 0.018, 0.019), 0.45, grain=0.0003)
    steel = made_of.solid("chair steel", (0.55, 0.55, 0.56), 0.25, metallic=1.0)
    with placed(at, turn):
        for spoke in range(5):
            with placed((0, 0, 0), turn=spoke * 72 + 15):
                leg("spoke", (0.03, 0, 0.115), (0.3, 0, 0.07), (0.05, 0.035), plastic, bevel=0.008)
                tube("spoke", [(0.02, 0, 0.11), (0.16, 0, 0.1), (0.3, 0, 0.075)], 0.02, plastic)
                for side in (-0.013, 0.013):
                    with placed((0.3, side, 0.03), tilt=90):
                        cylinder("caster", 0.03, 0.018, (0, 0, -0.009), plastic, bevel=0.005)
        cylinder("hub", 0.045, 0.07, (0, 0, 0.09), plastic, bevel=0.01)
        cylinder("column", 0.025, 0.26, (0, 0, 0.15), steel)
        box("tray", (0.26, 0.24, 0.04), (0, 0, 0.41), plastic, bevel=0.015)
        cushion("seat", (0.54, 0.54, 0.13), (0, 0, 0.485), fabric, puff=0.1)
        tube("spine", [(0, -0.1, 0.42), (0, -0.27, 0.43), (0, -0.31, 0.56), (0, -0.3, 0.75)], 0.022, plastic)
        with placed((0, -0.25, 0.82), tilt=97):
            cushion("backrest", (0.49, 0.54, 0.1), (0, 0, 0), fabric, puff=0.08)
        for side in (-1, 1):
            x = side * 0.29
            bend = [(side * 0.12, 0, 0.43), (x, 0, 0.45), (x + side * 0.01, 0, 0.56), (x, 0, 0.67)]
            tube("arm", bend, 0.017, plastic)
            box("armrest", (0.075, 0.27, 0.03), (x, 0, 0.685), plastic, bevel=0.013)


def dining_chair(at: Point, turn: float, timber, seat=None) -> None:
    """A wooden chair with a curved top rail over spindles, its back towards its own -y."""
    with placed(at, turn):
        with placed((0, 0, 0.445)):
            cushion("seat", (0.46, 0.45, 0.055), (0, 0, 0), seat or timber, puff=0.02)
        for x in (-0.16, 0.16):
            tube("front leg", [(x, 0.15, 0.435), (x * 1.22, 0.19, 0.0)], 0.016, timber, bent=False)
            tube("back leg", [(x, -0.15, 0.435), (x * 1.22, -0.21, 0.0)], 0.016, timber, bent=False)
            tube("rung", [(x * 1.1, 0.17, 0.22), (x * 1.1, -0.18, 0.22)], 0.009, timber, bent=False)
        tube("rung", [(-0.176, -0.005, 0.22), (0.176, -0.005, 0.22)], 0.009, timber, bent=False)
        top = 0.8
        for step in range(7):
            share = step / 6 - 0.5
            bow = -0.05 * (1 - (2 * share) ** 2)
            thick = 0.012 if step in (0, 6) else 0.007
            foot, head = (share * 0.36, -0.165 + bow * 0.5, 0.46), (share * 0.44, -0.235 + bow, top)
            tube("spindle", [foot, head], thick, timber, bent=False)

        def rail(u: float, v: float) -> Point:
            share = u - 0.5
            return (share * 0.5, -0.235 - 0.05 * (1 - (2 * share) ** 2) - 0.008 * v, top - 0.035 + 0.075 * v)

        sheet("top rail", rail, timber, cells=(24, 4), thick=0.02)


def bookcase(at: Point, width: float, depth: float, height: float, shelves: int, upright, across, back) -> None:
    """An open bookcase, its grain running up the sides and along the shelves."""
    board = 0.022
    with placed(at):
        for x in (-width / 2 + board / 2, width / 2 - board / 2):
            box("side", (board, depth, height), (x, 0, height / 2), upright, bevel=0.002)
        box("back", (width - 0.02, 0.006, height - 0.06), (0, depth / 2 - 0.006, height / 2 + 0.02), back, bevel=0)
        box("plinth", (width - 2 * board, board, 0.06), (0, -depth / 2 + 0.04, 0.03), across)
        levels = [0.06 + index * (height - 0.06 - board) / shelves for index in range(shelves + 1)]
        for level in levels:
            box("shelf", (width - 2 * board, depth - 0.012, board), (0, -0.004, level + board / 2), across, bevel=0.002)


def books_upright(at: Point, count: int, rng: random.Random, turn: float = 0.0) -> None:
    """A row of books starting at `at` and going along +x, spines towards -y."""
    pages = made_of.solid("pages", (0.72, 0.68, 0.58), 0.85)
    x = 0.0
    with placed(at, turn):
        for _ in range(count):
            thick, tall, deep = rng.uniform(0.015, 0.042), rng.uniform(0.18, 0.25), rng.uniform(0.13, 0.17)
            with placed((x + thick / 2, deep / 2, 0), lean=rng.choice((0, 0, 0, 2))):
                _book((thick, deep, tall), rng, pages)
            x += thick + 0.002


def _book(size: Point, rng: random.Random, pages) -> None:
    """A book standing up: a cover around paler pages, its spine with a title."""
    thick, deep, tall = size
    ground = rng.choice(BOOK_COLOURS)
    ink = (240, 232, 214) if sum(ground) < 420 else (50, 46, 44)
    colour = tuple((c / 255) ** 2.2 for c in ground)
    cover = made_of.solid("cover", colour, rng.uniform(0.35, 0.7), grain=0.0002)
    title = pictures.to_blender("spine", pictures.spine(rng, ground, ink))
    box("pages", (thick - 0.004, deep - 0.006, tall - 0.008), (0, 0.001, tall / 2), pages, bevel=0.0005)
    for side in (-1, 1):
        box("cover", (0.0025, deep, tall), (side * (thick / 2 - 0.00125), 0, tall / 2), cover, bevel=0.0008)
    box("spine", (thick, 0.003, tall), (0, -deep / 2 + 0.0015, tall / 2), cover, bevel=0.001)
    with placed((0, -deep / 2 - 0.0003, tall / 2), lean=90):
        panel("title", tall * 0.94, thick * 0.9, (0, 0, 0), made_of.printed("spine", title, 0.5))


def books_flat(at: Point, count: int, rng: random.Random, turn: float = 0.0) -> float:
    """A pile of books; returns its height."""
    pages = made_of.solid("pages", (0.72, 0.68, 0.58), 0.85)
    z = at[2]
    for index in range(count):
        thick, tall, deep = rng.uniform(0.018, 0.034), 0.245 - 0.012 * index, 0.175 - 0.008 * index
        with placed((at[0], at[1], z + thick / 2), turn=turn + rng.uniform(-9, 9)), placed((-tall / 2, 0, 0), lean=90):
            _book((thick, deep, tall), rng, pages)
        z += thick + 0.0005
    return z - at[2]


def plant(at: Point, rng: random.Random, size: float = 1.0, stems: int = 9, pot=(0.62, 0.3, 0.18)) -> None:
    """A leafy plant in a pot, `size` 1 being about 40 cm tall."""
    clay = made_of.solid("plant pot", pot, 0.75, grain=0.0006)
    soil = made_of.solid("soil", (0.02, 0.013, 0.008), 0.95, grain=0.004)
    green = made_of.leaf("leaf", (0.012, 0.055, 0.012), (0.07, 0.19, 0.035))
    stalk = made_of.solid("stalk", (0.06, 0.12, 0.03), 0.6)
    with placed(at):
        r, h = 0.075 * size, 0.13 * size
        outside = [(0, 0), (r * 0.74, 0), (r * 0.78, h * 0.05), (r, h)]
        lathe("plant pot", [*outside, (r * 0.93, h), (r * 0.88, h * 0.86), (0, h * 0.84)], (0, 0, 0), clay, round_off=0)
        cylinder("soil", r * 0.87, 0.004, (0, 0, h * 0.84), soil, bevel=0)
        for stem in range(stems):
            way, reach = stem * 2.4 + rng.uniform(-0.3, 0.3), rng.uniform(0.25, 1.0)
            out, up = 0.13 * size * reach, size * (0.34 - 0.16 * reach + rng.uniform(-0.03, 0.03))
            tip = (out * math.cos(way), out * math.sin(way), h + up)
            tube("stalk", [(0, 0, h * 0.8), (tip[0] * 0.3, tip[1] * 0.3, h + up * 0.6), tip], 0.0022 * size, stalk)
            with placed(tip, turn=math.degrees(way) - 90, tilt=rng.uniform(-38, 8)):
                _leaf(size * rng.uniform(0.13, 0.19), rng.uniform(0.5, 0.68), rng.uniform(0.1, 0.4), green)


def _leaf(length: float, breadth: float, droop: float, green) -> None:
    """A leaf along +y from the origin: folded at its midrib, arching down."""

    def surface(u: float, v: float) -> Point:
        side = (u - 0.5) * 2
        half = breadth * length / 2 * math.sin(math.pi * v**0.75) ** 0.8 if 0 < v < 1 else 0.0
        fold = 0.22 * abs(side) * half + 0.012 * length * math.sin(14 * v) * abs(side)
        return (side * half, length * v * (1 - 0.2 * droop * v), fold - droop * length * v**2)

    sheet("leaf", surface, green, cells=(8, 16))


def framed_print(at: Point, width: float, height: float, drawn, frame) -> None:
    """A picture in a frame on the back wall; `at` is its middle, on the wall."""
    art = made_of.printed("print", pictures.to_blender("print", drawn))
    mount = made_of.solid("mount", (0.82, 0.81, 0.78), 0.9)
    with placed(at):
        edge = 0.018
        for x in (-width / 2, width / 2):
            box("frame", (edge, 0.022, height - edge), (x, -0.011, 0), frame, bevel=0.002)
        for z in (-height / 2, height / 2):
            box("frame", (width + edge, 0.022, edge), (0, -0.011, z), frame, bevel=0.002)
        box("mount", (width, 0.004, height), (0, -0.004, 0), mount, bevel=0)
        panel("print", width * 0.8, height * 0.8, (0, -0.0065, 0), art)


def rug(at: Point, size: tuple[float, float], material, turn: float = 0.0) -> None:
    def surface(u: float, v: float) -> Point:
        wave = 0.004 * math.sin(5 * u) * math.sin(4 * v)
        return ((u - 0.5) * size[0], (v - 0.5) * size[1], 0.006 + wave)

    sheet("rug", surface, material, cells=(30, 30), thick=0.01, at=at, turn=turn)


def socket(at: Point) -> None:
    """A double wall socket on the back wall."""
    white = made_of.solid("socket", (0.8, 0.8, 0.78), 0.3)
    dark = made_of.solid("socket holes", (0.05, 0.05, 0.05), 0.5)
    with placed(at):
        box("plate", (0.15, 0.01, 0.085), (0, -0.005, 0), white, bevel=0.004)
        for x in (-0.036, 0.036):
            with placed((x, -0.0105, 0), tilt=90):
                cylinder("well", 0.021, 0.001, (0, 0, 0), dark, bevel=0)
