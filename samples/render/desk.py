"""A home workspace: a wooden desk under a shelf, with a monitor, a laptop and what collects around them."""

import random

import desk_things as things
import furniture
import materials as made_of
import pictures
import room
from shapes import box, forget_everything, tube

ROOM = room.Room(4.4, 4.2, 2.6, room.Window(middle=-1.25, width=1.5))


def build(seed: int) -> None:
    rng = random.Random(seed)
    forget_everything()
    floor = made_of.floorboards("floor", (0.12, 0.06, 0.028), (0.36, 0.21, 0.11))
    oak = made_of.wood("oak", (0.24, 0.125, 0.055), (0.5, 0.31, 0.16))
    room.build(ROOM, made_of.plaster("wall", (0.7, 0.68, 0.63)), floor)
    room.curtain(ROOM, -0.35, 0.42, made_of.sheer("linen", (0.72, 0.68, 0.6)))
    room.daylight(ROOM, rng, sky=95, sun=3.0, fill=24, sun_from=(-1.0, -0.5, 0.4))

    black = made_of.solid("steel", (0.02, 0.02, 0.021), 0.5, grain=0.0003)
    white = made_of.solid("drawer fronts", (0.74, 0.73, 0.7), 0.45)
    top = 0.74
    furniture.desk((0, -0.42, 0), 1.6, 0.75, top, oak, black, white)
    _on_the_desk(top, rng)
    _on_the_wall(rng, oak, black)
    furniture.rug((0.0, -1.25, 0), (2.3, 1.5), made_of.cloth("rug", (0.42, 0.4, 0.36), 320, (0.2, 0.22, 0.25)), 4)
    furniture.office_chair((-0.5, -1.2, 0.012), -28, made_of.cloth("chair", (0.05, 0.056, 0.066)))
    furniture.plant((1.55, -0.42, 0), rng, size=2.3, stems=16, pot=(0.6, 0.58, 0.54))


def _on_the_desk(top: float, rng: random.Random) -> None:
    things.monitor((0.02, -0.27, top), -3, rng)
    things.keyboard((0.0, -0.57, top), 2)
    things.mouse((0.3, -0.58, top), -8)
    things.laptop((-0.45, -0.38, top), 20, rng)
    things.desk_lamp((0.58, -0.2, top), 200)
    things.mug((-0.27, -0.63, top), 130, (0.62, 0.6, 0.55))
    things.pen_pot((0.68, -0.33, top), rng)
    things.paper((0.6, -0.58, top), -14, rng, "Garden house")
    things.paper((0.57, -0.6, top + 0.001), 6, rng, "Order of work")
    things.notebook((-0.56, -0.63, top), 14, (0.05, 0.09, 0.085))
    things.pen((-0.52, -0.57, top + 0.022), 40, (0.02, 0.02, 0.022))
    things.phone((0.46, -0.7, top), 24)
    pile = furniture.books_flat((-0.69, -0.2, top), 3, rng, turn=84)
    furniture.plant((-0.69, -0.2, top + pile), rng, size=0.5, stems=8, pot=(0.7, 0.68, 0.64))
    black = made_of.solid("cable", (0.01, 0.01, 0.01), 0.5)
    tube("cable", [(0.03, -0.2, top + 0.08), (0.1, -0.08, top + 0.01), (0.14, -0.03, top - 0.2),
                   (0.3, -0.02, 0.35), (0.42, -0.02, 0.3)], 0.0032, black)  # fmt: skip


def _on_the_wall(rng: random.Random, oak, black) -> None:
    box("wall shelf", (1.15, 0.2, 0.026), (0.34, -0.1, 1.62), oak, bevel=0.003)
    for x in (-0.1, 0.78):
        box("bracket", (0.02, 0.16, 0.012), (x, -0.09, 1.6), black)
        box("bracket", (0.02, 0.012, 0.12), (x, -0.008, 1.55), black)
    furniture.books_upright((-0.16, -0.18, 1.633), 13, rng)
    furniture.plant((0.74, -0.1, 1.633), rng, size=0.62, stems=11)
    art = pictures.shapes_print(rng, (232, 224, 208), [(196, 110, 76), (70, 96, 92), (216, 170, 96), (58, 62, 80)])
    furniture.framed_print((-0.82, -0.001, 1.6), 0.46, 0.62, art, black)
    furniture.socket((0.45, 0.0, 0.3))


def landscape_view() -> tuple[int, int]:
    room.camera((0.85, -2.75, 1.5), (-0.02, -0.3, 0.86), 29, (0.0, -0.5, 0.9), 3.2, roll=0.6)
    return 1600, 1200


def portrait_view() -> tuple[int, int]:
    room.camera((1.0, -1.95, 1.5), (0.02, -0.38, 0.84), 26, (0.05, -0.45, 0.85), 3.5, roll=-0.8)
    return 1200, 1600
