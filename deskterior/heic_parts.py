"""What decoding a HEIC will cost, read from its boxes (ISO/IEC 14496-12 and 23008-12) before libheif does.

A HEIC is put together from items: tiles of a grid, layers, crops. The size that it shows is the last of them: one of
64 x 64 pixels may be cut out of 48 megapixels, or laid out of thousands of such tiles. What counts is what is decoded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from deskterior.errors import PhotoUnreadable

MAX_BOXES = 5_000
"""Of any kind: libheif takes 1,000 items, a phone's photo has about 60, and 150 boxes."""
MAX_DEPTH = 8


@dataclass
class HeicCost:
    """Pixels: of the largest item that the picture needs, and of all of them, each as often as it is decoded."""

    largest: int
    total: int


@dataclass
class _Items:
    primary: int = -1
    areas: dict[int, int] = field(default_factory=dict)
    made_of: dict[int, list[int]] = field(default_factory=dict)


def heic_cost(data: bytes) -> HeicCost:
    """What the primary picture of a HEIC is made of.

    Raises:
        PhotoUnreadable: more parts than any photo has, or parts that contain themselves.
        IndexError: cut short.
    """
    items = _Items()
    budget = [MAX_BOXES]
    for kind, body in _boxes(data, budget):
        if kind == b"meta":
            _read_meta(body[4:], items, budget)
    return _cost(items, items.primary, MAX_DEPTH, {})


def _too_many() -> PhotoUnreadable:
    return PhotoUnreadable("The HEIC has more parts than a photo: save it again")


def _number(data: memoryview | bytes, at: int, size: int) -> int:
    if at + size > len(data):
        raise IndexError("a box is cut short")
    return int.from_bytes(data[at : at + size])


def _boxes(data: memoryview | bytes, budget: list[int]) -> Iterator[tuple[bytes, memoryview]]:
    view, at = memoryview(data), 0
    while at + 8 <= len(view):
        budget[0] -= 1
        if budget[0] < 0:
            raise _too_many()
        size, head = _number(view, at, 4), 8
        if size == 1:
            size, head = _number(view, at + 8, 8), 16
        end = len(view) if size == 0 else min(at + size, len(view))
        yield bytes(view[at + 4 : at + 8]), view[at + head : end]
        at = max(end, at + head)


def _read_meta(meta: memoryview, items: _Items, budget: list[int]) -> None:
    for kind, body in _boxes(meta, budget):
        if kind == b"pitm":
            items.primary = _number(body, 4, 4 if body[0] else 2)
        elif kind == b"iref":
            _read_references(body, items, budget)
        elif kind == b"iprp":
            parts = list(_boxes(body, budget))
            areas = [area for name, inner in parts if name == b"ipco" for area in _property_areas(inner, budget)]
            for name, inner in parts:
                if name == b"ipma":
                    _read_associations(inner, areas, items, budget)


def _property_areas(properties: memoryview, budget: list[int]) -> Iterator[int]:
    """For each property its pixels where it is a size, else 0."""
    for kind, body in _boxes(properties, budget):
        yield _number(body, 4, 4) * _number(body, 8, 4) if kind == b"ispe" else 0


def _read_associations(body: memoryview, areas: list[int], items: _Items, budget: list[int]) -> None:
    id_size, index_size = (4 if body[0] else 2), (2 if body[3] & 1 else 1)
    at = 8
    for _ in range(_number(body, 4, 4)):
        item, count = _number(body, at, id_size), _number(body, at + id_size, 1)
        at += id_size + 1
        for _ in range(count):
            budget[0] -= 1
            index = _number(body, at, index_size) & (0x7FFF if index_size == 2 else 0x7F)
            at += index_size
            if 0 < index <= len(areas):
                items.areas[item] = max(items.areas.get(item, 0), areas[index - 1])
        budget[0] -= 1
        if budget[0] < 0:
            raise _too_many()


def _read_references(body: memoryview, items: _Items, budget: list[int]) -> None:
    size = 4 if body[0] else 2
    for kind, inner in _boxes(body[4:], budget):
        if kind == b"dimg":  # derived from: a grid, an overlay, the same picture turned
            count = _number(inner, size, 2)
            budget[0] -= count
            if budget[0] < 0:
                raise _too_many()
            parts = [_number(inner, size + 2 + size * number, size) for number in range(count)]
            items.made_of.setdefault(_number(inner, 0, size), []).extend(parts)


def _cost(items: _Items, item: int, depth: int, known: dict[int, HeicCost]) -> HeicCost:
    if depth == 0:
        raise PhotoUnreadable("The HEIC is made of pictures within pictures: save it again")
    if item not in known:
        parts = [_cost(items, part, depth - 1, known) for part in items.made_of.get(item, [])]
        area = items.areas.get(item, 0)
        known[item] = HeicCost(max([area, *(part.largest for part in parts)]), area + sum(part.total for part in parts))
    return known[item]
