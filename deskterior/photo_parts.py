"""What a photo's file is made of, read before and beside Pillow: how many parts it has, and which way up it is.

Pillow walks through the parts of a file one by one in Python, keeps them and unpacks some, so 20 MB of tiny ones held a
core for 10 to 60 s and 900 MB; and of damaged EXIF it warns on the console, in the file's own numbers. Decoding is left
to `deskterior.decoding`.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping

from deskterior.errors import PhotoUnreadable

MAX_SCANS = 64
"""A progressive JPEG has about 10. At 64 megapixels a scan takes 95 bytes and 56 ms: 20 MB can hold hours of them."""
MAX_SEGMENTS = 2_000
"""Of a JPEG in front of its pixels: a photo has about 20, and a colour profile of 20 MB would be 320."""
MAX_JUNK = 64 * 1024
"""Bytes between those segments, which belong to none of them."""
MAX_CHUNKS = 50_000
"""Of a PNG: usual writers cut 20 MB of pixels into 2,500."""
MAX_WORDS = 256
"""Chunks of a PNG that hold no pixels. Each may unpack to 1 MB."""

# Of a row of fill bytes (0xff) the last one begins the marker: `\xff+` would try each of them, to the end of the row.
_MARKER = re.compile(rb"\xff([^\0\xd0-\xd7\xff])")
_ALONE = frozenset({0x01, 0xD8, 0xD9})
_START_OF_SCAN = 0xDA
_ORIENTATION = 0x0112
_VALUE = {1: "B", 3: "H", 4: "I"}  # the numbers among TIFF's types
_EXIF = re.compile(rb"\A(?:Exif\0\0)+")
_XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([1-8])')


def check_jpeg(data: bytes) -> None:
    """Raises PhotoUnreadable for a JPEG in more parts than any photo has."""
    at, segments, junk = 2, 0, 0
    while marker := _MARKER.search(data, at):
        junk += marker.end() - at - 2
        segments += 1
        if segments > MAX_SEGMENTS or junk > MAX_JUNK:
            raise PhotoUnreadable("The JPEG has more parts than a photo: save it again")
        if (code := marker[1][0]) == _START_OF_SCAN:
            break
        at = marker.end() + (0 if code in _ALONE else max(int.from_bytes(data[marker.end() : marker.end() + 2]), 2))
    else:
        if len(data) - at > MAX_JUNK:
            raise PhotoUnreadable("The JPEG has more parts than a photo: save it again")
    # The cheap looks come first: most photos have one scan, and of most others the bytes of a marker are few. Those may
    # also lie in a video behind the picture, so a large number of them is counted properly.
    if scans(data, 1) > 1 and data.count(b"\xff\xda") > MAX_SCANS and scans(data, MAX_SCANS) > MAX_SCANS:
        raise PhotoUnreadable(f"The JPEG has more than {MAX_SCANS} scans: save it again")


def scans(data: bytes, enough: int) -> int:
    """How many scans of a JPEG will be decoded (ITU-T T.81, B.1), counted to one over `enough`: 10 ms a megabyte."""
    at, found, components = 2, 0, 0
    while found <= enough and (marker := _MARKER.search(data, at)):
        code, at = marker[1][0], marker.end()
        if code == 0xD9:  # end of image; videos and other pictures may follow it
            break
        if code in _ALONE:
            continue
        if code in {0xC0, 0xC1, 0xC9} and at + 7 < len(
            data
        ):  # sequential: one scan is all where it has every component
            components = data[at + 7]
        elif code == _START_OF_SCAN and at + 2 < len(data):
            if data[at + 2] == components:
                return 1
            found += 1
        at += max(int.from_bytes(data[at : at + 2]), 2)
    return found


def check_png(data: bytes) -> None:
    """Raises PhotoUnreadable for a PNG in more parts than any photo has, or without its end."""
    at, chunks, words = 8, 0, 0
    while at + 12 <= len(data):
        name = data[at + 4 : at + 8]
        chunks += 1
        words += name not in {b"IDAT", b"fdAT", b"fcTL"}
        if chunks > MAX_CHUNKS or words > MAX_WORDS:
            raise PhotoUnreadable("The PNG has more parts than a photo: save it again")
        if name == b"IEND":
            return
        at += 12 + int.from_bytes(data[at : at + 4])
    raise PhotoUnreadable("The PNG is cut short: save or upload it again")


def orientation(info: Mapping[str | tuple[int, int], object]) -> int:
    """EXIF orientation, 1 to 8, out of what Pillow read; what is broken says nothing, and 1 is upright.

    EXIF first, XMP where that says nothing, as Pillow does.
    """
    exif = info.get("exif")
    if exif is None and isinstance(text := info.get("Raw profile type exif"), str):  # ImageMagick's PNGs
        try:
            exif = bytes.fromhex("".join(text.split("\n")[3:]))
        except ValueError:
            exif = None
    if isinstance(exif, bytes) and (found := _exif_orientation(_EXIF.sub(b"", exif))):
        return found
    xmp = info.get("XML:com.adobe.xmp") or info.get("xmp") or b""
    if isinstance(xmp, str):
        xmp = xmp.encode("utf-8", "replace")
    found_in_xmp = _XMP_ORIENTATION.search(xmp) if isinstance(xmp, bytes) else None
    return int(found_in_xmp[1]) if found_in_xmp else 1


def _exif_orientation(tiff: bytes) -> int:
    """The orientation in the first directory of a TIFF; 0 where there is none."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None or len(tiff) < 8:
        return 0
    (at,) = struct.unpack_from(order + "I", tiff, 4)
    if at + 2 > len(tiff):
        return 0
    (entries,) = struct.unpack_from(order + "H", tiff, at)
    for entry in range(at + 2, min(at + 2 + 12 * entries, len(tiff) - 11), 12):
        tag, kind, count = struct.unpack_from(order + "HHI", tiff, entry)
        if tag == _ORIENTATION and count == 1 and kind in _VALUE:
            (value,) = struct.unpack_from(order + _VALUE[kind], tiff, entry + 8)
            return int(value) if 1 <= value <= 8 else 0
    return 0
