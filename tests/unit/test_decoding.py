"""Decoding: what a photo looks like after it, and which named error each kind of bad bytes ends in."""

from __future__ import annotations

import contextlib
import io
import struct
import warnings
import zlib
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from deskterior.decoding import decode, inspect, memory_needed, scaled_jpeg
from deskterior.errors import PhotoError, PhotoTooLarge, PhotoTypeUnsupported, PhotoUnreadable
from tests.photographs import (
    BLUE,
    GREEN,
    RED,
    YELLOW,
    animated,
    chunk,
    corners,
    encoded,
    exif,
    ftyp,
    many_scans,
    noise,
    png,
    scene,
    with_png_chunk,
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
@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow tells of the damage too
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


# --- types


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (encoded(scene(64, 64), "GIF"), "GIF"),
        (encoded(scene(64, 64), "BMP"), "BMP"),
        (encoded(scene(64, 64), "TIFF"), "TIFF"),
        (encoded(scene(64, 64), "AVIF"), "AVIF"),
        (encoded(scene(64, 64), "PDF"), "PDF"),
        (encoded(scene(64, 64), "JPEG2000"), "something else"),
        (encoded(scene(64, 64), "ICO"), "an icon"),
        (encoded(scene(64, 64), "PPM"), "something else"),
        (encoded(scene(64, 64), "EPS"), "something else"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "a web page or SVG"),
        (b"\xef\xbb\xbf\n <!doctype html><title>404</title>", "a web page or SVG"),
        (b"PK\x03\x04" + bytes(60), "ZIP"),
        (b"\x1f\x8b\x08" + bytes(60), "gzip"),
        (b"just words", "something else"),
        (b" " + encoded(scene(64, 64)), "something else"),
        (b"\0", "something else"),
        (b"RIFF\x24\0\0\0WAVEfmt ", "something else"),
        (ftyp(b"isom", b"mp42"), "a video"),
        (ftyp(b"mif1", b"avif", b"miaf"), "AVIF"),
        (ftyp(b"mif1", b"miaf"), "another picture"),
    ],
)
def test_another_type_is_refused_by_its_name(data: bytes, named: str) -> None:
    for look in (decode, inspect, memory_needed):
        with pytest.raises(PhotoTypeUnsupported, match=named):
            look(data)
    with pytest.raises(PhotoTypeUnsupported, match=named):
        scaled_jpeg(data, 100)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "HEIF"])
def test_moving_pictures_are_refused(kind: str) -> None:
    with pytest.raises(PhotoTypeUnsupported, match="animated"):
        decode(animated(kind))


@pytest.mark.parametrize("brand", [b"msf1", b"hevc", b"hevx"])
def test_a_heic_sequence_is_refused(brand: bytes) -> None:
    with pytest.raises(PhotoTypeUnsupported, match="moving"):
        decode(ftyp(b"mif1", b"heic", brand))


# --- damage


def test_no_bytes_at_all_are_named_as_such() -> None:
    with pytest.raises(PhotoUnreadable, match="empty"):
        decode(b"")


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("PNG", {}),
        ("WEBP", {}),
        ("WEBP", {"lossless": True}),
        ("HEIF", {}),
    ],
)
@pytest.mark.parametrize("kept", [0.02, 0.3, 0.7, 0.97, -30, -3, -1])
def test_a_file_cut_short_is_unreadable(kind: str, options: dict[str, object], kept: float) -> None:
    data = encoded(noise(160, 120), kind, **options)
    cut = data[: int(len(data) * kept)] if kept > 0 else data[: int(kept)]
    with pytest.raises(PhotoUnreadable):
        decode(cut)
    with pytest.raises(PhotoUnreadable):
        scaled_jpeg(cut, 100)


