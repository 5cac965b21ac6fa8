"""Engines of our own drawing model on tiny checkpoints, for one test or for all of a file."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from runners.drawing_engine import LocalDrawing
from tests.drawing import Checkpoints, Hook, engine


@pytest.fixture(scope="module")
def no_network() -> Iterator[None]:
    """Whoever looks up a name or opens a connection fails."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was used")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", refuse)
        patch.setattr(socket.socket, "connect", refuse)
        yield


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Checkpoints:
    return Checkpoints(tmp_path_factory.mktemp("checkpoints"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sd(tmp_path_factory: pytest.TempPathFactory, checkpoints: Checkpoints) -> AsyncIterator[LocalDrawing]:
    """An SD 1.5 with an adapter for OIL, which tests leave as they found it."""
    models = tmp_path_factory.mktemp("models")
    checkpoints.install(models)
    drawing = engine(models)
    await drawing.refresh()
    yield drawing
    await drawing.aclose()


@pytest.fixture
def hook(sd: LocalDrawing) -> Iterator[Hook]:
    one = Hook(sd)
    yield one
    one.remove()


@pytest_asyncio.fixture(loop_scope="module")
async def opened(models: Path) -> AsyncIterator[Callable[..., LocalDrawing]]:
    """An engine of one's own, on the folder `models`."""
    made: list[LocalDrawing] = []

    def open_(**more: Any) -> LocalDrawing:
        made.append(engine(models, **more))
        return made[-1]

    yield open_
    for each in made:
        await each.aclose()


@pytest_asyncio.fixture(loop_scope="module")
async def own(opened: Callable[..., LocalDrawing], models: Path, checkpoints: Checkpoints) -> LocalDrawing:
    """As `sd`, for a test that does not leave it as it was."""
    checkpoints.install(models)
    drawing = opened()
    await drawing.refresh()
    return drawing


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """The folder of models of a test's own engine."""
    return tmp_path / "models"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def one(tmp_path_factory: pytest.TempPathFactory, checkpoints: Checkpoints) -> AsyncIterator[LocalDrawing]:
    """An engine that draws with version 1, and goes on doing so whatever is put beside it."""
    folder = tmp_path_factory.mktemp("shared")
    checkpoints.install(folder)
    (folder / "active").write_text("1")
    drawing = engine(folder)
    await drawing.refresh()
    yield drawing
    await drawing.aclose()
