"""Prometheus' own tool, where `make prometheus` has put it, and what it says of rules and series."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deskterior.config import ROOT

RULES = [ROOT / "deploy" / "prometheus" / name for name in ("rules.yml", "alerts.yml")]
UNPACKED = ROOT / ".venv" / "prometheus" / "usr" / "bin"


def tool(name: str) -> str:
    """The path of `promtool` or `prometheus`. Skips the test where it is not installed, but never in CI."""
    found = shutil.which(name) or shutil.which(name, path=str(UNPACKED))
    if found is None:
        if os.environ.get("CI"):
            pytest.fail(f"there is no {name}: `make prometheus` unpacks Debian's package, and CI does not do without")
        pytest.skip(f"no {name} here: `make prometheus` unpacks Debian's package")
    return found


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [tool("promtool"), *map(str, arguments)],
        check=False,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def hold(folder: Path, tests: list[dict[str, Any]], every: str = "1m") -> None:
    """Run promtool's unit tests over our rules; fails with what it says."""
    file = folder / "tests.yml"
    wanted = {"rule_files": [str(path) for path in RULES], "evaluation_interval": every, "tests": tests}
    file.write_text(yaml.safe_dump(wanted))
    ended = promtool("test", "rules", file)
    assert ended.returncode == 0, ended.stdout[-4000:]


def series(given: dict[str, str]) -> list[dict[str, str]]:
    return [{"series": name, "values": values} for name, values in given.items()]


def firing(alert: str, count: int, at: str) -> dict[str, Any]:
    """That so many alerts of a name fire at a time."""
    samples = [{"labels": "{}", "value": count}] if count else []
    query = f'count(ALERTS{{alertname="{alert}", alertstate="firing"}})'
    return {"expr": query, "eval_time": at, "exp_samples": samples}
