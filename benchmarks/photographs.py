"""Photos of the sizes that phones take, made from noise and light, and a server of them on loopback.

`python -m benchmarks.photographs FOLDER` serves the files of a folder and prints its port.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import numpy as np
from PIL import Image

SIZES = {"1080p": (1920, 1080), "12mp": (4032, 3024)}
VARIANTS = 4


def make(folder: Path) -> dict[str, list[Path]]:
    """Write JPEGs, `VARIANTS` of each size, if they are not there yet. Always the same pixels."""
    folder.mkdir(parents=True, exist_ok=True)
    made: dict[str, list[Path]] = {}
    for name, (width, height) in SIZES.items():
        for variant in range(VARIANTS):
            path = folder / f"{name}-{variant}.jpg"
            if not path.exists():
                _photograph(width, height, variant).save(path, quality=88)
            made.setdefault(name, []).append(path)
    return made


def _photograph(width: int, height: int, seed: int) -> Image.Image:
    """Large shapes, edges and sensor noise in the proportions of a photo: about 0.3 bytes a pixel as JPEG."""
    random = np.random.default_rng(seed)
    shapes = random.integers(0, 256, (9, 12, 3), np.uint8)
    picture = Image.fromarray(shapes).resize((width // 8, height // 8), Image.Resampling.NEAREST)
    light = Image.fromarray(random.integers(96, 256, (3, 4, 3), np.uint8)).resize(
        picture.size, Image.Resampling.BICUBIC
    )
    lit = Image.blend(picture, light, 0.6).resize((width, height), Image.Resampling.BICUBIC)
    noise = random.normal(0, 6, (height, width, 1)).astype(np.float32)
    return Image.fromarray(np.clip(np.asarray(lit, np.float32) + noise, 0, 255).astype(np.uint8))


async def serve(files: dict[str, bytes]) -> None:
    """Answer GET by path from memory until killed."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                request = await reader.readuntil(b"\r\n\r\n")
                body = files.get(request.split(b" ", 2)[1].decode(), b"")
                writer.write(
                    f"HTTP/1.1 {200 if body else 404} X\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
                )
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve({f"/{path.name}": path.read_bytes() for path in Path(sys.argv[1]).iterdir()}))
