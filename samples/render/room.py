"""The room around each scene: floor, walls, a window with daylight, skirting, and the camera that takes the picture."""

import math
from dataclasses import dataclass

import bpy
import materials as made_of
import pictures
from mathutils import Matrix, Vector
from shapes import Point, box, panel, placed, sheet, tube


@dataclass(frozen=True)
class Window:
    """An opening in the left wall: where its middle is along y, its width, sill and head."""

    middle: float
    width: float = 1.5
    sill: float = 0.85
    head: float = 2.2
    panes: int = 2


@dataclass(frozen=True)
class Room:
    """The back wall stands at y = 0 and the room lies in front of it, towards -y; x = 0 is its middle."""

    width: float
    depth: float
    height: float
    window: Window


def build(room: Room, wall, floor) -> None:
    white = made_of.solid("paintwork", (0.8, 0.79, 0.76), 0.4)
    half, thick = room.width / 2, 0.2
    top = room.height
    box("floor", (room.width, room.depth, 0.1), (0, -room.depth / 2, -0.05), floor, bevel=0)
    box("ceiling", (room.width, room.depth, 0.1), (0, -room.depth / 2, top + 0.05), white, bevel=0)
    box("back wall", (room.width, thick, top), (0, thick / 2, top / 2), wall, bevel=0)
    box("front wall", (room.width, thick, top), (0, -room.depth - thick / 2, top / 2), wall, bevel=0)
    box("right wall", (thick, room.depth, top), (half + thick / 2, -room.depth / 2, top / 2), wall, bevel=0)
    _left_wall(room, wall, white, thick)
    for name, size, at in (
        ("back", (room.width, 0.018, 0.09), (0, -0.009, 0.045)),
        ("left", (0.018, room.depth, 0.09), (-half + 0.009, -room.depth / 2, 0.045)),
        ("right", (0.018, room.depth, 0.09), (half - 0.009, -room.depth / 2, 0.045)),
    ):
        box(f"{name} skirting", size, at, white, bevel=0.005)


def _left_wall(room: Room, wall, white, thick: float) -> None:
    """The wall in four pieces around the window's opening, the frame in it, the sill, and the view."""
    opening, x = room.window, -room.width / 2 - thick / 2
    near, far = opening.middle - opening.width / 2, opening.middle + opening.width / 2
    tall = opening.head - opening.sill
    centre = (opening.sill + opening.head) / 2
    pieces = (
        ((thick, -far, room.height), (far / 2, room.height / 2)),
        ((thick, room.depth + near, room.height), ((near - room.depth) / 2, room.height / 2)),
        ((thick, opening.width, opening.sill), (opening.middle, opening.sill / 2)),
        ((thick, opening.width, room.height - opening.head), (opening.middle, (room.height + opening.head) / 2)),
    )
    for size, (y, z) in pieces:
        box("left wall", size, (x, y, z), wall, bevel=0)
    box("sill", (thick + 0.08, opening.width + 0.1, 0.03), (x + 0.05, opening.middle, opening.sill), white)
    bar = 0.055
    for step in range(opening.panes + 1):
        y = near + bar / 2 + step * (opening.width - bar) / opening.panes
        box("upright", (0.06, bar, tall), (x, y, centre), white, bevel=0.006)
    for z in (opening.sill + bar / 2, opening.head - bar / 2, opening.sill + tall * 0.68):
        box("crossbar", (0.055, opening.width, bar), (x, opening.middle, z), white, bevel=0.006)
    for y in (near - 0.035, far + 0.035):
        box("casing", (0.02, 0.07, tall), (x + thick / 2 + 0.01, y, centre), white)
    above = (x + thick / 2 + 0.01, opening.middle, opening.head + 0.035)
    box("casing", (0.02, opening.width + 0.14, 0.07), above, white)


