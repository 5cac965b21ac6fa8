"""What stands on and about a dining table: plates, glasses, cutlery, food, flowers, a lamp above, cupboards."""

import math
import random

import materials as made_of
from shapes import Point, box, cylinder, lathe, placed, sheet, tube

STEEL = (0.6, 0.6, 0.61)


def plate(at: Point, radius: float, glaze) -> None:
    rim, well = radius, radius * 0.66
    profile = [(0, 0.0), (well, 0.0), (well + 0.004, 0.003), (rim, 0.019), (rim, 0.021), (well, 0.006), (0, 0.0045)]
    lathe("plate", profile, at, glaze, steps=80)


def bowl(at: Point, radius: float, height: float, glaze) -> None:
    outer = [(0, 0), (radius * 0.4, 0), (radius * 0.45, 0.006), (radius * 0.85, height * 0.5), (radius, height)]
    inner = [(radius * 0.975, height), (radius * 0.82, height * 0.5), (radius * 0.4, 0.012), (0, 0.01)]
    lathe("bowl", outer + inner, at, glaze)


def tumbler(at: Point, clear, water: float = 0.0) -> None:
    profile = [(0, 0), (0.028, 0), (0.03, 0.003), (0.036, 0.1), (0.0345, 0.1), (0.029, 0.01), (0, 0.009)]
    lathe("tumbler", profile, at, clear)
    if water:
        shape = [(0, 0.0095), (0.0285, 0.0105), (0.0285 + 0.055 * water, water), (0, water)]
        lathe("water", shape, at, clear, round_off=0)


def wine_glass(at: Point, clear) -> None:
    foot = [(0, 0), (0.034, 0.0), (0.034, 0.002), (0.006, 0.006), (0.004, 0.02), (0.004, 0.085), (0.012, 0.095)]
    cup = [(0.036, 0.125), (0.039, 0.15), (0.033, 0.205), (0.032, 0.205), (0.0378, 0.15), (0.0345, 0.126), (0, 0.098)]
    lathe("wine glass", foot + cup, at, clear)


def knife(at: Point, turn: float, metal) -> None:
    with placed(at, turn):
        box("handle", (0.016, 0.095, 0.006), (0, -0.055, 0.004), metal, bevel=0.0028)

        def blade(u: float, v: float) -> Point:
            wide = 0.018 * (1 - max(0.0, v - 0.75) ** 2 * 9)
            return (-0.008 + wide * u, v * 0.115 - 0.008, 0.004)

        sheet("blade", blade, metal, cells=(4, 16), thick=0.0016)


def fork(at: Point, turn: float, metal) -> None:
    with placed(at, turn):

        def shaft(u: float, v: float) -> Point:
            wide = 0.014 - 0.008 * math.sin(math.pi * min(1.0, v * 1.1)) + 0.008 * max(0.0, v - 0.8) * 5
            return ((u - 0.5) * wide, -0.1 + v * 0.15, 0.004 + 0.008 * math.sin(v * math.pi) ** 2)

        sheet("shaft", shaft, metal, cells=(4, 20), thick=0.002)
        for prong in range(4):
            x = (prong - 1.5) * 0.0058
            tube("prong", [(x, 0.048, 0.004), (x, 0.07, 0.0035), (x, 0.092, 0.008)], 0.0015, metal)


def place_setting(at: Point, turn: float, rng: random.Random, kit: dict, full: bool = True) -> None:
    """A place facing +y: mat, plates, napkin, cutlery and glasses."""
    with placed(at, turn + rng.uniform(-3, 3)):
        box("place mat", (0.44, 0.31, 0.003), (0, 0, 0.0015), kit["mat"], bevel=0.001)
        plate((0, 0, 0.003), 0.135, kit["plate"])
        plate((0.002, 0.001, 0.0105), 0.1, kit["small plate"])
        if full:
            bowl((0.0, 0.0, 0.018), 0.075, 0.052, kit["plate"])
        fork((-0.175, 0.0, 0.003), rng.uniform(-3, 3), kit["steel"])
        knife((0.175, 0.0, 0.003), rng.uniform(-3, 3), kit["steel"])
        napkin((-0.215, -0.01, 0.003), kit["napkin"], rng)
        wine_glass((0.13, 0.185, 0), kit["glass"])
        tumbler((0.215, 0.155, 0), kit["glass"], water=0.07)


def napkin(at: Point, material, rng: random.Random) -> None:
    phase = rng.uniform(0, 6)

    def surface(u: float, v: float) -> Point:
        return ((u - 0.5) * 0.085, (v - 0.5) * 0.2, 0.004 + 0.003 * math.sin(5 * u + phase) * math.sin(3 * v + phase))

    sheet("napkin", surface, material, cells=(12, 20), thick=0.004, at=at, turn=rng.uniform(-5, 5))


