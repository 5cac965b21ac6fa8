"""`python -m checks.audit`: no dependency has a known hole (pip-audit, by the advisories that PyPI publishes).

Asked once a day for each set of requirements. Without the network, or where a mirror does not serve advisories, it says
in one line that nothing was checked, and does not fail: a registry that is down must not stop work, or CI.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ("requirements.txt", "requirements-gpu.txt", "requirements-serve.txt")
ADVISORIES = "https://pypi.org/pypi/{}/{}/json"
WITHIN_S = 300
ACCEPTED: dict[str, str] = {}
"""Advisories that do not concern us, with the reason: `{"PYSEC-2026-1": "we do not call it"}`."""


def served() -> bool:
    """Whether advisories can be had here. A mirror answers 404, and pip-audit then calls every package fine."""
    name, version = re.findall(r"^([\w.-]+)==([\w.]+)", (ROOT / REQUIREMENTS[0]).read_text(), re.MULTILINE)[0]
    try:
        answer = httpx.get(ADVISORIES.format(name, version), timeout=5, follow_redirects=True)
        return "vulnerabilities" in answer.raise_for_status().json()
    except (httpx.HTTPError, ValueError):
        return False


def stamp() -> Path:
    """A file that says that these very requirements were found fine today."""
    content = b"".join((ROOT / name).read_bytes() for name in REQUIREMENTS)
    digest = hashlib.sha256(content + repr(ACCEPTED).encode()).hexdigest()[:16]
    return ROOT / ".cache" / f"audited-{datetime.now(UTC):%Y-%m-%d}-{digest}"


def judge(report: str) -> tuple[list[str], list[str], int]:
    """Of pip-audit's JSON: packages with a hole, packages nobody could tell of, and how many were looked at."""
    holes, unknown, looked_at = [], [], 0
    for package in json.loads(report)["dependencies"]:
        if "skip_reason" in package:
            unknown.append(str(package["name"]))
            continue
        looked_at += 1
        for hole in package["vulns"]:
            names = {hole["id"], *hole.get("aliases", [])}
            if not names & set(ACCEPTED):
                mended = ", ".join(hole.get("fix_versions", [])) or "no version yet"
                holes.append(f"{package['name']} {package['version']}: {hole['id']}, mended in {mended}")
    return sorted(set(holes)), sorted(set(unknown)), looked_at


def main() -> int:
    if stamp().is_file():
        return 0
    if not served():
        print("checks.audit: NOT CHECKED: PyPI's advisories cannot be reached from here; dependencies were not audited")
        return 0
    files = [part for name in REQUIREMENTS for part in ("-r", name)]
    command = [sys.executable, "-m", "pip_audit", *files, "--disable-pip", "--require-hashes", "-f", "json"]
    try:
        done = subprocess.run(  # noqa: S603
            [*command, "--progress-spinner", "off"], cwd=ROOT, capture_output=True, text=True, timeout=WITHIN_S
        )
        holes, unknown, looked_at = judge(done.stdout)
    except (subprocess.TimeoutExpired, ValueError, KeyError):
        print("checks.audit: NOT CHECKED: pip-audit came to no end or no result; run it by hand to see why")
        return 0
    for line in holes:
        print(line)
    if unknown:  # a package that PyPI does not know, or the network went away
        print(f"checks.audit: NOT CHECKED: {len(unknown)} of {looked_at + len(unknown)}: {', '.join(unknown[:5])} …")
    if holes:
        print(
            "checks.audit: take the newer version (`make lock LOCK=--upgrade`), or say in ACCEPTED why it is no matter"
        )
        return 1
    if not unknown:
        stamp().parent.mkdir(exist_ok=True)
        stamp().touch()
    return 0


if __name__ == "__main__":
    sys.exit(main())
