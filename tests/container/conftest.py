"""The image, built once, and the container that most tests look at."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.container.containers import CERTIFICATES, ROOT, CannotRun, Container, Place

TAG = "deskterior:tested"
PORT = "8081"
"""Not the default: it is a setting here as anywhere."""


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    try:
        place = Place.find(tmp_path_factory.mktemp("containers"))
    except CannotRun as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no container can be run: {error}")
    yield place
    place.clear()


@pytest.fixture(scope="session")
def image(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The CPU image of this working tree, as `make image` builds it."""
    command = [sys.executable, "-m", "deploy.image", "image", "--tag", TAG, "--base", place.base]
    command += ["--engine", place.engine.program]
    command += ["--ca", str(CERTIFICATES)] if CERTIFICATES.exists() else []
    store = tmp_path_factory.mktemp("bentoml")
    began = time.monotonic()
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "BENTOML_HOME": str(store)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    print(f"{done.stdout.splitlines()[-1]}; built in {time.monotonic() - began:.0f} s")
    yield TAG
    subprocess.run([place.engine.program, "rmi", "--force", TAG], capture_output=True)


@pytest.fixture(scope="session")
def volume(place: Place) -> Iterator[str]:
    name = place.engine.run("volume", "create").strip()
    yield name
    subprocess.run([place.engine.program, "volume", "rm", "--force", name], capture_output=True)


@pytest.fixture(scope="session")
def running(place: Place, image: str, volume: str) -> Iterator[Container]:
    """The service with the stand-ins of outside services and the project's photos, all in one container."""
    container = start_service(place, image, volume)
    container.wait_ready()
    yield container
    container.remove()


def start_service(place: Place, image: str, volume: str, latency: str = "0") -> Container:
    """Development, so that it draws with the sandbox, whose paid calls are kept in the volume. Not yet ready."""
    container = Container.start(
        place.engine,
        image,
        options=("--volume", f"{volume}:/data", "--volume", f"{ROOT / 'samples'}:/samples:ro"),
        PORT=PORT,
        ENV="development",
        PHOTO_ALLOWED_HOSTS="127.0.0.1",
        SANDBOX_URL="http://127.0.0.1:8900",
    )
    bring_outside(container, latency)
    return container


def bring_outside(container: Container, latency: str = "0") -> None:
    """Start what the service finds outside: photos by address, OpenAI and Naver."""
    container.exec("python", "-m", "http.server", "-b", "127.0.0.1", "-d", "/samples", "8000", detach=True)
    words = ["--port", "8900", "--latency", latency, "--ledger", "/data/ledger.jsonl"]
    container.exec("python", "-m", "sandbox", *words, detach=True)


@pytest.fixture(scope="session")
def source() -> Path:
    return ROOT
