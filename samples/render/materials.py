"""Procedural materials: wood, boards, plaster, cloth, plastic, metal, glass, leaves and printed pictures.

Patterns are worked out from the object's own coordinates, so that nothing needs unwrapping; colours are linear RGB.
"""

import bpy

Colour = tuple[float, float, float]


class Shader:
    """A material under construction: nodes are added with their inputs given by name, as values or as sockets."""

    def __init__(self, name: str, **inputs) -> None:
        self.material = bpy.data.materials.new(name)
        self.material.use_nodes = True
        self.tree = self.material.node_tree
        self.surface = self.tree.nodes["Principled BSDF"]
        self.set(self.surface, **inputs)

    def set(self, node, **inputs) -> None:
        """Base_Color is the input called "Base Color", _1 the second input."""
        for key, value in inputs.items():
            label = key.replace("_", " ")
            socket = node.inputs[label] if label in node.inputs else node.inputs[int(key[1:])]
            if isinstance(value, bpy.types.NodeSocket):
                self.tree.links.new(value, socket)
            elif isinstance(value, tuple) and len(value) == 3 and socket.type == "RGBA":
                socket.default_value = (*value, 1.0)
            else:
                socket.default_value = value

    def add(self, kind: str, settings: dict | None = None, **inputs):
        node = self.tree.nodes.new("ShaderNode" + kind)
        for key, value in (settings or {}).items():
            setattr(node, key, value)
        self.set(node, **inputs)
        return node

    def place(self, stretch: tuple[float, float, float] = (1, 1, 1)):
        """The object's coordinates, shifted differently for each object, then stretched."""
        chance = self.add("ObjectInfo").outputs["Random"]
        shift = self.add("VectorMath", {"operation": "SCALE"}, _0=(7.0, 13.0, 5.0), Scale=chance)
        own = self.add("TexCoord").outputs["Object"]
        moved = self.add("VectorMath", {"operation": "ADD"}, _0=own, _1=shift.outputs[0])
        return self.add("Mapping", Vector=moved.outputs[0], Scale=stretch).outputs[0]

    def noise(self, place, scale: float, detail: float = 4.0, roughness: float = 0.55, distortion: float = 0.0):
        inputs = {"Vector": place, "Scale": scale, "Detail": detail, "Roughness": roughness, "Distortion": distortion}
        return self.add("TexNoise", **inputs).outputs[0]

    def between(self, value, low: float, high: float, start: float = 0.3, end: float = 0.7):
        """`value`, which runs from start to end, brought to run from low to high."""
        inputs = {"Value": value, "From_Min": start, "From_Max": end, "To_Min": low, "To_Max": high}
        return self.add("MapRange", **inputs).outputs[0]

    def blend(self, amount, first, second, how: str = "MIX"):
        node = self.add("Mix", {"data_type": "RGBA", "blend_type": how})
        for index, value in ((0, amount), (6, first), (7, second)):
            self.set(node, **{f"_{index}": value})
        return node.outputs[2]

    def ramp(self, value, *stops: tuple[float, Colour]):
        node = self.add("ValToRGB", Fac=value)
        for _ in range(len(stops) - 2):
            node.color_ramp.elements.new(0.5)
        for element, (position, colour) in zip(node.color_ramp.elements, stops, strict=True):
            element.position, element.color = position, (*colour, 1.0)
        return node.outputs[0]

    def bumps(self, height, depth: float, strength: float = 1.0) -> None:
        """Let `height` (0 to 1) tilt the surface as if it were `depth` metres deep; calls add up."""
        before = self.surface.inputs["Normal"].links
        inputs = {"Height": height, "Distance": depth, "Strength": strength}
        if before:
            inputs["Normal"] = before[0].from_socket
        self.set(self.surface, Normal=self.add("Bump", **inputs).outputs[0])

    def mixture(self, amount, first, second):
        """The finished material: two surfaces mixed."""
        both = self.add("MixShader", _0=amount, _1=first.outputs[0], _2=second.outputs[0])
        self.tree.links.new(both.outputs[0], self.tree.nodes["Material Output"].inputs[0])
        return self.material


_STRETCH = {"x": (0.09, 1, 1), "y": (1, 0.09, 1), "z": (1, 1, 0.09)}


