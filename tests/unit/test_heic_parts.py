"""What decoding a HEIC costs: the pixels of every item that its picture is made of, each as often as it is decoded."""

from __future__ import annotations

import struct

import pytest

from deskterior.decoding import decode
from deskterior.errors import PhotoTooLarge, PhotoUnreadable
from deskterior.heic_parts import MAX_BOXES, HeicCost, heic_cost
from tests.photographs import encoded, scene


def box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", len(body) + 8, kind) + body


def heic(sizes: dict[int, tuple[int, int]], made_of: dict[int, list[int]], primary: int = 1) -> bytes:
    """The boxes of a HEIC of items with sizes, made of one another; no pixels."""
    head = bytes(4)
    sizes_in_order = list(sizes.items())
    properties = [box(b"ispe", head, struct.pack(">II", *size)) for _, size in sizes_in_order]
    links = [struct.pack(">HBB", item, 1, number + 1) for number, (item, _) in enumerate(sizes_in_order)]
    references = [
        box(b"dimg", struct.pack(f">HH{len(parts)}H", item, len(parts), *parts)) for item, parts in made_of.items()
    ]
    meta = box(
        b"meta",
        head,
        box(b"pitm", head, struct.pack(">H", primary)),
        box(b"iref", head, *references),
        box(b"iprp", box(b"ipco", *properties), box(b"ipma", head, struct.pack(">I", len(links)), *links)),
    )
    return box(b"ftyp", b"heic", bytes(4), b"mif1heic") + meta


def test_a_phones_photo_costs_its_tiles_and_the_whole() -> None:
    data = encoded(scene(256, 192), "HEIF", tile_size=64)
    assert heic_cost(data) == HeicCost(largest=256 * 192, total=2 * 256 * 192)
    assert decode(data).shape == (224, 224, 3)


def test_a_plain_photo_costs_its_pixels() -> None:
    assert heic_cost(encoded(scene(128, 64), "HEIF")) == HeicCost(128 * 64, 128 * 64)


def test_a_tile_counts_as_often_as_it_is_laid() -> None:
    assert heic_cost(heic({1: (64, 64), 2: (100, 100)}, {1: [2] * 500})) == HeicCost(10_000, 64 * 64 + 500 * 10_000)


def test_what_the_picture_is_not_made_of_costs_nothing() -> None:
    assert heic_cost(heic({1: (8, 8), 2: (9000, 9000)}, {2: [1]})) == HeicCost(64, 64)


def test_layers_of_layers_multiply() -> None:
    cost = heic_cost(heic({4: (10, 10)}, {1: [2] * 100, 2: [3] * 100, 3: [4] * 100}))
    assert cost.total == 100**4


@pytest.mark.parametrize("made_of", [{1: [1]}, {1: [2], 2: [1]}, {n: [n + 1] for n in range(1, 40)}])
def test_parts_that_contain_themselves_are_unreadable(made_of: dict[int, list[int]]) -> None:
    with pytest.raises(PhotoUnreadable, match="within"):
        heic_cost(heic({1: (8, 8)}, made_of))


def test_more_parts_than_a_photo_has_are_unreadable() -> None:
    with pytest.raises(PhotoUnreadable, match="more parts"):
        heic_cost(heic({1: (8, 8)}, {1: [2] * (MAX_BOXES + 1)}))
    with pytest.raises(PhotoUnreadable, match="more parts"):
        heic_cost(box(b"free") * (MAX_BOXES + 1))


def test_sizes_of_boxes_that_lie_do_not_hang() -> None:
    for size in (0, 1, 2, 7, 2**32 - 1):
        data = bytearray(heic({1: (8, 8)}, {}))
        at = data.index(b"iprp") - 4
        data[at : at + 4] = struct.pack(">I", size)
        try:
            heic_cost(bytes(data))
        except (PhotoUnreadable, IndexError):
            continue


def test_a_grid_of_too_many_pixels_is_too_large() -> None:
    data = encoded(scene(256, 192), "HEIF", tile_size=64)
    with pytest.raises(PhotoTooLarge):
        decode(data, max_pixels=256 * 192 - 1)
    at = data.index(struct.pack(">II", 64, 64))
    with pytest.raises(PhotoTooLarge, match="made of"):
        decode(data[:at] + struct.pack(">II", 9000, 9000) + data[at + 8 :])
