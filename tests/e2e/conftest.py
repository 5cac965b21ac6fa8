"""A whole service on loopback, as `bentoml serve` starts it, and the project's own photos to show it."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from demo.running import ROOT, photo_server, service
from sandbox import serving

SAMPLES = ROOT / "samples"
JARS = Path("/usr/share/java")
SECRET = "whsec_ZGVza3RlcmlvcnRlc3RzZWNyZXRrZXk="


@pytest.fixture(scope="session")
def photos() -> Iterator[dict[str, str]]:
    """The address of each sample, by its name without ending."""
    with photo_server(sorted(SAMPLES.glob("*.jpg"))) as served:
        yield {path.stem: url for path, url in served.items()}


def environment(folder: Path, **more: str) -> dict[str, str]:
    """Embedded defaults, in a folder of the test's own."""
    return {
        "ENV": "development",
        "PHOTO_ALLOWED_HOSTS": "127.0.0.1",
        "STORAGE_DIR": str(folder / "storage"),
        "DATABASE_URL": f"sqlite:///{folder / 'jobs.sqlite'}",
        **more,
    }


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a service with embedded defaults."""
    folder = tmp_path_factory.mktemp("service")
    with service(folder / "service.log", **environment(folder)) as url:
        yield url


@pytest.fixture(scope="session")
def java(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command that runs a class of `java/`, compiled against Debian's Spring and Jackson."""
    missing = not shutil.which("javac") or not (JARS / "spring3-web.jar").exists()
    if missing and not os.environ.get("CI"):
        pytest.skip("no Java client here: as root, `make java` installs a JDK, Spring and Jackson")
    classes = tmp_path_factory.mktemp("classes")
    sources = [str(path) for path in (Path(__file__).parent / "java").glob("*.java")]
    subprocess.run(["javac", "-nowarn", "-cp", f"{JARS}/*", "-d", str(classes), *sources], check=True)
    return ["java", "-cp", f"{classes}:{JARS}/*"]


def run(java: list[str], *arguments: str) -> list[str]:
    """What a class of `java/` prints, by lines."""
    ran = subprocess.run([*java, *arguments], capture_output=True, text=True, check=False, timeout=120)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()


@dataclass(frozen=True)
class Told:
    """One makeover: the answer, the task as it ended, and the callback as the backend received it."""

    base: str
    sandbox: str
    response: dict[str, Any]
    task: dict[str, Any]
    callback: dict[str, Any]


@pytest.fixture(scope="session")
def told(photos: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Told]]:
    """A makeover with each format of callback, signed, and the service still running."""
    found: dict[str, Told] = {}
    with contextlib.ExitStack() as stack:
        for form in ("nested", "flat"):
            folder = tmp_path_factory.mktemp(form)
            arguments = ["--latency", "0", "--callback-format", form, "--callback-secret", SECRET]
            sandbox, _ = stack.enter_context(serving.in_process(*arguments))
            settings = environment(
                folder,
                SANDBOX_URL=sandbox,
                CALLBACK_URL=f"{sandbox}/backend/callback",
                CALLBACK_FORMAT=form,
                CALLBACK_SECRET=SECRET,
            )
            base = stack.enter_context(service(folder / "service.log", **settings))
            answer = httpx.post(f"{base}/v1/generate", json={"image_url": photos["desk"]}, timeout=120)
            assert answer.status_code == 200, answer.text
            task = _delivered(base)
            (callback,) = httpx.get(f"{sandbox}/backend/callbacks").json()
            found[form] = Told(base, sandbox, answer.json(), task, callback)
        yield found


def _delivered(base: str) -> dict[str, Any]:
    """The one task, once its events say that it is done and the backend has been told."""
    for _ in range(600):
        task: dict[str, Any] = httpx.get(f"{base}/tasks").json()["tasks"][0]
        if task["callback"]["status"] != "pending":
            return task
        time.sleep(0.1)
    raise AssertionError(f"the callback is still pending: {task['callback']}")