def _grain(shader: Shader, along: str, dark: Colour, light: Colour, place=None):
    """Wood grain running along an axis: cathedral figure, fine fibres and pores."""
    at = shader.place(_STRETCH[along]) if place is None else place
    figure = shader.noise(at, 9.0, 3.0, 0.5, 1.2)
    rings = shader.add("Math", {"operation": "PINGPONG"}, _0=shader.between(figure, 0, 9, 0, 1), _1=1.0).outputs[0]
    fibre = shader.noise(at, 160.0, 6.0, 0.7)
    mixed = shader.blend(0.55, figure, rings)
    mixed = shader.blend(0.35, mixed, fibre)
    middle = tuple((a + b) / 2 for a, b in zip(dark, light, strict=True))
    colour = shader.ramp(mixed, (0.22, dark), (0.5, middle), (0.78, light))
    pores = shader.between(shader.noise(at, 420.0, 2.0), 0.55, 1.0, 0.32, 0.46)
    return shader.blend(1.0, colour, pores, "MULTIPLY"), fibre, pores


def wood(name: str, dark: Colour, light: Colour, along: str = "x", gloss: float = 0.4):
    shader = Shader(name, Specular_IOR_Level=0.4)
    colour, fibre, pores = _grain(shader, along, dark, light)
    tone = shader.between(shader.noise(shader.place(), 1.7, 2.0), 0.82, 1.12)
    shader.set(shader.surface, Base_Color=shader.blend(1.0, colour, tone, "MULTIPLY"))
    shader.set(shader.surface, Roughness=shader.between(fibre, gloss - 0.07, gloss + 0.12))
    shader.bumps(pores, 0.0004, 0.5)
    return shader.material


def floorboards(name: str, dark: Colour, light: Colour, width: float = 0.14, length: float = 1.6, along: str = "x"):
    """Boards laid in rows, each with a grain and a tone of its own, with thin gaps between."""
    shader = Shader(name, Specular_IOR_Level=0.35)
    own = shader.add("TexCoord").outputs["Object"]
    turned = shader.add("Mapping", Vector=own, Rotation=(0, 0, 0 if along == "x" else 1.5708)).outputs[0]
    rows = shader.add(
        "TexBrick", {"offset": 0.37, "offset_frequency": 2}, Vector=turned, Color1=(0, 0, 0), Color2=(1, 1, 1),
        Mortar=(0.5, 0.5, 0.5), Scale=1.0, Mortar_Size=0.0012, Mortar_Smooth=0.2, Brick_Width=length, Row_Height=width,
    )  # fmt: skip
    shift = shader.add("VectorMath", {"operation": "SCALE"}, _0=rows.outputs["Color"])
    shader.set(shift, Scale=23.0)
    moved = shader.add("VectorMath", {"operation": "ADD"}, _0=turned, _1=shift.outputs[0]).outputs[0]
    at = shader.add("Mapping", Vector=moved, Scale=_STRETCH["x"]).outputs[0]
    colour, fibre, _ = _grain(shader, "x", dark, light, at)
    toned = shader.blend(1.0, colour, shader.between(rows.outputs["Color"], 0.72, 1.18, 0, 1), "MULTIPLY")
    gap = rows.outputs["Fac"]
    shader.set(shader.surface, Base_Color=shader.blend(gap, toned, (0.03, 0.02, 0.015)))
    worn = shader.noise(own, 2.3, 5.0)
    shader.set(shader.surface, Roughness=shader.blend(0.5, shader.between(worn, 0.24, 0.5), fibre))
    shader.bumps(shader.between(gap, 1, 0, 0, 1), 0.0015)
    shader.bumps(fibre, 0.0002, 0.4)
    return shader.material


def plaster(name: str, colour: Colour, roller: float = 0.0008):
    """A painted wall: a roller's texture, and paint that did not dry quite evenly."""
    shader = Shader(name, Roughness=0.75, Specular_IOR_Level=0.25)
    at = shader.add("NewGeometry").outputs["Position"]  # the room's, so that a wall in pieces shows no seams
    uneven = shader.between(shader.noise(at, 0.9, 5.0), 0.93, 1.04)
    shader.set(shader.surface, Base_Color=shader.blend(1.0, colour, uneven, "MULTIPLY"))
    shader.bumps(shader.noise(at, 260.0, 3.0), roller, 0.6)
    shader.bumps(shader.noise(at, 3.0, 2.0), 0.004, 0.3)
    return shader.material


