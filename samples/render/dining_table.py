"""A near miss: a dining table laid for a meal, its chairs around it, in a dining room."""

import random

import furniture
import materials as made_of
import pictures
import room
import table_things as things
from shapes import box, cylinder, forget_everything, leg, placed

ROOM = room.Room(5.0, 5.6, 2.6, room.Window(middle=-2.3, width=2.1, sill=0.8, panes=3))
TABLE = (0.0, -2.2)


def build(seed: int) -> None:
    rng = random.Random(seed)
    forget_everything()
    floor = made_of.floorboards("floor", (0.3, 0.19, 0.1), (0.58, 0.42, 0.27), width=0.17, along="y")
    room.build(ROOM, made_of.plaster("wall", (0.74, 0.71, 0.65)), floor)
    room.curtain(ROOM, -1.02, 0.4, made_of.sheer("linen", (0.75, 0.72, 0.66)))
    room.daylight(ROOM, rng, sky=170, sun=4.0, fill=40, sun_from=(-1.0, 0.12, 0.62))
    _against_the_wall(rng)
    _table(rng)
    things.pendant((TABLE[0], TABLE[1], 1.55), ROOM.height, (0.6, 0.56, 0.48))
    red = made_of.cloth("rug", (0.35, 0.12, 0.08), 300, (0.12, 0.07, 0.08))
    furniture.rug((TABLE[0], TABLE[1], 0), (3.0, 2.1), red)


def _table(rng: random.Random) -> None:
    ash = made_of.wood("table", (0.2, 0.1, 0.045), (0.44, 0.26, 0.13))
    chair = made_of.wood("chair", (0.2, 0.1, 0.045), (0.4, 0.235, 0.12), along="z")
    pad = made_of.cloth("seat", (0.4, 0.38, 0.33))
    x, y = TABLE
    width, deep, high = 1.9, 0.95, 0.75
    box("table top", (width, deep, 0.035), (x, y, high - 0.0175), ash, bevel=0.008)
    box("apron", (width - 0.24, 0.02, 0.08), (x, y - deep / 2 + 0.09, high - 0.075), ash)
    box("apron", (width - 0.24, 0.02, 0.08), (x, y + deep / 2 - 0.09, high - 0.075), ash)
    for way in (-1, 1):
        box("apron", (0.02, deep - 0.2, 0.08), (x + way * (width / 2 - 0.11), y, high - 0.075), ash)
        for side in (-1, 1):
            upper = (x + way * (width / 2 - 0.1), y + side * (deep / 2 - 0.1), high - 0.035)
            lower = (x + way * (width / 2 - 0.07), y + side * (deep / 2 - 0.07), 0)
            leg("table leg", upper, lower, (0.075, 0.045), chair)
    kit = {
        "plate": made_of.solid("plate", (0.74, 0.73, 0.7), 0.18, coat=0.5),
        "small plate": made_of.solid("small plate", (0.3, 0.4, 0.42), 0.25, coat=0.4),
        "steel": made_of.solid("cutlery", things.STEEL, 0.2, metallic=1.0),
        "glass": made_of.glass("glass"),
        "mat": made_of.cloth("mat", (0.5, 0.45, 0.36), 500),
        "napkin": made_of.cloth("napkin", (0.25, 0.31, 0.33), 1200),
    }
    for across in (-0.48, 0.48):
        for side, turn in ((-1, 0), (1, 180)):
            things.place_setting((x + across, y + side * 0.29, high), turn, rng, kit)
            out = 0.62 + rng.uniform(0, 0.1) if side < 0 else 0.6
            spot = (x + across + rng.uniform(-0.04, 0.04), y + side * out, 0)
            furniture.dining_chair(spot, turn + rng.uniform(-9, 9), chair, pad)
    things.flowers((x - 0.02, y + 0.05, high), rng)
    things.fruit_bowl((x + 0.3, y - 0.02, high), rng, made_of.wood("bowl", (0.1, 0.045, 0.02), (0.25, 0.13, 0.06)))
    things.salad((x - 0.3, y - 0.02, high), rng, kit["plate"])
    things.bottle((x + 0.12, y + 0.14, high), (0.006, 0.014, 0.006), (0.72, 0.68, 0.58))
    things.candle((x + 0.1, y - 0.1, high), 0.2)
    things.candle((x - 0.14, y - 0.07, high), 0.16)


def _against_the_wall(rng: random.Random) -> None:
    """A dresser with crockery on its shelves, and a print beside it."""
    paint = made_of.solid("dresser", (0.2, 0.26, 0.24), 0.42)
    brass = made_of.solid("handles", (0.7, 0.5, 0.25), 0.3, metallic=1.0)
    oak = made_of.wood("dresser top", (0.2, 0.1, 0.045), (0.42, 0.25, 0.13))
    black = made_of.solid("frame", (0.02, 0.02, 0.021), 0.5)
    middle = 1.0
    things.cupboards(middle - 0.7, [0.7, 0.7], 0.42, 0.08, 0.84, paint, brass)
    box("dresser plinth", (1.34, 0.36, 0.08), (middle, -0.2, 0.04), paint)
    box("dresser top", (1.46, 0.46, 0.03), (middle, -0.23, 0.857), oak)
    for x in (middle - 0.66, middle + 0.66):
        box("dresser side", (0.025, 0.26, 1.1), (x, -0.13, 1.42), paint)
    box("dresser back", (1.32, 0.012, 1.1), (middle, -0.01, 1.42), paint, bevel=0)
    box("dresser cornice", (1.44, 0.32, 0.06), (middle, -0.15, 1.99), paint, bevel=0.012)
    for z in (1.22, 1.6):
        box("dresser shelf", (1.3, 0.24, 0.022), (middle, -0.13, z), paint)
    _crockery(middle, rng)
    art = pictures.landscape((600, 420), rng, (206, 214, 214), (226, 206, 178), (66, 84, 74))
    furniture.framed_print((-0.95, -0.001, 1.55), 0.95, 0.7, art, black)


def _crockery(middle: float, rng: random.Random) -> None:
    white = made_of.solid("crockery", (0.74, 0.72, 0.68), 0.25, coat=0.4)
    blue = made_of.solid("blue crockery", (0.1, 0.17, 0.24), 0.3, coat=0.4)
    for z in (1.232, 1.612):
        for place in range(5):
            with placed((middle - 0.5 + 0.25 * place, -0.075, z + 0.11), tilt=78):
                things.plate((0, 0, 0), 0.11, white if (place + round(z)) % 3 else blue)
    for place in range(4):
        for layer in range(rng.randint(2, 4)):
            spot = (middle - 0.48 + 0.2 * place, -0.27, 0.873 + 0.026 * layer)
            things.bowl(spot, 0.075, 0.055, blue if place == 2 else white)
    things.bottle((middle + 0.4, -0.2, 0.872), (0.006, 0.014, 0.006), (0.6, 0.2, 0.12))
    cylinder("jar", 0.06, 0.2, (middle + 0.54, -0.22, 0.872), white, bevel=0.012)


def landscape_view() -> tuple[int, int]:
    room.camera((2.1, -4.6, 1.5), (-0.2, -1.95, 0.8), 25, (0.2, -2.4, 0.8), 3.5, roll=-0.5)
    return 1600, 1200
