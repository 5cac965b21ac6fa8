"""`/health`: 200 while the service can do its work, 503 that says which part cannot."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable
from types import SimpleNamespace

import httpx
import pynvml
import pytest

from deskterior.app import create_app
from deskterior.config import ROOT
from deskterior.errors import DeskteriorError, Overloaded, RunnerFailed
from deskterior.front import Front
from deskterior.jobs.database import DatabaseAway
from deskterior.routers import healthcheck
from tests.gateways import anybody

WELL = {"gpu": "none", "job_store": "ok", "job_workers": "ok", "drawing_model": "ok"}


async def fine() -> str:
    return "ok"


def failing(error: Exception) -> Callable[[], Awaitable[str]]:
    async def check() -> str:
        raise error

    return check


async def health(
    desk: Callable[[], Awaitable[str]] = fine,
    jobs: Callable[[], Awaitable[str]] = fine,
    drawing: Callable[[], Awaitable[str]] = fine,
    workers: Callable[[], Awaitable[str]] = fine,
    *,
    path: str = "/health",
    placement: str = "embedded",
) -> httpx.Response:
    app = create_app()
    app.state.services = SimpleNamespace(
        settings=SimpleNamespace(desk_placement=placement),
        desk=SimpleNamespace(check=desk),
        makeovers=SimpleNamespace(check=jobs, check_workers=workers),
        drawing=SimpleNamespace(check=drawing),
    )
    front = Front(app, api=app, enter=anybody, body_max_bytes=1024, max_concurrency=1)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(front), base_url="http://test") as http:
        return await http.get(path)


async def test_all_well_is_healthy() -> None:
    answer = await health()
    assert answer.status_code == 200
    assert answer.json() == {"status": "healthy", "checks": {**WELL, "desk_classifier": "ok"}}


@pytest.mark.parametrize(
    ("error", "said"),
    [(RunnerFailed("The model does not answer"), "The model does not answer"), (OSError("secret"), "OSError")],
)
async def test_a_model_that_fails_is_unhealthy_and_named(error: Exception, said: str) -> None:
    answer = await health(desk=failing(error))
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["status"] == "unhealthy"
    assert answer.json()["checks"] == {**WELL, "desk_classifier": said}


@pytest.mark.parametrize(
    "error", [DeskteriorError("unreachable"), DatabaseAway("disk I/O error"), Overloaded("stopping")]
)
async def test_a_job_store_that_is_away_is_unhealthy(error: DeskteriorError) -> None:
    answer = await health(jobs=failing(error))
    assert answer.status_code == 503
    assert answer.json()["status"] == "unhealthy"
    assert answer.json()["checks"]["job_store"] == error.detail


@pytest.mark.parametrize("placement", ["embedded", "http://127.0.0.1:8123"])
async def test_a_machine_is_sound_while_what_it_shares_with_others_is_away(placement: str) -> None:
    away = failing(DatabaseAway("gone"))
    answer = await health(jobs=away, workers=away, drawing=away, path="/health/machine", placement=placement)
    assert answer.status_code == 200
    assert answer.json() == {"status": "healthy", "checks": {"gpu": "none", "desk_classifier": "ok"}}


@pytest.mark.parametrize("placement", ["embedded", "http://127.0.0.1:8123"])
async def test_a_machine_whose_model_fails_is_to_be_replaced(placement: str) -> None:
    broken = failing(RunnerFailed("CUDA error"))
    answer = await health(desk=broken, path="/app/routers/health/machine", placement=placement)
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["checks"]["desk_classifier"] == "CUDA error"


async def test_a_machine_is_not_replaced_for_a_runner_elsewhere() -> None:
    broken = failing(RunnerFailed("gone"))
    answer = await health(desk=broken, path="/health/machine", placement="http://desk-runner:3000")
    assert answer.status_code == 200


async def test_overload_does_not_make_it_unhealthy() -> None:
    answer = await health(desk=failing(Overloaded()))
    assert answer.status_code == 200
    assert answer.json()["checks"]["desk_classifier"] == "busy"


async def test_a_check_that_hangs_is_unhealthy(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang() -> str:
        await asyncio.Event().wait()
        return "never"

    monkeypatch.setattr(healthcheck, "CHECK_TIMEOUT_S", 0.01)
    answer = await health(desk=hang)
    assert answer.status_code == 503
    assert "no answer" in answer.json()["checks"]["desk_classifier"]


async def test_a_gpu_that_fell_off_the_bus_is_unhealthy(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(_: object) -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)

    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlShutdown", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", lambda: 1)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", lambda index: index)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetMemoryInfo", lost)
    answer = await health()
    assert answer.status_code == 503
    assert "A GPU does not answer" in answer.json()["checks"]["gpu"]
    assert (await health(path="/health/machine")).status_code == 503


async def test_a_gpu_that_answers_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlShutdown", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", lambda: 1)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", lambda index: index)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetMemoryInfo", lambda _: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetName", lambda _: "NVIDIA L4")
    assert (await health()).json()["checks"]["gpu"] == "NVIDIA L4"


@pytest.mark.parametrize(
    ("error", "said"),
    [(RunnerFailed("It lost its GPU"), "It lost its GPU"), (Overloaded("It restarts"), "It restarts")],
)
async def test_a_drawing_model_that_is_away_is_told_of_and_takes_no_machine_away(error: Exception, said: str) -> None:
    answer = await health(drawing=failing(error))
    assert answer.status_code == 200
    assert answer.json()["checks"]["drawing_model"] == said


async def test_a_drawing_model_that_does_not_answer_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang() -> str:
        await asyncio.Event().wait()
        return "never"

    monkeypatch.setattr(healthcheck, "DRAWING_TIMEOUT_S", 0.01)
    answer = await health(drawing=hang)
    assert answer.status_code == 200
    assert answer.json()["checks"]["drawing_model"] == "no answer yet"


RUNNER = """
import asyncio
from types import SimpleNamespace
from deskterior.errors import Overloaded, RunnerFailed
from runners.desk_classifier import DeskClassifier

async def alive(error):
    async def check():
        if error:
            raise error
        return "ok"
    runner = object.__new__(DeskClassifier.inner)
    runner.desk = SimpleNamespace(check=check)
    return await runner.__is_alive__()

print([asyncio.run(alive(error)) for error in (None, Overloaded(), RunnerFailed("CUDA error"))])
"""


def test_a_runner_whose_model_fails_is_to_be_started_anew() -> None:
    """Kubernetes asks /livez, which BentoML answers by this."""
    done = subprocess.run([sys.executable, "-c", RUNNER], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == "[True, True, False]\n", done.stderr
