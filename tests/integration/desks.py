"""The desk classifier of a test, where a test wants it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from deskterior.config import Settings
from runners import launcher
from runners.launcher import Child
from runners.placement import DeskClient, connect_desk_classifier


@contextmanager
def running(model: Path) -> Iterator[tuple[Child, str]]:
    """A runner of `model`, ready, beside this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DESK_MODEL_DIR", str(model))
        child, url = launcher.desk_classifier()
        child.start()
    try:
        child.wait_ready()
        yield child, url
    finally:
        child.stop()


def settings(model: Path, place: str) -> Settings:
    return Settings(_env_file=None, desk_model_dir=model, desk_runner=place)


@asynccontextmanager
async def connected(model: Path, place: str) -> AsyncIterator[DeskClient]:
    desk = await connect_desk_classifier(settings(model, place))
    try:
        yield desk
    finally:
        await desk.aclose()
