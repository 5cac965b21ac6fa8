"""A short run of each coverage-guided fuzzer with a fixed seed. The long ones are `make fuzz`."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
APART = ["sh", "-c", '"$@"; exit $?', "apart"]
"""Run from a shell: a process begins with the peak of memory of the one that started it, and this one is large."""


@pytest.mark.parametrize(("name", "runs"), [("decoder", 1200), ("parsers", 6000)])
def test_a_short_run_finds_nothing(name: str, runs: int) -> None:
    command = [*APART, sys.executable, "-m", f"fuzz.{name}", "--runs", str(runs), "--seconds", "300", "--seed", "5"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-4000:]
    executed = re.search(r"number_of_executed_units: (\d+)", done.stderr)
    assert executed
    assert int(executed[1]) >= runs


def test_a_find_ends_the_run_with_an_error(tmp_path: Path) -> None:
    code = (
        "import sys; from fuzz import coverage_guided as it; from pathlib import Path\n"
        f"it.ROOT = Path({str(tmp_path)!r})\n"
        "def check(data):\n    assert data != b'seed'\n"
        "it.fuzz('nothing', check, seeds=[b'seed'], max_len=9, memory_mb=500)"
    )
    done = subprocess.run(
        [*APART, sys.executable, "-c", code, "--runs", "10"], cwd=ROOT, capture_output=True, timeout=100
    )
    assert done.returncode != 0
    assert [path.read_bytes() for path in (tmp_path / "build" / "fuzz" / "nothing").iterdir()] == [b"seed"]
