"""Decoding: what a photo looks like after it, and which named error each kind of bad bytes ends in."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image, ImageOps

from deskterior.decoding import decode, inspect, scaled_jpeg
from tests.photographs import (
    BLUE,
    GREEN,
    RED,
    YELLOW,
    corners,
    encoded,
    exif,
    noise,
    png,
    scene,
    ycck,
)

WHITE = (255, 255, 255)


def close(seen: Sequence[tuple[int, ...]], expected: Sequence[tuple[int, ...]], within: int = 6) -> bool:
    return bool(np.abs(np.array(seen) - np.array(expected)).max() <= within)


# --- pictures that must come out right


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("JPEG", {"subsampling": 0, "optimize": True}),
        ("MPO", {"save_all": True, "append_images": [Image.new("RGB", (480, 320))]}),
        ("PNG", {}),
        ("WEBP", {"quality": 95}),
        ("WEBP", {"lossless": True}),
        ("HEIF", {"quality": 95}),
    ],
)
def test_every_supported_type_keeps_its_colours_and_its_place(kind: str, options: dict[str, object]) -> None:
    pixels = decode(encoded(scene(), kind, **options))
    assert pixels.shape == (224, 224, 3)
    assert pixels.dtype == np.uint8
    assert pixels.flags.writeable
    assert close(corners(pixels), [RED, GREEN, BLUE, YELLOW], within=12)


@pytest.mark.parametrize("orientation", [None, 1, 2, 3, 4, 5, 6, 7, 8])
@pytest.mark.parametrize("size", [(3001, 2003), (97, 1203)])
def test_a_jpeg_decodes_to_the_pixels_that_the_model_was_trained_on(
    size: tuple[int, int], orientation: int | None
) -> None:
    data = encoded(noise(61, 47).resize(size), exif=exif(orientation) if orientation else b"")
    image = Image.open(io.BytesIO(data))
    image.draft("RGB", (448, 448))
    upright = ImageOps.exif_transpose(image).convert("RGB")
    expected = upright.resize((224, 224), Image.Resampling.BILINEAR, reducing_gap=2.0)
    assert np.array_equal(decode(data), np.asarray(expected))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    ("orientation", "expected"),
    [
        (2, [GREEN, RED, YELLOW, BLUE]),
        (3, [YELLOW, BLUE, GREEN, RED]),
        (4, [BLUE, YELLOW, RED, GREEN]),
        (5, [RED, BLUE, GREEN, YELLOW]),
        (6, [BLUE, RED, YELLOW, GREEN]),
        (7, [YELLOW, GREEN, BLUE, RED]),
        (8, [GREEN, YELLOW, RED, BLUE]),
    ],
)
def test_exif_orientation_is_applied(kind: str, orientation: int, expected: list[tuple[int, ...]]) -> None:
    data = encoded(scene(), kind, exif=exif(orientation), **({"lossless": True} if kind == "WEBP" else {}))
    assert close(corners(decode(data)), expected, within=12)
    assert close(corners(np.asarray(Image.open(io.BytesIO(scaled_jpeg(data, 200))))), expected, within=12)


def test_a_heic_is_turned_once_and_not_twice() -> None:
    data = encoded(scene(), "HEIF", exif=exif(6), quality=95)
    assert close(corners(decode(data)), [BLUE, RED, YELLOW, GREEN], within=12)


@pytest.mark.parametrize(
    "broken",
    [b"Exif\0\0", b"Exif\0\0II*\0", b"Exif\0\0MM\0*\xff\xff\xff\xff", b"Exif\0\0" + bytes(40), exif(6)[:-9], exif(99)],
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_broken_exif_does_not_fail_the_photo(kind: str, broken: bytes) -> None:
    data = encoded(scene(), kind, exif=broken)
    assert decode(data).shape == (224, 224, 3)


def test_a_cmyk_jpeg_has_its_own_colours_and_not_their_negative() -> None:
    assert close(corners(decode(encoded(scene().convert("CMYK"), quality=95))), [RED, GREEN, BLUE, YELLOW], within=12)


def test_a_ycck_jpeg_of_photoshop_has_its_own_colours() -> None:
    assert close(corners(decode(ycck((200, 60, 30)))), [(200, 60, 30)] * 4, within=12)


@pytest.mark.parametrize(("kind", "options"), [("JPEG", {"quality": 95}), ("PNG", {}), ("HEIF", {"quality": 95})])
def test_a_grey_photo_becomes_grey_rgb(kind: str, options: dict[str, object]) -> None:
    grey = scene().convert("L")
    expected = [tuple(row) for row in np.asarray(grey.convert("RGB"))[[9, 9, 300, 300], [9, 400, 9, 400]].tolist()]
    assert close(corners(decode(encoded(grey, kind, **options))), expected)


def test_sixteen_bit_grey_is_scaled_and_not_clipped() -> None:
    levels = np.repeat(np.array([0x1000, 0x5500, 0xAA00, 0xFFFF], dtype=np.uint16), 64)
    pixels = decode(encoded(Image.fromarray(np.tile(levels, (32, 1))), "PNG"))
    assert [int(pixels[100, x, 0]) for x in (28, 84, 140, 196)] == [0x10, 0x55, 0xAA, 0xFF]


@pytest.mark.parametrize(("colour", "samples"), [(2, (0xC000, 0x4000, 0x2000)), (6, (0xC000, 0x4000, 0x2000, 0xFFFF))])
def test_sixteen_bit_colour_keeps_its_colours(colour: int, samples: tuple[int, ...]) -> None:
    row = b"\0" + struct.pack(f">{len(samples)}H", *samples) * 32
    assert corners(decode(png(32, 32, depth=16, colour=colour, pixels=row * 32))) == [(0xC0, 0x40, 0x20)] * 4


def test_sixteen_bit_grey_with_alpha_is_laid_over_white() -> None:
    row = b"\0" + struct.pack(">2H", 0, 0) * 32
    assert corners(decode(png(32, 32, depth=16, colour=4, pixels=row * 32))) == [WHITE] * 4


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "HEIF"])
def test_transparency_is_laid_over_white(kind: str) -> None:
    picture = scene().convert("RGBA")
    picture.paste((0, 0, 0, 0), (0, 0, 240, 320))
    assert close(corners(decode(encoded(picture, kind, quality=95))), [WHITE, GREEN, WHITE, YELLOW], within=12)


def test_half_transparency_mixes_with_white() -> None:
    assert close(corners(decode(encoded(Image.new("RGBA", (64, 64), (0, 0, 0, 128)), "PNG"))), [(127,) * 3] * 4, 1)


def test_grey_with_alpha_is_laid_over_white() -> None:
    assert corners(decode(encoded(Image.new("LA", (64, 64), (0, 0)), "PNG"))) == [WHITE] * 4


def test_a_palette_keeps_its_colours() -> None:
    assert close(corners(decode(encoded(scene().quantize(16), "PNG"))), [RED, GREEN, BLUE, YELLOW], within=12)


@pytest.mark.parametrize("by", ["index", "table"])
def test_a_transparent_palette_is_laid_over_white(by: str) -> None:
    picture = Image.new("P", (64, 64), 0)
    picture.putpalette([10, 10, 10, *RED])
    picture.paste(1, (32, 0, 64, 64))
    data = encoded(picture, "PNG", transparency=0 if by == "index" else b"\x00\x80")
    seen = corners(decode(data))
    assert seen[0] == WHITE
    assert close([seen[1]], [RED if by == "index" else tuple((v + 255) // 2 for v in RED)])


def test_a_transparent_colour_of_an_rgb_png_is_laid_over_white() -> None:
    seen = corners(decode(encoded(scene(), "PNG", transparency=RED)))
    assert close(seen, [WHITE, GREEN, BLUE, YELLOW], within=2)


def test_one_bit_pictures_are_black_and_white() -> None:
    picture = Image.new("1", (64, 64), 1)
    picture.paste(0, (0, 0, 32, 64))
    assert corners(decode(encoded(picture, "PNG"))) == [(0, 0, 0), WHITE] * 2


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (60_000, 1), (1, 60_000), (60_000, 20)])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_thin_strips_and_single_pixels_decode(size: tuple[int, int], kind: str) -> None:
    data = encoded(Image.new("RGB", size, GREEN), kind)
    assert close(corners(decode(data)), [GREEN] * 4)
    small = Image.open(io.BytesIO(scaled_jpeg(data, 64)))
    assert max(small.size) <= 64
    assert min(small.size) >= 1


@pytest.mark.parametrize("progressive", [False, True])
def test_what_follows_a_jpeg_is_left_alone(progressive: bool) -> None:
    motion_photo = encoded(scene(), quality=95, progressive=progressive) + bytes(8) + b"\xff\xda\0\x08" * 500
    assert close(corners(decode(motion_photo)), [RED, GREEN, BLUE, YELLOW], within=12)


def test_a_polyglot_is_decoded_as_what_its_head_says() -> None:
    assert inspect(encoded(scene()) + b"PK\x03\x04<html>%PDF-1.7").type == "image/jpeg"


# --- for the vision model


def test_a_scaled_photo_fits_keeps_its_shape_and_says_nothing_of_its_maker() -> None:
    maker = Image.Exif()
    maker[0x010F] = "PhoneMaker"
    data = encoded(scene(1200, 800), exif=maker, comment=b"taken at home", icc_profile=b"x" * 500, xmp=b"<x:xmpmeta/>")
    small = scaled_jpeg(data, 300)
    image = Image.open(io.BytesIO(small))
    assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (300, 200))
    assert set(image.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
    assert close(corners(np.asarray(image)), [RED, GREEN, BLUE, YELLOW], within=12)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "HEIF"])
def test_a_small_photo_is_not_blown_up(kind: str) -> None:
    assert Image.open(io.BytesIO(scaled_jpeg(encoded(scene(120, 80), kind), 1000))).size == (120, 80)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("JPEG", "image/jpeg"), ("PNG", "image/png"), ("WEBP", "image/webp"), ("HEIF", "image/heic")],
)
def test_inspect_tells_type_and_size(kind: str, expected: str) -> None:
    info = inspect(encoded(scene(120, 80), kind))
    assert (info.type, info.width, info.height) == (expected, 120, 80)