def curtain(room: Room, y: float, width: float, material, folds: int = 7) -> None:
    """A curtain hanging beside the window, from its rail nearly to the floor."""
    x, top = -room.width / 2 + 0.1, room.window.head + 0.14

    def surface(u: float, v: float) -> Point:
        wave = math.sin(u * folds * 2 * math.pi + 0.6 * math.sin(9 * u) + 0.5 * v)
        deep = (0.035 + 0.012 * math.sin(5 * u)) * (0.7 + 0.3 * v)
        return (x + deep * wave, y + (u - 0.5) * width * (0.92 + 0.1 * v), top - v * (top - 0.03))

    sheet("curtain", surface, material, cells=(folds * 16, 20), thick=0.002)
    rail = made_of.solid("rail", (0.05, 0.045, 0.04), 0.35, metallic=0.9)
    middle, reach = room.window.middle, room.window.width / 2 + 0.35
    tube("rail", [(x, middle - reach, top + 0.015), (x, middle + reach, top + 0.015)], 0.012, rail, bent=False)


def daylight(room: Room, rng, sky: float, sun: float, fill: float, sun_from: Point) -> None:
    """Sky light through the window, a low sun, and the weak light of the rest of the home behind the camera.

    Sky and fill are in watts, sun in watts per square metre; sun_from points at the sun from inside the room.
    """
    opening, x = room.window, -room.width / 2 - 0.25
    tall, centre = opening.head - opening.sill, (opening.sill + opening.head) / 2
    _area("sky", (tall, opening.width), (x, opening.middle, centre), (1, 0, -0.12), (0.86, 0.93, 1.0), sky)
    back = -room.depth + 0.1
    _area("rest of the home", (3.0, 1.8), (room.width * 0.2, back, 1.5), (-0.1, 1, 0.05), (1.0, 0.95, 0.9), fill)
    lamp = bpy.data.lights.new("sun", "SUN")
    lamp.energy, lamp.angle, lamp.color = sun, math.radians(1.2), (1.0, 0.86, 0.68)
    _hang("sun", lamp, (0, 0, 5), -Vector(sun_from))
    view = made_of.printed("view", pictures.to_blender("view", pictures.outdoors(rng)), lit=5.5)
    with placed((x - 1.6, opening.middle, centre), turn=90):
        behind = panel("view", 7.0, 5.0, (0, 0, 0), view)
    behind.visible_shadow = behind.visible_diffuse = False
    world = bpy.data.worlds.new("world")
    world.use_nodes = True
    world.node_tree.nodes["Background"].inputs[0].default_value = (0.02, 0.02, 0.02, 1)
    bpy.context.scene.world = world


def _hang(name: str, lamp: bpy.types.Light, at: Point, towards) -> bpy.types.Object:
    thing = bpy.data.objects.new(name, lamp)
    thing.location = at
    thing.rotation_euler = Vector(towards).to_track_quat("-Z", "Y").to_euler()
    bpy.context.scene.collection.objects.link(thing)
    return thing


def _area(name: str, size: tuple[float, float], at: Point, towards: Point, colour: Point, power: float) -> None:
    lamp = bpy.data.lights.new(name, "AREA")
    lamp.shape, lamp.size, lamp.size_y, lamp.energy, lamp.color = "RECTANGLE", *size, power, colour
    _hang(name, lamp, at, towards).visible_camera = False


def camera(at: Point, towards: Point, lens: float, focus: Point, f_number: float = 4.0, roll: float = 0.0) -> None:
    """A camera with a full-frame sensor: `lens` is its focal length in mm, the picture sharp at `focus`."""
    data = bpy.data.cameras.new("camera")
    data.lens, data.sensor_width, data.clip_start = lens, 36.0, 0.02
    data.dof.use_dof, data.dof.aperture_fstop = True, f_number
    data.dof.focus_distance = (Vector(focus) - Vector(at)).length
    thing = bpy.data.objects.new("camera", data)
    thing.location = at
    aim = (Vector(towards) - Vector(at)).to_track_quat("-Z", "Y").to_matrix()
    thing.rotation_euler = (aim @ Matrix.Rotation(math.radians(roll), 3, "Z")).to_euler()
    bpy.context.scene.collection.objects.link(thing)
    bpy.context.scene.camera = thing
