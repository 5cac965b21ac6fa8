"""Coverage-guided fuzzing of all that reads text from outside (`fuzz/outside.py`).

The first byte of an input chooses the parser, the rest is what it is given.
"""

from __future__ import annotations

import atheris

with atheris.instrument_imports(include=["deskterior", "runners.wire"]):
    from fuzz.outside import PARSERS, SEEDS

from fuzz.coverage_guided import fuzz

MAX_LEN = 4096
MEMORY_MB = 600


def check(data: bytes) -> None:
    if data:
        PARSERS[data[0] % len(PARSERS)](data[1:])


def main() -> None:
    seeds = [bytes([PARSERS.index(parser)]) + data for parser, data in SEEDS]
    words = [
        b"http://",
        b"127.0.0.1",
        b"[::1]",
        b"\\",
        b"%2e",
        "。".encode(),
        b"&amp;",
        b"&#0;",
        b"nan",
        b"inf",
        b"1e999",
    ]
    fuzz("parsers", check, seeds=seeds, words=words, max_len=MAX_LEN, memory_mb=MEMORY_MB)


if __name__ == "__main__":
    main()