def fruit_bowl(at: Point, rng: random.Random, glaze) -> None:
    bowl(at, 0.15, 0.075, glaze)
    skins = [
        made_of.solid("apple", (0.42, 0.03, 0.02), 0.3, coat=0.3), made_of.solid("green apple", (0.3, 0.42, 0.06), 0.3),
        made_of.solid("orange", (0.75, 0.26, 0.02), 0.5, grain=0.002), made_of.solid("lemon", (0.8, 0.6, 0.05), 0.45),
    ]  # fmt: skip
    for index in range(9):
        way, low = index * 1.05, index < 6
        out, up = (0.082, 0.062) if low else (0.036, 0.108)
        size = rng.uniform(0.034, 0.04)
        profile = [(0, -0.8), (0.5, -0.95), (0.92, -0.5), (1.0, 0.15), (0.7, 0.8), (0.25, 0.88), (0, 0.72)]
        spot = (at[0] + out * math.cos(way), at[1] + out * math.sin(way), at[2] + up)
        with placed(spot, turn=rng.uniform(0, 360), tilt=rng.uniform(-35, 35)):
            lathe("fruit", [(r * size, z * size) for r, z in profile], (0, 0, 0), rng.choice(skins), 24, 2)


def flowers(at: Point, rng: random.Random) -> None:
    """A jug of flowers."""
    glaze = made_of.solid("jug", (0.72, 0.7, 0.66), 0.3, coat=0.4)
    outer = [(0, 0), (0.045, 0), (0.062, 0.03), (0.066, 0.08), (0.042, 0.15), (0.044, 0.18), (0.052, 0.2)]
    lathe("jug", [*outer, (0.049, 0.2), (0.039, 0.16), (0.06, 0.08), (0, 0.02)], at, glaze)
    stalk = made_of.solid("stalk", (0.05, 0.13, 0.03), 0.6)
    green = made_of.leaf("leaf", (0.02, 0.08, 0.02), (0.08, 0.22, 0.05))
    colours = ((0.8, 0.74, 0.62), (0.75, 0.3, 0.28), (0.78, 0.55, 0.2))
    petals = [made_of.sheer("petal", colour, 0.3) for colour in colours]
    heart = made_of.solid("heart", (0.4, 0.2, 0.03), 0.9, grain=0.004)
    with placed(at):
        for index in range(15):
            way, out = index * 2.4, 0.03 + 0.12 * rng.random()
            tip = (out * math.cos(way), out * math.sin(way), 0.42 - out * 0.9 + rng.uniform(-0.03, 0.03))
            tube("stalk", [(0, 0, 0.12), (tip[0] * 0.35, tip[1] * 0.35, 0.26), tip], 0.002, stalk)
            with placed(tip, turn=math.degrees(way), lean=rng.uniform(15, 45)):
                if index % 3:
                    _bloom(rng, rng.choice(petals), heart)
                else:
                    _sprig(rng, green)


def _bloom(rng: random.Random, petal, heart) -> None:
    size = rng.uniform(0.024, 0.036)
    lathe("heart", [(0, 0.006), (0.007, 0.004), (0.006, -0.002), (0, -0.003)], (0, 0, 0), heart, 16)
    for ring, count in ((0, 9), (1, 7)):
        for step in range(count):

            def surface(u: float, v: float, ring=ring) -> Point:
                side = (u - 0.5) * size * 0.75 * math.sin(math.pi * min(0.96, v * 0.8 + 0.15))
                return (side, size * v * (1 - 0.25 * ring), size * (0.3 + 0.35 * ring) * v * v)

            with placed((0, 0, 0), turn=step * 360 / count + ring * 20):
                sheet("petal", surface, petal, cells=(4, 6))


def _sprig(rng: random.Random, green) -> None:
    for step in range(6):

        def surface(u: float, v: float) -> Point:
            return ((u - 0.5) * 0.024 * math.sin(math.pi * v), 0.055 * v, 0.012 * v * (1 - v) + 0.004 * abs(u - 0.5))

        with placed((0, 0, -0.018 * step), turn=step * 137, tilt=rng.uniform(0, 35)):
            sheet("leaf", surface, green, cells=(4, 8))


def bottle(at: Point, colour: Point, label: Point) -> None:
    """A bottle of wine."""
    dark = made_of.solid("bottle", colour, 0.06, coat=0.6)
    body = [(0, 0), (0.034, 0), (0.037, 0.004), (0.037, 0.18), (0.03, 0.205)]
    lathe("bottle", [*body, (0.014, 0.23), (0.0135, 0.295), (0, 0.296)], at, dark)
    band = [(0.0376, 0.06), (0.0376, 0.14)]
    lathe("label", band, at, made_of.solid("label", label, 0.8), round_off=0)


