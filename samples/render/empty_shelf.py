"""A near miss: an empty bookcase against a wall, in a room that nobody has moved into yet."""

import random

import furniture
import materials as made_of
import room
from shapes import box, forget_everything

ROOM = room.Room(4.2, 4.4, 2.6, room.Window(middle=-1.7, width=1.6, sill=0.75))


def build(seed: int) -> None:
    rng = random.Random(seed)
    forget_everything()
    floor = made_of.floorboards("floor", (0.2, 0.11, 0.05), (0.48, 0.31, 0.17), width=0.12)
    room.build(ROOM, made_of.plaster("wall", (0.3, 0.36, 0.28)), floor)
    room.daylight(ROOM, rng, sky=120, sun=2.6, fill=22, sun_from=(-1.0, -0.75, 0.3))
    upright, across = (made_of.wood("bookcase", (0.3, 0.17, 0.08), (0.58, 0.39, 0.22), along=way) for way in "zx")
    back = made_of.wood("bookcase back", (0.36, 0.22, 0.11), (0.6, 0.42, 0.25), along="z")
    furniture.bookcase((0.12, -0.17, 0), 0.95, 0.3, 2.02, 5, upright, across, back)
    furniture.socket((1.05, 0.0, 0.3))
    white = made_of.solid("switch", (0.8, 0.8, 0.78), 0.3)
    box("switch", (0.085, 0.01, 0.085), (1.25, -0.005, 1.15), white, bevel=0.004)
    box("rocker", (0.035, 0.008, 0.055), (1.25, -0.012, 1.15), white, bevel=0.002)


def landscape_view() -> tuple[int, int]:
    room.camera((0.6, -2.72, 1.36), (0.12, -0.2, 1.01), 26, (0.12, -0.3, 1.1), 3.5, roll=0.5)
    return 1600, 1200
