"""`python -m fuzz [--seconds N] [--only NAME ...]`: run every fuzzer of this folder for its share of the time.

A fuzzer is a module here, run as `python -m fuzz.NAME --seconds N --seed N`. It exits with 0 when it found nothing, and
says on the way out what it did. What it found it leaves in a file that it names. This runs them one after another.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
GRACE_S = 120
"""For a fuzzer to start, to end, and to tell; then it hangs, which is a finding too."""


def targets() -> list[str]:
    return sorted(path.stem for path in HERE.glob("[a-z]*.py") if "def main(" in path.read_text())


def run(name: str, seconds: float, seed: int) -> bool:
    """Whether the fuzzer found nothing."""
    print(f"== fuzz: {name} for {seconds:.0f} s", flush=True)
    command = [sys.executable, "-m", f"fuzz.{name}", "--seconds", f"{seconds:.0f}", "--seed", str(seed)]
    try:
        return subprocess.run(command, cwd=HERE.parent, timeout=seconds + GRACE_S).returncode == 0  # noqa: S603
    except subprocess.TimeoutExpired:
        print(f"== fuzz: {name} did not end", flush=True)
        return False


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600, help="for all together")
    parser.add_argument("--only", nargs="+", choices=targets(), default=targets(), metavar="NAME", help=str(targets()))
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3)), help="what they begin with")
    asked = parser.parse_args()
    print(f"== fuzz: seed {asked.seed}", flush=True)
    failed = [name for name in asked.only if not run(name, asked.seconds / len(asked.only), asked.seed)]
    print(f"== fuzz: {'FOUND SOMETHING: ' + ', '.join(failed) if failed else 'nothing found'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