def candle(at: Point, tall: float) -> None:
    brass = made_of.solid("candlestick", (0.7, 0.5, 0.25), 0.3, metallic=1.0)
    wax = made_of.solid("candle", (0.75, 0.7, 0.6), 0.55)
    stick = [(0, 0), (0.042, 0), (0.042, 0.006), (0.008, 0.014), (0.006, 0.06), (0.014, 0.075), (0.014, 0.1), (0, 0.1)]
    lathe("candlestick", stick, at, brass)
    cylinder("candle", 0.0105, tall, (at[0], at[1], at[2] + 0.095), wax, bevel=0.004)
    x, y, z = at[0], at[1], at[2] + 0.095 + tall
    tube("wick", [(x, y, z), (x + 0.002, y, z + 0.009)], 0.0008, made_of.solid("wick", (0.02, 0.02, 0.02), 0.9))


def salad(at: Point, rng: random.Random, glaze) -> None:
    """A bowl of leaves and tomatoes."""
    bowl(at, 0.13, 0.08, glaze)
    lettuce = made_of.leaf("lettuce", (0.05, 0.16, 0.02), (0.2, 0.42, 0.07))
    greens = [lettuce, made_of.leaf("radicchio", (0.1, 0.02, 0.04), (0.3, 0.4, 0.1))]
    red = made_of.solid("tomato", (0.5, 0.03, 0.015), 0.25, coat=0.4)
    for index in range(46):
        way, out = index * 2.4, 0.105 * math.sqrt(rng.random())
        spot = (at[0] + out * math.cos(way), at[1] + out * math.sin(way), at[2] + 0.1 - 2.6 * out * out)
        if index % 6 == 0:
            lathe("tomato", [(0, -0.016), (0.015, -0.008), (0.015, 0.008), (0, 0.016)], spot, red, 20, 2)
            continue
        wide, long, wave = rng.uniform(0.03, 0.05), rng.uniform(0.05, 0.08), rng.uniform(0, 6)

        def surface(u: float, v: float, wide=wide, long=long, wave=wave) -> Point:
            across = (u - 0.5) * wide * math.sin(math.pi * min(0.97, v + 0.03)) ** 0.6
            return (across, (v - 0.5) * long, 0.007 * math.sin(8 * v + wave) * math.cos(9 * u + wave))

        with placed(spot, turn=rng.uniform(0, 360), tilt=rng.uniform(-50, 50), lean=rng.uniform(-30, 30)):
            sheet("salad leaf", surface, rng.choice(greens), cells=(6, 8))


def pendant(at: Point, ceiling: float, colour: Point) -> None:
    """A hanging lamp, `at` being the middle of its rim."""
    enamel = made_of.solid("pendant", colour, 0.35, coat=0.4)
    dark = made_of.solid("flex", (0.02, 0.02, 0.02), 0.6)
    warm = made_of.glow("bulb", (1.0, 0.76, 0.48), 14.0)
    dome = [(0.2, 0.0), (0.19, 0.05), (0.14, 0.12), (0.06, 0.17), (0.025, 0.19), (0.025, 0.24), (0, 0.24)]
    lathe("pendant", [*dome[:-1], (0.02, 0.235), (0.02, 0.185), (0.135, 0.115), (0.186, 0.045), (0.197, 0)], at, enamel)
    lathe("bulb", [(0, 0.13), (0.02, 0.12), (0.034, 0.08), (0.02, 0.05), (0, 0.046)], at, warm)
    tube("flex", [(at[0], at[1], at[2] + 0.23), (at[0], at[1], ceiling)], 0.004, dark, bent=False)


def cupboards(start: float, widths: list[float], depth: float, low: float, high: float, front, grip) -> None:
    """Cupboards along the back wall from x = start, one door to each width, from `low` to `high`."""
    x, gap = start, 0.004
    middle = (x + sum(widths) / 2, -depth / 2 + 0.01, (low + high) / 2)
    box("carcass", (sum(widths), depth - 0.02, high - low), middle, front)
    for index, width in enumerate(widths):
        middle, tall = x + width / 2, high - low - 2 * gap
        box("door", (width - gap, 0.02, tall), (middle, -depth, (low + high) / 2), front, bevel=0.002)
        rail = 0.06
        for side in (-1, 1):
            across = (middle + side * (width / 2 - rail / 2 - gap / 2), -depth - 0.012, (low + high) / 2)
            box("stile", (rail, 0.008, tall), across, front, bevel=0.002)
            up = (middle, -depth - 0.012, (low + high) / 2 + side * (tall / 2 - rail / 2))
            box("rail", (width - 2 * rail, 0.008, rail), up, front, bevel=0.002)
        hand = middle + (width / 2 - 0.03) * (1 if index % 2 == 0 else -1)
        z = high - 0.16 if low < 0.5 else low + 0.12
        tube("handle", [(hand, -depth - 0.035, z - 0.06), (hand, -depth - 0.035, z + 0.06)], 0.005, grip, bent=False)
        x += width
