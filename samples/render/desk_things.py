"""What stands on a desk: monitor, keyboard, mouse, lamp, mug, pens, papers, notebook, headphones."""

import math
import random

import materials as made_of
import pictures
from shapes import Point, box, cushion, cylinder, lathe, panel, placed, sheet, tube

BLACK = (0.012, 0.012, 0.013)
ALUMINIUM = (0.62, 0.62, 0.64)


def monitor(at: Point, turn: float, rng: random.Random, width: float = 0.61) -> None:
    """A 16:9 screen on a stand; `at` is the middle of the foot."""
    shell = made_of.solid("monitor shell", BLACK, 0.42, grain=0.0002)
    metal = made_of.solid("monitor stand", (0.3, 0.3, 0.31), 0.35, metallic=1.0)
    lit = made_of.printed("screen", pictures.to_blender("screen", pictures.desktop(rng)), roughness=0.28, lit=1.1)
    height = width * 9 / 16
    with placed(at, turn):
        box("foot", (0.26, 0.2, 0.008), (0, 0.0, 0.004), metal, bevel=0.004)
        box("neck", (0.055, 0.022, 0.3), (0, 0.06, 0.15), metal, bevel=0.006)
        with placed((0, 0.03, 0.12 + height / 2), tilt=-4):
            box("shell", (width + 0.014, 0.022, height + 0.02), (0, 0, -0.003), shell, bevel=0.005)
            box("back", (width * 0.6, 0.03, height * 0.6), (0, 0.02, 0), shell, bevel=0.012)
            panel("screen", width, height, (0, -0.0118, 0), lit)
            cylinder("light", 0.0018, 0.001, (width * 0.47, -0.0125, -height / 2 - 0.006), metal)


def laptop(at: Point, turn: float, rng: random.Random) -> None:
    body = made_of.solid("laptop", ALUMINIUM, 0.38, metallic=1.0)
    keys = made_of.solid("laptop keys", BLACK, 0.5)
    lit = made_of.printed("laptop screen", pictures.to_blender("laptop", pictures.desktop(rng)), 0.25, lit=0.9)
    with placed(at, turn):
        box("base", (0.32, 0.22, 0.014), (0, 0, 0.009), body, bevel=0.005)
        box("keys", (0.28, 0.1, 0.002), (0, 0.035, 0.0158), keys, bevel=0.0008)
        box("touchpad", (0.11, 0.068, 0.0006), (0, -0.066, 0.0161), body, bevel=0)
        with placed((0, 0.112, 0.016), tilt=-18):
            box("lid", (0.32, 0.006, 0.215), (0, 0.004, 0.1075), body, bevel=0.002)
            box("bezel", (0.312, 0.002, 0.207), (0, 0.0004, 0.1075), keys, bevel=0)
            panel("screen", 0.296, 0.185, (0, -0.0008, 0.11), lit)


def keyboard(at: Point, turn: float, light: bool = False) -> None:
    """Five rows of separate keys in a low case."""
    case = made_of.solid("keyboard case", ALUMINIUM if light else (0.03, 0.03, 0.032), 0.4, metallic=0.6)
    cap = made_of.solid("keys", (0.72, 0.72, 0.7) if light else (0.035, 0.036, 0.04), 0.5, grain=0.0001)
    special = made_of.solid("other keys", (0.45, 0.46, 0.48) if light else (0.09, 0.09, 0.095), 0.5)
    accent = made_of.solid("accent key", (0.5, 0.11, 0.05), 0.5)
    unit = 0.019
    rows = ([1.0] * 13 + [2.0], [1.5] + [1.0] * 12 + [1.5], [1.75] + [1.0] * 11 + [2.25], [2.25] + [1.0] * 10 + [2.75],
            [1.25, 1.25, 1.25, 6.25, 1.25, 1.25, 1.25, 1.25])  # fmt: skip
    with placed(at, turn, tilt=3.5):
        box("case", (15.7 * unit, 5.7 * unit, 0.014), (0, 0, 0.011), case, bevel=0.005)
        for row, sizes in enumerate(rows):
            x = -7.5 * unit
            for index, size in enumerate(sizes):
                plain = size == 1.0 or size == 6.25
                colour = accent if (row, index) in ((0, 0), (2, 12)) else cap if plain else special
                middle = (x + size * unit / 2, (2 - row) * unit, 0.0215)
                box("key", (size * unit - 0.0026, unit - 0.0026, 0.0085), middle, colour, bevel=0.0022)
                x += size * unit