@pytest.mark.parametrize("head", [b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WEBP", b"RIFF\0\0\0\0WEBPVP8 "])
@pytest.mark.parametrize("tail", [b"", bytes(100), b"\xff" * 100, b"%PDF-1.7 not a picture at all"])
def test_a_right_head_on_something_else_is_unreadable(head: bytes, tail: bytes) -> None:
    with pytest.raises(PhotoUnreadable):
        decode(head + tail)


def test_a_heic_head_without_a_picture_is_unreadable() -> None:
    with pytest.raises(PhotoUnreadable):
        decode(ftyp(b"heic", b"mif1", b"heic"))


@pytest.mark.parametrize("size", [(0, 10), (10, 0), (0, 0)])
def test_no_width_or_height_is_unreadable(size: tuple[int, int]) -> None:
    with pytest.raises(PhotoUnreadable):
        decode(png(*size))


def test_a_png_with_a_wrong_checksum_is_unreadable() -> None:
    data = bytearray(encoded(noise(64, 64), "PNG"))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(PhotoUnreadable):
        decode(bytes(data))


def test_a_jpeg_with_hours_of_scans_is_refused_by_its_markers() -> None:
    assert decode(many_scans(3)).shape == (224, 224, 3)
    with pytest.raises(PhotoUnreadable, match="scans"):
        decode(many_scans(100))
    with pytest.raises(PhotoUnreadable, match="scans"):
        scaled_jpeg(many_scans(100), 100)


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(["JPEG", "progressive", "PNG", "WEBP", "HEIF"]),
    hits=st.lists(st.tuples(st.floats(0, 0.999), st.binary(min_size=1, max_size=6)), min_size=1, max_size=4),
)
def test_damaged_bytes_end_in_a_picture_or_a_photo_error(kind: str, hits: list[tuple[float, bytes]]) -> None:
    options: dict[str, object] = {"progressive": True} if kind == "progressive" else {}
    data = bytearray(encoded(noise(40, 30), "JPEG" if kind == "progressive" else kind, **options))
    for place, what in hits:
        at = int(place * len(data))
        data[at : at + len(what)] = what
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's own words on damaged EXIF
        with contextlib.suppress(PhotoError):
            assert decode(bytes(data), max_pixels=1_000_000).shape == (224, 224, 3)


# --- limits


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "HEIF"])
def test_a_photo_over_the_pixel_limit_is_too_large_and_one_at_it_is_not(kind: str) -> None:
    data = encoded(scene(100, 80), kind)
    assert decode(data, max_pixels=8000).shape == (224, 224, 3)
    for refuse in (decode, inspect, memory_needed):
        with pytest.raises(PhotoTooLarge, match="100 x 80"):
            refuse(data, max_pixels=7999)
    with pytest.raises(PhotoTooLarge):
        scaled_jpeg(data, 50, max_pixels=7999)


@pytest.mark.parametrize("size", [(2**31 - 1, 2**31 - 1), (100_000, 100_000), (64_000_001, 1), (1, 2**31 - 1)])
def test_a_png_bomb_is_refused_by_its_header(size: tuple[int, int]) -> None:
    with pytest.raises(PhotoTooLarge):
        decode(png(*size))


def test_a_jpeg_bomb_is_refused_by_its_header() -> None:
    data = bytearray(encoded(scene(64, 64)))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", 65_500, 65_500)
    with pytest.raises(PhotoTooLarge):
        decode(bytes(data))


@pytest.mark.parametrize("size", [16_383, 12_000])
def test_a_webp_bomb_is_refused_by_its_header(size: int) -> None:
    bits = struct.pack("<I", (size - 1) | (size - 1) << 14)
    body = b"WEBPVP8L" + struct.pack("<I", 200) + b"\x2f" + bits + bytes(195)
    with pytest.raises(PhotoTooLarge):
        decode(b"RIFF" + struct.pack("<I", len(body)) + body)


def test_a_heic_that_lies_of_its_size_is_unreadable() -> None:
    data = encoded(scene(512, 512), "HEIF")
    told = b"ispe\0\0\0\0" + struct.pack(">II", 512, 512)
    assert told in data
    with pytest.raises(PhotoUnreadable):
        decode(data.replace(told, b"ispe\0\0\0\0" + struct.pack(">II", 64, 64)))
    with pytest.raises(PhotoTooLarge):
        decode(data.replace(told, b"ispe\0\0\0\0" + struct.pack(">II", 30_000, 30_000)))


@pytest.mark.parametrize(
    ("name", "head"), [(b"zTXt", b"words\0\0"), (b"iTXt", b"words\0\1\0\0\0"), (b"iCCP", b"profile\0\0")]
)
def test_a_png_chunk_that_unpacks_to_a_bomb_is_unreadable(name: bytes, head: bytes) -> None:
    bomb = zlib.compress(bytes(50_000_000), 9)
    with pytest.raises(PhotoUnreadable):
        decode(with_png_chunk(encoded(scene(64, 64), "PNG"), name, head + bomb))


def test_pixels_beyond_what_the_header_promises_are_not_unpacked() -> None:
    data = png(8, 8, pixels=(b"\0" + bytes(24)) * 8 + bytes(50_000_000))
    assert decode(data).shape == (224, 224, 3)


def test_unknown_png_chunks_are_passed_over() -> None:
    assert decode(with_png_chunk(encoded(scene(64, 64), "PNG"), b"juNk", b"x" * 1000)).shape == (224, 224, 3)


def test_text_of_a_png_does_not_matter() -> None:
    data = with_png_chunk(encoded(scene(64, 64), "PNG"), b"zTXt", b"words\0\0" + zlib.compress(b"a desk"))
    assert decode(data + chunk(b"tEXt", b"more\0words")).shape == (224, 224, 3)


def test_no_warning_is_given_for_a_photo_over_pillows_own_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for kind in ("JPEG", "PNG"):
            assert decode(encoded(scene(), kind)).shape == (224, 224, 3)


def test_the_memory_told_is_over_what_the_pixels_take_and_small_for_a_drafted_jpeg() -> None:
    picture = scene(1200, 900)
    full = 1200 * 900
    assert memory_needed(encoded(picture)) < 4 * full
    for kind, least in (("PNG", 8), ("WEBP", 16), ("HEIF", 7)):
        assert memory_needed(encoded(picture, kind)) >= least * full
    assert memory_needed(encoded(picture, progressive=True)) >= 6 * full


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
