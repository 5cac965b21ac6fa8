"""Coverage-guided fuzzing of the photo decoder: whatever the bytes, a photo error or an array of the right shape.

Its mutations know what files are made of (segments, chunks, boxes), so that most get past lengths and checksums.
What is instrumented is Python: ours, and Pillow's. Time and memory of an input are bounded, so a bomb is a find too.
"""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Callable, Iterator

import atheris

with atheris.instrument_imports(
    include=["deskterior.decoding", "deskterior.photo_parts", "deskterior.heic_parts", "PIL", "pillow_heif"]
):
    import pillow_heif
    from PIL import Image

    from deskterior.decoding import decode, inspect, memory_needed, scaled_jpeg
    from deskterior.errors import PhotoError

from fuzz.coverage_guided import fuzz

MAX_PIXELS = 2_000_000
MAX_LEN = 64 * 1024
MEMORY_MB = 600
PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"

WORDS = [
    *(b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"iCCP", b"eXIf", b"zTXt", b"iTXt", b"acTL", b"fcTL", b"fdAT"),
    *(b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF", b"EXIF", b"XMP ", b"ICCP"),
    *(b"ftyp", b"heic", b"mif1", b"meta", b"iinf", b"iloc", b"iprp", b"ipco", b"ispe", b"hvcC"),
    *(b"irot", b"imir", b"grid"),
    *(b"\xff\xc0", b"\xff\xc2", b"\xff\xc4", b"\xff\xda", b"\xff\xdb", b"\xff\xdd", b"\xff\xe1", b"\xff\xe2"),
    *(b"Exif\0\0", b"II*\0", b"MM\0*", b"\x12\x01\x03\0", b"ICC_PROFILE\0\1\1", b"Adobe\0d", b"tiff:Orientation=\"6"),
]  # fmt: skip


def check(data: bytes) -> None:
    """Raises for anything but a photo error or a picture as promised."""
    try:
        info = inspect(data, MAX_PIXELS)
        assert 0 < info.width * info.height <= MAX_PIXELS
        assert memory_needed(data, 32, MAX_PIXELS) > 0
    except PhotoError:
        info = None
    try:
        pixels = decode(data, 32, MAX_PIXELS)
    except PhotoError:
        return
    assert info is not None, "decoded, though its header was refused"
    assert pixels.shape == (32, 32, 3)
    assert pixels.dtype == "uint8"
    small = Image.open(io.BytesIO(scaled_jpeg(data, 48, MAX_PIXELS)))
    assert small.mode == "RGB"
    assert max(small.size) <= 48


def seeds() -> Iterator[bytes]:
    """A small picture of every type, with what may hang on it."""
    pillow_heif.register_heif_opener()
    tags = Image.Exif()
    tags[0x0112] = 6
    picture = Image.effect_mandelbrot((40, 28), (-2, -1.5, 1, 1.5), 50).convert("RGB")
    more = {"exif": tags.tobytes(), "icc_profile": b"i" * 200, "xmp": b'<x tiff:Orientation="6"/>'}
    alpha = picture.convert("RGBA")
    alpha.putalpha(100)
    deep = Image.frombytes("I;16", (40, 28), bytes(range(256)) * 8 + bytes(192))
    for kind, image, options in (
        ("JPEG", picture, {}),
        ("JPEG", picture, more | {"comment": b"words"}),
        ("JPEG", picture, {"progressive": True, "subsampling": 0}),
        ("JPEG", picture, {"restart_marker_blocks": 2}),
        ("JPEG", picture.convert("L"), {}),
        ("JPEG", picture.convert("CMYK"), {}),
        ("MPO", picture, {"save_all": True, "append_images": [picture]}),
        ("PNG", picture, {"exif": more["exif"], "icc_profile": more["icc_profile"]}),
        ("PNG", alpha, {}),
        ("PNG", picture.quantize(7), {"transparency": 3}),
        ("PNG", picture.convert("LA"), {}),
        ("PNG", picture.convert("1"), {}),
        ("PNG", deep, {}),
        ("PNG", picture, {"save_all": True, "append_images": [alpha.convert("RGB")]}),
        ("WEBP", picture, more),
        ("WEBP", alpha, {"lossless": True}),
        ("WEBP", alpha, {"quality": 20}),
        ("WEBP", picture, {"save_all": True, "append_images": [picture.rotate(90)]}),
        ("HEIF", picture, {"exif": more["exif"]}),
        ("HEIF", alpha, {}),
        ("HEIF", picture.convert("L"), {}),
        ("HEIF", picture.resize((256, 192)), {"tile_size": 64}),
        ("GIF", picture, {}),
    ):
        out = io.BytesIO()
        image.save(out, kind, **options)
        yield out.getvalue()


def parts(data: bytes) -> list[bytes]:
    """A file in its parts; the last may be any rest. `whole` puts them together again."""
    if data.startswith(PNG):
        return _blocks(data, 8, lambda at: 12 + int.from_bytes(data[at : at + 4]))
    if data.startswith(b"RIFF"):
        return _blocks(data, 12, lambda at: 8 + (int.from_bytes(data[at + 4 : at + 8], "little") + 1) // 2 * 2)
    if data.startswith(JPEG):
        return _blocks(data, 2, lambda at: 2 + int.from_bytes(data[at + 2 : at + 4]) if data[at] == 0xFF else len(data))
    if data[4:8] == b"ftyp":
        return _blocks(data, 0, lambda at: int.from_bytes(data[at : at + 4]))
    return [data]


def _blocks(data: bytes, at: int, length: Callable[[int], int]) -> list[bytes]:
    """`data` from `at` on in blocks, each as long as `length` says at its beginning; what is in front comes first."""
    found = [data[:at]]
    while at + 4 <= len(data) and len(found) < 200:
        end = at + max(4, min(length(at), len(data) - at))
        found.append(data[at:end])
        at = end
    return [*found, data[at:]]


def whole(found: list[bytes]) -> bytes:
    """The parts as one file, with lengths and checksums put right."""
    head, rest = found[0], found[1:]
    if head.startswith(PNG):
        return head + b"".join(_chunk(part) if len(part) >= 12 else part for part in rest)
    if head.startswith(b"RIFF"):
        body = b"".join(_riff(part) if len(part) >= 8 else part for part in rest)
        return b"RIFF" + struct.pack("<I", len(body) + 4) + head[8:12] + body
    return b"".join(found)


def _chunk(part: bytes) -> bytes:
    name, body = part[4:8], part[8:-4]
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def _riff(part: bytes) -> bytes:
    body = part[8:]
    return part[:4] + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """Another file: one part changed, doubled, dropped, moved or put in from elsewhere; or the bytes as they come."""
    rng = random.Random(seed)
    found = parts(data)
    if rng.random() < 0.3 or len(found) < 3:
        return bytes(atheris.Mutate(data, max_size))
    at = rng.randrange(1, len(found))
    match rng.randrange(6):
        case 0:
            del found[at]
        case 1:
            found.insert(at, found[rng.randrange(1, len(found))])
        case 2:
            found[at : at + 1] = [found[at]] * rng.choice([2, 3, 20, 300])
        case 3:
            found[at] = _unpacked_and_changed(found[at], rng)
        case _:
            found[at] = bytes(atheris.Mutate(found[at], len(found[at]) + 64))
    return whole(found)[:max_size]


def _unpacked_and_changed(part: bytes, rng: random.Random) -> bytes:
    """A packed part of a PNG, changed within; or a number of any part at one of its limits."""
    if part[4:8] == b"IDAT" and len(part) > 12:
        try:
            pixels = bytearray(zlib.decompressobj().decompress(part[8:-4], 1 << 16))
        except zlib.error:
            pixels = bytearray()
        for _ in range(rng.randrange(1, 8)):
            if pixels:
                pixels[rng.randrange(len(pixels))] = rng.randrange(256)
        return part[:8] + zlib.compress(bytes(pixels), 1) + part[-4:]
    changed = bytearray(part)
    size = rng.choice([1, 2, 4])
    if len(changed) >= size:
        at = rng.randrange(len(changed) - size + 1)
        limit = rng.choice([0, 1, 2 ** (8 * size) - 1, 2 ** (8 * size - 1), 2 ** (8 * size - 1) - 1, len(part) % 256])
        changed[at : at + size] = limit.to_bytes(size, rng.choice(["big", "little"]))
    return bytes(changed)


def main() -> None:
    fuzz("decoder", check, seeds=seeds(), words=WORDS, max_len=MAX_LEN, memory_mb=MEMORY_MB, mutate=mutate)


if __name__ == "__main__":
    main()