def mouse(at: Point, turn: float, pad: bool = True) -> None:
    shell = made_of.solid("mouse", (0.03, 0.03, 0.032), 0.38, grain=0.0001)
    dark = made_of.solid("mouse wheel", (0.006, 0.006, 0.006), 0.6)
    with placed(at, turn):
        if pad:
            mat = made_of.cloth("mouse pad", (0.05, 0.055, 0.065))
            box("mouse pad", (0.25, 0.21, 0.003), (0.0, -0.01, 0.0015), mat, bevel=0.001)

        def shape(u: float, v: float) -> Point:
            along, round_ = (v - 0.5) * 2, u * math.pi
            girth = (1 - abs(along) ** 2.6) ** 0.45
            height = 0.036 * girth * (1 - 0.22 * (along + 0.25) ** 2)
            return (0.031 * girth * math.cos(round_), 0.057 * along, 0.004 + height * math.sin(round_) ** 0.75)

        sheet("mouse", shape, shell, cells=(28, 36))
        with placed((0, 0.03, 0.0245), lean=90):
            cylinder("wheel", 0.008, 0.006, (0, 0, -0.003), dark)


def desk_lamp(at: Point, turn: float, colour=(0.02, 0.021, 0.022)) -> None:
    """A jointed lamp reaching along its own +x, its shade tipped downwards."""
    enamel = made_of.solid("lamp enamel", colour, 0.3, coat=0.5)
    brass = made_of.solid("lamp joints", (0.72, 0.5, 0.24), 0.3, metallic=1.0)
    warm = made_of.glow("lamp bulb", (1.0, 0.78, 0.5), 9.0)
    elbow, wrist = (-0.12, 0, 0.36), (0.16, 0, 0.5)
    with placed(at, turn):
        foot = [(0, 0), (0.085, 0), (0.088, 0.006), (0.085, 0.016), (0.02, 0.022), (0, 0.022)]
        lathe("base", foot, (0, 0, 0), enamel)
        for side in (-0.008, 0.008):
            tube("lower arm", [(0, side, 0.02), (elbow[0], side, elbow[2])], 0.0045, enamel, bent=False)
            tube("upper arm", [(elbow[0], side, elbow[2]), (wrist[0], side, wrist[2])], 0.0045, enamel, bent=False)
        for joint in ((0, 0, 0.025), elbow, wrist):
            with placed(joint, tilt=90):
                cylinder("joint", 0.014, 0.034, (0, 0, -0.017), brass)
        with placed(wrist, lean=-28):
            outside = [(0.02, 0.03), (0.026, 0.0), (0.034, -0.03), (0.08, -0.115)]
            lathe("shade", [*outside, (0.077, -0.115), (0.031, -0.03), (0, -0.01)], (0, 0, 0), enamel)
            lathe("bulb", [(0, -0.04), (0.018, -0.045), (0.028, -0.075), (0.018, -0.1), (0, -0.105)], (0, 0, 0), warm)


def mug(at: Point, turn: float, colour: Point, drink: Point | None = (0.035, 0.016, 0.007)) -> None:
    glaze = made_of.solid("mug", colour, 0.22, coat=0.6)
    wall = [(0, 0.003), (0.03, 0.0), (0.038, 0.004), (0.041, 0.03), (0.041, 0.09), (0.0405, 0.0945), (0.038, 0.094)]
    with placed(at, turn):
        lathe("mug", [*wall, (0.037, 0.05), (0.036, 0.012), (0, 0.01)], (0, 0, 0), glaze)
        tube("handle", [(0.038, 0, 0.078), (0.066, 0, 0.07), (0.067, 0, 0.036), (0.038, 0, 0.022)], 0.0055, glaze)
        if drink:
            cylinder("drink", 0.037, 0.002, (0, 0, 0.076), made_of.solid("drink", drink, 0.08), bevel=0)


