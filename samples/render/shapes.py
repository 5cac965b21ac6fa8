"""Meshes the scenes are put together from: bevelled boxes, turned profiles, bent tubes, cushions and thin sheets.

Lengths are metres, angles degrees. `placed` moves and turns everything made inside its block.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import bmesh
import bpy
from mathutils import Vector

Point = tuple[float, float, float]

_holders: list[bpy.types.Object] = []


def forget_everything() -> None:
    """Start from an empty file."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    _holders.clear()


@contextmanager
def placed(at: Point = (0, 0, 0), turn: float = 0.0, tilt: float = 0.0, lean: float = 0.0) -> Iterator[None]:
    """Objects made inside stand at `at`, turned about z, tilted about x and leant about y."""
    holder = bpy.data.objects.new("holder", None)
    link(holder)
    holder.location = at
    holder.rotation_euler = (math.radians(tilt), math.radians(lean), math.radians(turn))
    _holders.append(holder)
    try:
        yield
    finally:
        _holders.pop()


def link(thing: bpy.types.Object) -> bpy.types.Object:
    bpy.context.scene.collection.objects.link(thing)
    if _holders:
        thing.parent = _holders[-1]
    return thing


def _finished(mesh: bmesh.types.BMesh, name: str, at: Point, turn: float, material, smooth=True) -> bpy.types.Object:
    bmesh.ops.recalc_face_normals(mesh, faces=mesh.faces)
    data = bpy.data.meshes.new(name)
    mesh.to_mesh(data)
    mesh.free()
    for face in data.polygons:
        face.use_smooth = smooth
    thing = bpy.data.objects.new(name, data)
    thing.location = at
    thing.rotation_euler = (0, 0, math.radians(turn))
    if material is not None:
        data.materials.append(material)
    return link(thing)


def box(name: str, size: Point, at: Point, material, bevel: float = 0.003, turn: float = 0.0) -> bpy.types.Object:
    """A box whose centre is at `at`, its edges rounded unless `bevel` is 0."""
    mesh = bmesh.new()
    bmesh.ops.create_cube(mesh, size=1.0)
    bmesh.ops.scale(mesh, vec=size, verts=mesh.verts)
    thing = _finished(mesh, name, at, turn, material, smooth=bevel > 0)
    if bevel:
        edge = thing.modifiers.new("edges", "BEVEL")
        edge.width, edge.segments = min(bevel, min(size) * 0.49), 3
        thing.modifiers.new("normals", "WEIGHTED_NORMAL").keep_sharp = True
    return thing


def cushion(name: str, size: Point, at: Point, material, turn: float = 0.0, puff: float = 0.12) -> bpy.types.Object:
    """A stuffed block: a box rounded by subdivision, its broad faces bulging by `puff` of its thickness."""
    mesh = bmesh.new()
    bmesh.ops.create_cube(mesh, size=1.0)
    bmesh.ops.subdivide_edges(mesh, edges=mesh.edges, cuts=4, use_grid_fill=True)
    for corner in mesh.verts:
        x, y, z = corner.co
        rise = max(0.0, math.cos(x * math.pi) * math.cos(y * math.pi))
        corner.co = Vector((x * size[0], y * size[1], z * size[2] * (1 - puff + 2 * puff * rise)))
    thing = _finished(mesh, name, at, turn, material)
    thing.modifiers.new("round", "SUBSURF").render_levels = 3
    return thing


def lathe(name: str, profile: Sequence[tuple[float, float]], at: Point, material, steps: int = 64, round_off: int = 1):
    """A turned shape: `profile` is (radius, height) from its start to its end; a cup goes up outside, down inside."""
    mesh = bmesh.new()
    rings = []
    for step in range(steps):
        angle = 2 * math.pi * step / steps
        rings.append([mesh.verts.new((r * math.cos(angle), r * math.sin(angle), z)) for r, z in profile])
    for this, following in zip(rings, rings[1:] + rings[:1], strict=True):
        for index in range(len(profile) - 1):
            mesh.faces.new((this[index], following[index], following[index + 1], this[index + 1]))
    bmesh.ops.remove_doubles(mesh, verts=mesh.verts, dist=1e-5)
    thing = _finished(mesh, name, at, 0.0, material)
    if round_off:
        thing.modifiers.new("round", "SUBSURF").render_levels = round_off
    return thing


