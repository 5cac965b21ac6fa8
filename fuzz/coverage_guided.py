"""What our coverage-guided fuzzers share: how libFuzzer (through atheris) is told its bounds, and where finds are kept.

A fuzzer gives seeds and a function that must return for any bytes. Everything that was found once lies in
`fuzz/corpus/NAME` and is tried first.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import atheris

ROOT = Path(__file__).parents[1]
CORPUS = Path(__file__).parent / "corpus"
INPUT_S = 8
"""One input may take no longer."""

Mutate = Callable[[bytes, int, int], bytes]


def known(name: str) -> list[bytes]:
    """The inputs that were found before."""
    return [path.read_bytes() for path in sorted((CORPUS / name).glob("*"))]


def fuzz(
    name: str,
    try_one: Callable[[bytes], None],
    *,
    seeds: Iterable[bytes],
    words: Iterable[bytes] = (),
    max_len: int,
    memory_mb: int,
    mutate: Mutate | None = None,
) -> None:
    """Feed `try_one` for `--seconds`, or `--runs` times. Does not return: the process ends with 0, or with what broke.

    Args:
        words: bytes that belong to the language, for the dictionary.
        max_len: of an input, in bytes.
        memory_mb: of the whole process.
        mutate: bytes, longest length and seed to other bytes; libFuzzer's own by default.
    """
    parser = argparse.ArgumentParser(prog=f"python -m fuzz.{name}")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--runs", type=int, default=-1)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    finds = ROOT / "build" / "fuzz" / name
    finds.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"fuzz-{name}-") as folder:
        corpus = Path(folder) / "corpus"
        corpus.mkdir()
        for number, seed in enumerate([*known(name), *seeds]):
            (corpus / f"{number:04}").write_bytes(seed)
        dictionary = Path(folder) / "words"
        dictionary.write_text("".join('"' + "".join(f"\\x{byte:02x}" for byte in word) + '"\n' for word in words))
        options = [
            f"-max_total_time={asked.seconds:.0f}",
            f"-runs={asked.runs}",
            f"-seed={asked.seed}",
            f"-max_len={max_len}",
            f"-timeout={INPUT_S}",
            f"-rss_limit_mb={memory_mb}",
            *([f"-dict={dictionary}"] if dictionary.stat().st_size else []),  # an empty one ends the run
            f"-artifact_prefix={finds}/",
            "-print_final_stats=1",
            "-verbosity=1",
        ]
        atheris.Setup([sys.argv[0], *options, str(corpus)], try_one, custom_mutator=mutate)
        atheris.Fuzz()