def cloth(name: str, colour: Colour, weave: float = 900.0, second: Colour | None = None):
    """A woven cloth; `second` is the colour of the threads that show in it."""
    shader = Shader(name, Roughness=0.9, Sheen_Weight=0.25, Specular_IOR_Level=0.2)
    at = shader.place()
    threads = [
        shader.add("TexWave", {"bands_direction": way}, Vector=at, Scale=weave / 20, Distortion=1.5).outputs[0]
        for way in ("X", "Y", "Z")
    ]
    weft = shader.blend(0.5, shader.blend(0.5, threads[0], threads[1]), threads[2])
    fleck = shader.between(shader.noise(at, weave / 5, 3.0), 0, 1, 0.35, 0.65)
    other = second or tuple(c * 0.72 for c in colour)
    worn = shader.between(shader.noise(at, 5.0, 4.0), 0.85, 1.08)
    woven = shader.blend(fleck, colour, other)
    shader.set(shader.surface, Base_Color=shader.blend(1.0, woven, worn, "MULTIPLY"))
    shader.bumps(weft, 0.0009, 0.5)
    shader.bumps(fleck, 0.0012, 0.5)
    shader.bumps(shader.noise(at, 9.0, 2.0), 0.012, 0.35)
    return shader.material


def sheer(name: str, colour: Colour, through: float = 0.45):
    """A thin cloth or a petal that lets light through."""
    shader = Shader(name, Roughness=0.8, Base_Color=colour, Specular_IOR_Level=0.2)
    lit = shader.add("BsdfTranslucent", Color=colour)
    return shader.mixture(through, shader.surface, lit)


def leaf(name: str, dark: Colour, light: Colour):
    """A glossy leaf, each a little different."""
    shader = Shader(name, Roughness=0.38, Specular_IOR_Level=0.45)
    chance = shader.add("ObjectInfo").outputs["Random"]
    mottle = shader.noise(shader.place(), 22.0, 4.0)
    colour = shader.blend(shader.blend(0.5, chance, shader.between(mottle, 0, 1)), dark, light)
    shader.set(shader.surface, Base_Color=colour)
    shader.bumps(mottle, 0.002, 0.4)
    lit = shader.add("BsdfTranslucent", Color=colour)
    return shader.mixture(0.22, shader.surface, lit)


def solid(name: str, colour: Colour, roughness: float = 0.4, metallic: float = 0.0, coat: float = 0.0, grain=0.0):
    """Plastic, lacquer, ceramic or metal: one colour with smudges in its gloss, and `grain` metres of fine texture."""
    shader = Shader(name, Base_Color=colour, Metallic=metallic, Coat_Weight=coat, Coat_Roughness=0.06)
    at = shader.place()
    smudged = shader.between(shader.noise(at, 11.0, 5.0), roughness * 0.82, min(1.0, roughness * 1.25))
    shader.set(shader.surface, Roughness=smudged)
    if grain:
        shader.bumps(shader.noise(at, 700.0, 2.0), grain, 0.6)
    return shader.material


def glass(name: str):
    """Thin clear glass: it reflects at its edges and lets the rest straight through, which spares tracing caustics."""
    shader = Shader(name)
    facing = shader.add("LayerWeight", Blend=0.22).outputs["Facing"]
    clear = shader.add("BsdfTransparent", Color=(0.95, 0.97, 0.96))
    mirror = shader.add("BsdfGlossy", Roughness=0.02)
    shine = shader.between(facing, 0.04, 0.6, 0, 1)
    return shader.mixture(shine, clear, mirror)


def glow(name: str, colour: Colour, strength: float):
    return Shader(name, Base_Color=colour, Emission_Color=colour, Emission_Strength=strength).material


def printed(name: str, picture: bpy.types.Image, roughness: float = 0.7, lit: float = 0.0):
    """A picture on paper, or on a screen that gives off light when `lit` is above 0."""
    shader = Shader(name, Roughness=roughness, Specular_IOR_Level=0.3)
    colour = shader.add("TexImage", {"image": picture, "interpolation": "Cubic"}).outputs["Color"]
    if lit:
        shader.set(shader.surface, Base_Color=(0.01, 0.01, 0.01), Emission_Color=colour, Emission_Strength=lit)
    else:
        shader.set(shader.surface, Base_Color=colour)
    return shader.material
