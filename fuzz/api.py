"""Fuzzing the API: Schemathesis against a whole service with keys, by its own OpenAPI document, stateful too.

Whatever is sent, the answer is one that the document tells of, an error is a named problem, nothing hangs, and the
memory of the service does not grow. `python -m fuzz.api --seconds 600 --seed 1`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import httpx
import psutil

from demo.running import ROOT, photo_server, service
from deskterior.gateway.keys import Entry

REQUEST_TIMEOUT_S = 30
"""An answer that takes longer is a hang: the waits of /v1/generate are cut to less."""
WARM_UP_SHARE = 0.4
"""Of the time passes before memory is measured: pools and caches fill, code is loaded."""
GROWTH_MB, GROWTH_SHARE = 96, 0.25
"""Memory that may be more after the run than before: caches and counters have bounds, and reach them slowly."""

CONFIG = f"""
[generation]
mode = "all"
with-security-parameters = false

[checks]
# What the schema allows may still be an address that nothing is fetched from, or a task that is not there.
positive_data_acceptance.expected-statuses = [
  "2xx", "302", "304", "401", "403", "404", "409", "413", "415", "422", "429", "502", "503", "504",
]
negative_data_rejection.expected-statuses = [
  "401", "403", "404", "405", "406", "409", "411", "413", "415", "422", "429", "431", "503",
]
missing_required_header.expected-statuses = ["401", "403", "404", "422"]
unsupported_method.enabled = true
# Whoever is refused by name, and what fails outside, is a problem with a name: see the check of ours.
not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", "500", "502", "503", "504"]
max_response_time = {REQUEST_TIMEOUT_S}

# Nothing here looks at an address: what the schema allows is never said not to fit.
[[operations]]
include-path-regex = "^/tasks/|^/uploads$|^/info$|^/health"
checks.positive_data_acceptance.expected-statuses = ["2xx", "403", "404", "409", "413", "429", "503"]
"""


def memory_mb(processes: list[psutil.Process]) -> float:
    """Resident memory of all of them together."""
    return sum(each.memory_info().rss for each in processes if each.is_running()) / 2**20


def run(base: str, key: str, photo: str, seconds: float, seed: int, report: Path) -> int:
    """Schemathesis' own exit code; what it says goes to stdout."""
    config = report.with_suffix(".toml")
    config.write_text(CONFIG)
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "run", f"{base}/openapi.json"]
    command += ["--max-time", str(max(1, round(seconds))), "--seed", str(seed), "--checks", "all", "--no-shrink"]
    command += ["--phases", "examples,coverage,fuzzing,stateful", "--request-timeout", str(REQUEST_TIMEOUT_S)]
    command += ["--suppress-health-check", "all", "--warnings", "off", "-H", f"Authorization: Bearer {key}"]
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": "fuzz.api_hooks", "FUZZ_PHOTO": photo, "PYTHONPATH": str(ROOT)}
    environment["SCHEMATHESIS_COVERAGE"] = "false"
    done = subprocess.run(command, cwd=ROOT, env=environment, timeout=seconds * 2 + 120)  # noqa: S603
    return done.returncode


def fuzz(seconds: float, seed: int) -> int:
    """0 if nothing was found."""
    key, entry = Entry.make("fuzz", ["admin", "classify", "generate", "tasks:read", "tasks:write"])
    folder = Path(tempfile.mkdtemp(prefix="fuzz-api-"))
    environment = {
        "API_KEYS": json.dumps([entry.model_dump(mode="json")]),
        "PHOTO_ALLOWED_HOSTS": "127.0.0.1",
        "STORAGE_DIR": str(folder / "storage"),
        "DATABASE_URL": f"sqlite:///{folder / 'jobs.sqlite'}",
        "SPEND_CAP_USD_PER_DAY": "0",
        "WAIT_DEFAULT_S": "5",
        "WAIT_MAX_S": "10",
        "LOG_LEVEL": "warning",
    }
    with ExitStack() as stack:
        photo = next(iter(stack.enter_context(photo_server([ROOT / "samples" / "desk.jpg"])).values()))
        base = stack.enter_context(service(folder / "service.log", **environment))
        ours = psutil.Process().children(recursive=True)
        code = run(base, key, photo, seconds * WARM_UP_SHARE, seed + 1, folder / "warm-up")
        before = memory_mb(ours)
        code |= run(base, key, photo, seconds * (1 - WARM_UP_SHARE), seed, folder / "run")
        after = memory_mb(ours)
        alive = all(each.is_running() for each in ours)
        healthy = httpx.get(f"{base}/health", timeout=10, trust_env=False).status_code == 200
    crashes = [line for line in (folder / "service.log").read_text(errors="replace").splitlines() if "crashed" in line]
    grown = after - before
    print(f"fuzz.api: memory {before:.0f} MB before, {after:.0f} MB after; seed {seed}; log {folder / 'service.log'}")
    for line in crashes[:5]:
        print(f"fuzz.api: the service crashed on a request: {line[:2000]}")
    if not alive or not healthy:
        print("fuzz.api: a process of the service died, or it is not healthy any more")
    if too_much := grown > max(GROWTH_MB, GROWTH_SHARE * before):
        print(f"fuzz.api: memory grew by {grown:.0f} MB")
    return 1 if code or crashes or too_much or not alive or not healthy else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m fuzz.api", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    return fuzz(asked.seconds, asked.seed)


if __name__ == "__main__":
    sys.exit(main())
