"""Files that are no photo, are damaged, or blow up when they are opened. Each is made on the fly; nothing here is read."""

# ruff: noqa: E501 - one attack, one line
from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

from PIL import Image

from tests.attacks.attack import ACCEPTED, TOO_LARGE, UNREADABLE, UNSUPPORTED, Attack
from tests.photographs import (
    animated,
    chunk,
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

Make = Callable[[], bytes]


@dataclass(frozen=True)
class File(Attack):
    """`seconds` of processor time and `megabytes` of memory are about what it may take."""

    make: Make = field(compare=False)
    seconds: float = 1.0
    megabytes: int = 30


def small(kind: str = "JPEG", **options: object) -> bytes:
    return encoded(scene(64, 64), kind, **options)


def segment(code: int, body: bytes) -> bytes:
    return b"\xff" + bytes([code]) + struct.pack(">H", len(body) + 2) + body


def in_jpeg(*segments: bytes) -> bytes:
    """A small JPEG with segments right behind its beginning."""
    data = small()
    return data[:2] + b"".join(segments) + data[2:]


def riff(*chunks: bytes) -> bytes:
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def vp8x(width: int, height: int, flags: int = 0) -> bytes:
    sides = b"".join((side - 1).to_bytes(3, "little") for side in (width, height))
    return b"VP8X" + struct.pack("<I", 10) + bytes([flags, 0, 0, 0]) + sides


def frame() -> bytes:
    """The picture chunk of a small WebP."""
    return small("WEBP")[12:]


def directory(entries: int, size: int, count: int | None = None) -> bytes:
    """EXIF whose every entry says that all of it is its value."""
    head = b"II*\0" + struct.pack("<IH", 8, entries)
    told = size - 200 if count is None else count
    body = b"".join(struct.pack("<HHII", tag + 1, 7, told, 8) for tag in range(entries))
    return (head + body).ljust(size, b"\0")


def cut(kind: str, kept: float, **options: object) -> Make:
    def make() -> bytes:
        data = encoded(noise(160, 120), kind, **options)
        return data[: int(len(data) * kept)] if kept > 0 else data[: int(kept)]

    return make


def told_size(width: int, height: int, progressive: bool = False) -> bytes:
    """A small JPEG that says it is larger."""
    data = bytearray(small(progressive=progressive))
    at = data.index(b"\xff\xc2" if progressive else b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def lossless(width: int, height: int) -> bytes:
    bits = struct.pack("<I", (width - 1) | (height - 1) << 14)
    return riff(b"VP8L" + struct.pack("<I", 200) + b"\x2f" + bits + bytes(195))


def heic_of(width: int, height: int) -> bytes:
    told = b"ispe\0\0\0\0" + struct.pack(">II", 64, 64)
    return small("HEIF").replace(told, b"ispe\0\0\0\0" + struct.pack(">II", width, height))


def cropped_heic(width: int, height: int, shown: int) -> bytes:
    """A HEIC that says it is `width` x `height`, and shows `shown` x `shown` pixels cut out of that."""
    data = heic_of(width, height)
    crop = struct.pack(">I4s8i", 40, b"clap", shown, 1, shown, 1, 0, 1, 0, 1)
    at = data.index(b"ipma") - 4  # right behind the properties, and so the end of their box
    length = int.from_bytes(data[at : at + 4])
    links = bytearray(data[at : at + length])
    count = links[18]
    links[18] = count + 1
    properties = sum(data[:at].count(name) for name in (b"hvcC", b"colr", b"ispe", b"pixi"))
    links[19 + count : 19 + count] = bytes([0x80 | properties + 1])
    links[:4] = struct.pack(">I", length + 1)
    made = bytearray(data[:at] + crop + bytes(links) + data[at + length :])
    for name, more in ((b"ipco", 40), (b"iprp", 41), (b"meta", 41)):
        box = made.index(name) - 4
        made[box : box + 4] = struct.pack(">I", int.from_bytes(made[box : box + 4]) + more)
    pixels = struct.pack(">I", data.index(b"mdat") + 4)
    where = made.index(pixels, made.index(b"iloc"))
    made[where : where + 4] = struct.pack(">I", int.from_bytes(pixels) + 41)
    return bytes(made)


def apng() -> bytes:
    return animated("PNG")


def strip(width: int, height: int, kind: str = "PNG") -> Make:
    return lambda: encoded(Image.new("RGB", (width, height), (30, 180, 40)), kind)


def multi_picture() -> bytes:
    return encoded(scene(64, 64), "MPO", save_all=True, append_images=[noise(64, 64)])


def repeated_frame_headers() -> bytes:
    data = small()
    at = data.index(b"\xff\xc0")
    end = at + 2 + int.from_bytes(data[at + 2 : at + 4])
    return data[:end] + data[at:end] * 50 + data[end:]


BOMB_1MB = zlib.compress(bytes(1_000_000), 9)
BOMB_50MB = zlib.compress(bytes(50_000_000), 9)

FILES = [
    # what is no photo
    File("zero-bytes", "no bytes at all", UNREADABLE, bytes),
    File("one-byte", "a single byte", UNSUPPORTED, lambda: b"\xff"),
    File("gif-named-jpg", "a GIF, whatever its name", UNSUPPORTED, lambda: small("GIF")),
    File("bmp", "a BMP", UNSUPPORTED, lambda: small("BMP")),
    File("tiff", "a TIFF", UNSUPPORTED, lambda: small("TIFF")),
    File("ico", "an icon", UNSUPPORTED, lambda: small("ICO")),
    File("avif", "an AVIF", UNSUPPORTED, lambda: small("AVIF")),
    File("jpeg-2000", "a JPEG 2000", UNSUPPORTED, lambda: small("JPEG2000")),
    File("eps", "PostScript, which some libraries hand to a program", UNSUPPORTED, lambda: small("EPS")),
    File("svg", "an SVG with a script", UNSUPPORTED, lambda: b"<svg xmlns='http://www.w3.org/2000/svg'><script>1</script></svg>"),
    File("svg-entities", "XML entities that name a file and grow", UNSUPPORTED,
         lambda: b"<?xml version='1.0'?><!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><svg>&x;</svg>"),
    File("html", "a web page", UNSUPPORTED, lambda: b"\n <!doctype html><title>404</title>"),
    File("pdf", "a PDF", UNSUPPORTED, lambda: small("PDF")),
    File("zip", "a ZIP", UNSUPPORTED, lambda: b"PK\3\4" + bytes(100)),
    File("video", "an MP4", UNSUPPORTED, lambda: ftyp(b"isom", b"mp42")),
    File("imagemagick", "commands of ImageMagick's", UNSUPPORTED, lambda: b"push graphic-context\nimage over 0,0 0,0 'https://127.0.0.1/'\n"),
    File("elf", "a program", UNSUPPORTED, lambda: b"\x7fELF" + bytes(200)),
    File("pickle", "a Python pickle", UNSUPPORTED, lambda: b"\x80\4cos\nsystem\n(S'true'\ntR."),
    # two things at once
    File("jpeg-and-html", "a JPEG with a web page behind it", ACCEPTED, lambda: small() + b"<html><script>1</script>"),
    File("jpeg-and-zip", "a JPEG with an archive behind it", ACCEPTED, lambda: small() + b"PK\3\4" + bytes(100)),
    File("jpeg-comment-html", "a JPEG with a web page in its comment", ACCEPTED, lambda: small(comment=b"*/<script>1</script>")),
    File("html-and-jpeg", "a web page with a JPEG behind it", UNSUPPORTED, lambda: b"<html>" + small()),
    File("gif-and-jpeg", "a GIF's head on a JPEG", UNSUPPORTED, lambda: b"GIF89a" + small()),
    File("jpeg-head-on-png", "a JPEG's head on a PNG", UNREADABLE, lambda: b"\xff\xd8\xff" + small("PNG")),
    File("jpeg-head-on-script", "a JPEG's head on a script", UNREADABLE, lambda: b"\xff\xd8\xff\xe0\n#!/bin/sh\nexit 1\n"),
    File("png-head-on-zeros", "a PNG's head on zeros", UNREADABLE, lambda: b"\x89PNG\r\n\x1a\n" + bytes(1000)),
    File("webp-head-on-video", "a WebP's head on an AVI", UNREADABLE, lambda: b"RIFF\x24\0\0\0WEBPAVI LIST" + bytes(50)),
    File("heic-head-on-nothing", "a HEIC's head on nothing", UNREADABLE, lambda: ftyp(b"heic", b"mif1", b"heic")),
    # cut short and damaged
    *(File(f"cut-{kind}{name}-{kept}".lower(), f"a {kind}{name.replace('-', ' ')} cut short at {kept if kept < 0 else f'{kept:.0%}'}", UNREADABLE, cut(kind, kept, **options))
      for kind, name, options in (("JPEG", "", {}), ("JPEG", "-progressive", {"progressive": True}), ("PNG", "", {}),
                                  ("WebP", "", {}), ("WebP", "-lossless", {"lossless": True}), ("HEIF", "", {}))
      for kept in (0.02, 0.5, 0.97, -1)),
    File("png-checksum", "a PNG with a wrong checksum", UNREADABLE, lambda: small("PNG")[:-60] + b"\0" + small("PNG")[-59:]),
    File("png-no-size", "a PNG of no width", UNREADABLE, lambda: png(0, 10)),
    File("jpeg-no-size", "a JPEG of no height", UNREADABLE, lambda: told_size(64, 0)),
    File("jpeg-many-frames", "a JPEG that says its size fifty times", UNREADABLE, repeated_frame_headers),
    # large by what they say
    File("png-bomb", "a PNG of 2^31 x 2^31 pixels", TOO_LARGE, lambda: png(2**31 - 1, 2**31 - 1)),
    File("png-bomb-square", "a PNG of 100,000 x 100,000 pixels", TOO_LARGE, lambda: png(100_000, 100_000)),
    File("png-bomb-thin", "a PNG of 1 x 2^31 pixels", TOO_LARGE, lambda: png(1, 2**31 - 1)),
    File("png-one-over", "a PNG of one pixel over the limit", TOO_LARGE, lambda: png(64_000_001, 1)),
    File("png-lies", "a PNG of 64 megapixels that holds none", UNREADABLE, lambda: png(8000, 8000), seconds=3, megabytes=700),
    File("jpeg-bomb", "a JPEG of 65,500 x 65,500 pixels", TOO_LARGE, lambda: told_size(65_500, 65_500)),
    File("jpeg-bomb-progressive", "a progressive one", TOO_LARGE, lambda: told_size(65_500, 65_500, progressive=True)),
    File("webp-bomb", "a WebP of 16,383 x 16,383 pixels", TOO_LARGE, lambda: lossless(16_383, 16_383)),
    File("webp-bomb-canvas", "a WebP whose canvas alone is that large", TOO_LARGE, lambda: riff(vp8x(16_384, 16_384), frame())),
    File("webp-bomb-between", "a WebP under the limit of Pillow, and over ours", TOO_LARGE, lambda: lossless(12_000, 12_000)),
    File("heic-bomb", "a HEIC of 30,000 x 30,000 pixels", TOO_LARGE, lambda: heic_of(30_000, 30_000)),
    File("heic-lies", "a HEIC that is smaller than it says", UNREADABLE, lambda: heic_of(2000, 2000)),
    File("heic-crop", "a HEIC that shows a few pixels cut out of 900 megapixels", TOO_LARGE, lambda: cropped_heic(30_000, 30_000, 32)),
    File("heic-small-crop", "a small one, cut", ACCEPTED, lambda: cropped_heic(64, 64, 32)),
    # large by what they hold
    File("jpeg-scans", "a JPEG with hours of scans", UNREADABLE, lambda: many_scans(100)),
    File("jpeg-scans-20mb", "as many scans as 20 MB hold", UNREADABLE, lambda: many_scans(100_000), megabytes=100),
    File("jpeg-segments", "5 million empty segments", UNREADABLE, lambda: in_jpeg(b"\xff\xe0\0\2" * 5_000_000), megabytes=100),
    File("jpeg-comments", "a million comments", UNREADABLE, lambda: in_jpeg(segment(0xFE, b"a") * 1_000_000), megabytes=100),
    File("jpeg-stuffing", "20 MB of stuffed bytes in front of the picture", UNREADABLE, lambda: in_jpeg(b"\xff\0" * 10_000_000), megabytes=100),
    File("jpeg-fill", "20 MB of fill bytes", UNREADABLE, lambda: in_jpeg(b"\xff" * 20_000_000), megabytes=100),
    File("jpeg-fill-alone", "50 kB of fill bytes, and nothing behind them", UNREADABLE, lambda: b"\xff\xd8" + b"\xff" * 50_000),
    File("jpeg-fill-behind-scans", "20 MB of fill bytes behind a progressive picture", UNREADABLE, lambda: many_scans(20)[:-2] + b"\xff" * 20_000_000, seconds=3, megabytes=150),
    File("png-chunks", "1.6 million empty chunks", UNREADABLE, lambda: with_png_chunk(small("PNG"), b"juNk", b"")[:33] + chunk(b"juNk", b"") * 1_600_000, megabytes=100),
    File("png-empty-pixels", "1.6 million chunks of no pixels", UNREADABLE, lambda: small("PNG")[:33] + chunk(b"IDAT", b"") * 1_600_000 + small("PNG")[33:], megabytes=100),
    File("png-more-pixels", "50 MB of pixels behind the last one", ACCEPTED, lambda: png(8, 8, pixels=(b"\0" + bytes(24)) * 8 + bytes(50_000_000))),
    File("png-text-bomb", "text that unpacks to 50 MB", UNREADABLE, lambda: with_png_chunk(small("PNG"), b"zTXt", b"a\0\0" + BOMB_50MB)),
    File("png-itxt-bomb", "international text that does", UNREADABLE, lambda: with_png_chunk(small("PNG"), b"iTXt", b"a\0\1\0\0\0" + BOMB_50MB)),
    File("png-text-bombs", "many texts of 1 MB each", UNREADABLE, lambda: small("PNG")[:33] + b"".join(chunk(b"zTXt", b"%d\0\0" % n + BOMB_1MB) for n in range(200)) + small("PNG")[33:], megabytes=200),
    File("icc-bomb", "a colour profile that unpacks to 50 MB", UNREADABLE, lambda: with_png_chunk(small("PNG"), b"iCCP", b"a\0\0" + BOMB_50MB)),
    File("icc-bombs", "20,000 colour profiles of 1 MB each", UNREADABLE, lambda: small("PNG")[:33] + chunk(b"iCCP", b"a\0\0" + BOMB_1MB) * 20_000 + small("PNG")[33:], megabytes=100),
    File("icc-large", "a JPEG with a colour profile of 10 MB that is none", ACCEPTED, lambda: small(icc_profile=bytes(10_000_000)), megabytes=100),
    File("webp-chunks", "2 million empty chunks", ACCEPTED, lambda: riff(vp8x(64, 64), frame(), b"juNk\0\0\0\0" * 2_000_000), seconds=3, megabytes=300),
    File("heic-boxes", "2 million empty boxes", UNREADABLE, lambda: small("HEIF") + b"\0\0\0\x08free" * 2_000_000, seconds=3, megabytes=300),
    # metadata
    File("exif-bomb-png", "EXIF of 60,000 entries, each as long as the file", ACCEPTED, lambda: with_png_chunk(small("PNG"), b"eXIf", directory(60_000, 2_000_000))),
    File("exif-bomb-webp", "the same in a WebP", ACCEPTED, lambda: small("WEBP", exif=directory(60_000, 2_000_000))),
    File("exif-bomb-jpeg", "the same in the segments of a JPEG", ACCEPTED,
         lambda: in_jpeg(*(segment(0xE1, b"Exif\0\0" + directory(60_000, 2_000_000)[at : at + 65_000]) for at in range(0, 2_000_000, 65_000)))),
    File("exif-giant-values", "EXIF values of 4 GB", ACCEPTED, lambda: in_jpeg(segment(0xE1, b"Exif\0\0" + directory(2000, 60_000, 2**32 - 1)))),
    File("exif-circle", "an EXIF directory that is its own next", ACCEPTED, lambda: in_jpeg(segment(0xE1, b"Exif\0\0II*\0\x08\0\0\0\0\0\x08\0\0\0"))),
    File("exif-broken", "EXIF that ends in the midst of its directory", ACCEPTED, lambda: small(exif=exif(6)[:-9])),
    File("orientation-99", "an orientation that does not exist", ACCEPTED, lambda: small(exif=exif(99))),
    File("orientation-twice", "EXIF twice, with two orientations", ACCEPTED, lambda: in_jpeg(segment(0xE1, exif(6)), segment(0xE1, exif(3)))),
    File("orientation-xmp", "another orientation in XMP", ACCEPTED, lambda: small(xmp=b"<x tiff:Orientation='9' tiff:Orientation=\"8\"/>")),
    File("xmp-large", "10 MB of XMP in a PNG", ACCEPTED, lambda: with_png_chunk(small("PNG"), b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + b"tiff:Orientation" * 600_000), megabytes=100),
    # several pictures
    File("animated-webp", "a moving WebP", UNSUPPORTED, lambda: animated("WEBP")),
    File("animated-png", "a moving PNG", UNSUPPORTED, apng),
    File("heic-pictures", "a HEIC of several pictures", UNSUPPORTED, lambda: animated("HEIF")),
    File("heic-moving", "a HEIC sequence", UNSUPPORTED, lambda: ftyp(b"mif1", b"heic", b"hevc")),
    File("multi-picture", "a JPEG of several pictures: the first counts", ACCEPTED, multi_picture),
    # odd but right
    File("wide-strip", "a strip 100,000 pixels wide", ACCEPTED, strip(100_000, 1)),
    File("wide-strip-thick", "one of 60 megapixels", ACCEPTED, strip(100_000, 600), seconds=10, megabytes=700),
    File("tall-strip", "a strip 60,000 pixels high", ACCEPTED, strip(1, 60_000, "JPEG")),
    File("one-pixel", "a single pixel", ACCEPTED, strip(1, 1)),
    File("cmyk", "a JPEG in inks", ACCEPTED, lambda: encoded(scene(64, 64).convert("CMYK"))),
    File("ycck", "a JPEG in Photoshop's inks", ACCEPTED, lambda: ycck((200, 60, 30))),
    File("sixteen-bits", "a PNG of 16 bits a colour, with transparency", ACCEPTED,
         lambda: png(32, 32, depth=16, colour=6, pixels=(b"\0" + struct.pack(">4H", 1, 2, 3, 4) * 32) * 32)),
    File("palette-alpha", "a palette with transparency", ACCEPTED, lambda: encoded(scene(64, 64).quantize(16), "PNG", transparency=b"\x80\0\xff")),
    File("palette-short", "a palette of fewer colours than the pixels name", ACCEPTED, lambda: png(8, 8, colour=3, pixels=(b"\0" + b"\xff" * 8) * 8, extra=chunk(b"PLTE", b"\1\2\3"))),
    File("one-bit", "a PNG of one bit", ACCEPTED, lambda: encoded(Image.new("1", (64, 64), 1), "PNG")),
]  # fmt: skip