def cylinder(name: str, radius: float, height: float, at: Point, material, bevel: float = 0.002) -> bpy.types.Object:
    """An upright cylinder standing on `at`."""
    edge = min(bevel, radius * 0.4, height * 0.4)
    profile = [(0, 0), (radius - edge, 0), (radius - edge * 0.3, edge * 0.3), (radius, edge)]
    profile += [(r, height - z) for r, z in reversed(profile)]
    return lathe(name, profile, at, material, steps=40, round_off=0)


def tube(name: str, points: Sequence[Point], radius: float, material, bent: bool = True):
    """A round tube along `points`, through them in a smooth bend or, with bent=False, in straight lines."""
    curve = bpy.data.curves.new(name, "CURVE")
    curve.dimensions, curve.bevel_depth, curve.bevel_resolution = "3D", radius, 4
    curve.resolution_u, curve.use_fill_caps = 16, True
    spline = curve.splines.new("BEZIER" if bent else "POLY")
    knots = spline.bezier_points if bent else spline.points
    knots.add(len(points) - 1)
    for knot, point in zip(knots, points, strict=True):
        knot.co = point if bent else (*point, 1.0)
        if bent:
            knot.handle_left_type = knot.handle_right_type = "AUTO"
    curve.materials.append(material)
    return link(bpy.data.objects.new(name, curve))


def sheet(
    name: str,
    surface: Callable[[float, float], Point],
    material,
    cells: tuple[int, int] = (24, 24),
    thick: float = 0.0,
    at: Point = (0, 0, 0),
    turn: float = 0.0,
) -> bpy.types.Object:
    """A thin surface: `surface` gives the point for (u, v) from 0 to 1; pictures lie on it by the same (u, v)."""
    mesh = bmesh.new()
    picture = mesh.loops.layers.uv.new("picture")
    across, along = cells
    grid = [[mesh.verts.new(surface(i / across, j / along)) for j in range(along + 1)] for i in range(across + 1)]
    for i in range(across):
        for j in range(along):
            spots = [(i, j), (i + 1, j), (i + 1, j + 1), (i, j + 1)]
            face = mesh.faces.new([grid[a][b] for a, b in spots])
            for corner, (a, b) in zip(face.loops, spots, strict=True):
                corner[picture].uv = (a / across, b / along)
    thing = _finished(mesh, name, at, turn, material)
    if thick:
        solid = thing.modifiers.new("thick", "SOLIDIFY")
        solid.thickness, solid.offset = thick, 0.0
    return thing


def panel(name: str, width: float, height: float, at: Point, material, turn: float = 0.0, flat: bool = False):
    """A picture of width x height: upright and facing -y, or lying flat and facing up."""

    def surface(u: float, v: float) -> Point:
        x, y = (u - 0.5) * width, (v - 0.5) * height
        return (x, y, 0.0) if flat else (x, 0.0, y)

    return sheet(name, surface, material, cells=(1, 1), at=at, turn=turn)


def leg(name: str, top: Point, foot: Point, widths: tuple[float, float], material, bevel: float = 0.004):
    """A square leg from `top` to `foot`, tapering from the first width to the second."""
    mesh = bmesh.new()
    rings = []
    for (x, y, z), width in ((top, widths[0]), (foot, widths[1])):
        half = width / 2
        corners = ((-half, -half), (half, -half), (half, half), (-half, half))
        rings.append([mesh.verts.new((x + a, y + b, z)) for a, b in corners])
    mesh.faces.new(rings[0])
    mesh.faces.new(rings[1])
    for i in range(4):
        j = (i + 1) % 4
        mesh.faces.new((rings[0][i], rings[0][j], rings[1][j], rings[1][i]))
    thing = _finished(mesh, name, (0, 0, 0), 0.0, material)
    edge = thing.modifiers.new("edges", "BEVEL")
    edge.width, edge.segments = bevel, 3
    thing.modifiers.new("normals", "WEIGHTED_NORMAL")
    return thing
