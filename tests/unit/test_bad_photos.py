"""Photos that must not be decoded: other types, damage and bombs, each refused by its name."""

from __future__ import annotations

import contextlib
import struct
import warnings
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from deskterior.decoding import decode, inspect, memory_needed, scaled_jpeg
from deskterior.errors import PhotoError, PhotoTooLarge, PhotoTypeUnsupported, PhotoUnreadable
from tests.photographs import (
    animated,
    chunk,
    encoded,
    ftyp,
    many_scans,
    noise,
    png,
    scene,
    with_png_chunk,
)

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


def test_a_heic_that_lies_of_its_size_is_unreadable() -> None:
    data = encoded(scene(512, 512), "HEIF")
    told = b"ispe\0\0\0\0" + struct.pack(">II", 512, 512)
    assert told in data
    with pytest.raises(PhotoUnreadable):
        decode(data.replace(told, b"ispe\0\0\0\0" + struct.pack(">II", 64, 64)))
    with pytest.raises(PhotoTooLarge):
        decode(data.replace(told, b"ispe\0\0\0\0" + struct.pack(">II", 30_000, 30_000)))


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