def pen(at: Point, turn: float, colour: Point, tilt: float = 90.0) -> None:
    body = made_of.solid("pen", colour, 0.35)
    with placed(at, turn, tilt=tilt):
        cylinder("barrel", 0.0045, 0.125, (0, 0, 0), body)
        cylinder("tip", 0.0025, 0.012, (0, 0, -0.01), made_of.solid("tip", (0.5, 0.5, 0.5), 0.3, metallic=1.0))


def pen_pot(at: Point, rng: random.Random) -> None:
    pot = made_of.solid("pot", (0.55, 0.5, 0.43), 0.7, grain=0.0005)
    with placed(at):
        profile = [(0, 0), (0.038, 0), (0.04, 0.003), (0.04, 0.1), (0.037, 0.1), (0.037, 0.008), (0, 0.006)]
        lathe("pot", profile, (0, 0, 0), pot, round_off=0)
        for colour in ((0.5, 0.05, 0.04), (0.02, 0.02, 0.02), (0.03, 0.09, 0.3), (0.75, 0.5, 0.06), (0.6, 0.6, 0.6)):
            spot = (rng.uniform(-0.014, 0.014), rng.uniform(-0.014, 0.014), 0.012)
            pen(spot, rng.uniform(0, 360), colour, tilt=rng.uniform(4, 12))


def paper(at: Point, turn: float, rng: random.Random, heading: str = "Plan", curl: float = 0.006) -> None:
    """A printed A4 sheet, its corners lifting a little."""
    ink = made_of.printed("paper", pictures.to_blender("paper", pictures.page(rng, heading)))

    def surface(u: float, v: float) -> Point:
        lift = curl * (abs(u - 0.5) * 2) ** 4 * (abs(v - 0.5) * 2) ** 3 * (1 + u)
        return ((u - 0.5) * 0.21, (v - 0.5) * 0.297, 0.0006 + lift)

    sheet("paper", surface, ink, at=at, turn=turn)


def notebook(at: Point, turn: float, colour: Point) -> None:
    cover = made_of.solid("notebook", colour, 0.6, grain=0.0004)
    pages = made_of.solid("pages", (0.75, 0.72, 0.64), 0.8)
    with placed(at, turn):
        box("pages", (0.143, 0.206, 0.013), (0.001, 0, 0.008), pages, bevel=0.001)
        for z in (0.0008, 0.0155):
            box("cover", (0.149, 0.212, 0.0016), (0, 0, z), cover, bevel=0.0007)
        box("band", (0.005, 0.2125, 0.0178), (0.058, 0, 0.0081), made_of.solid("band", BLACK, 0.8), bevel=0.0005)


def phone(at: Point, turn: float) -> None:
    glassy = made_of.solid("phone", (0.006, 0.006, 0.007), 0.08, coat=1.0)
    box("phone", (0.072, 0.148, 0.008), (at[0], at[1], at[2] + 0.004), glassy, bevel=0.0038, turn=turn)


def headphones(at: Point, turn: float) -> None:
    """Over-ear headphones lying on their side."""
    black = made_of.solid("headphones", (0.02, 0.02, 0.021), 0.45, grain=0.0002)
    pad = made_of.solid("ear pads", (0.015, 0.014, 0.013), 0.7, grain=0.0004)
    with placed(at, turn):
        arch = [(0.085 * math.cos(a), 0.1 * math.sin(a), 0.03) for a in (0.1, 0.8, math.pi / 2, 2.34, 3.04)]
        tube("band", arch, 0.008, black)
        for side in (-1, 1):
            with placed((side * 0.082, -0.015, 0.036), lean=side * 78):
                cylinder("cup", 0.036, 0.022, (0, 0, 0), black, bevel=0.008)
                cushion("pad", (0.085, 0.085, 0.03), (0, 0, -0.012), pad)
