"""A whole service on loopback, as `bentoml serve` starts it, and the project's own photos to show it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.running import ROOT, photo_server, service

SAMPLES = ROOT / "samples"


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
