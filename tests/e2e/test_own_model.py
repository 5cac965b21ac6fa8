"""`/v2/generate` through a whole service: our own model, a tiny one, draws in a process beside two workers."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bentoml
import httpx
import psutil
import pytest
from PIL import Image

from demo.running import service
from sandbox import serving
from tests.e2e.conftest import environment
from training import tiny


@dataclass(frozen=True)
class Own:
    base: str
    sandbox: str
    models: Path
    log: Path

    def start(self, url: str, concept: str = "OIL") -> str:
        body = {"image_url": url, "concept": concept}
        answer = httpx.post(f"{self.base}/v2/generate", json=body, headers={"Prefer": "respond-async"}, timeout=60)
        assert answer.status_code == 202, answer.text
        task_id: str = answer.json()["id"]
        return task_id

    def events(self, task_id: str) -> Iterator[tuple[str, dict[str, Any]]]:
        kind = ""
        with httpx.stream("GET", f"{self.base}/tasks/{task_id}/events", timeout=120) as stream:
            for line in stream.iter_lines():
                if line.startswith("event: "):
                    kind = line.removeprefix("event: ")
                elif line.startswith("data: "):
                    yield kind, json.loads(line.removeprefix("data: "))


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Own]:
    folder = tmp_path_factory.mktemp("own")
    models = folder / "models"
    models.mkdir()
    with serving.in_process("--latency", "0") as (sandbox, _):
        settings = environment(
            folder,
            SANDBOX_URL=sandbox,
            CALLBACK_URL=f"{sandbox}/backend/callback",
            CUSTOM_MODEL_DIR=str(models),
            RUNNERS="process",
            WORKERS="2",
            OMP_NUM_THREADS="1",
        )
        with service(folder / "service.log", **settings) as base:
            yield Own(base, sandbox, models, folder / "service.log")


def runner() -> psutil.Process:
    """The process that draws, of those that this one has started."""
    found = [
        process
        for process in psutil.Process().children(recursive=True)
        if "runners.custom_generator:CustomGenerator" in process.cmdline()
    ]
    [process] = found
    return process


def test_without_a_model_it_says_what_to_put_where_and_all_else_works(own: Own, photos: dict[str, str]) -> None:
    answer = httpx.post(f"{own.base}/v2/generate", json={"image_url": photos["desk"]}, timeout=60)
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/custom-model-missing")
    assert "CUSTOM_MODEL_DIR" in answer.json()["detail"]
    assert str(own.models) not in answer.text
    assert httpx.get(f"{own.sandbox}/ledger").json() == []
    health = httpx.get(f"{own.base}/health", timeout=10)
    assert (health.status_code, health.json()["checks"]["drawing_model"]) == (200, "no model installed")
    assert httpx.post(f"{own.base}/v1/generate", json={"image_url": photos["desk"]}, timeout=60).status_code == 200


def test_a_model_put_there_draws_without_a_restart_and_its_steps_are_told(own: Own, photos: dict[str, str]) -> None:
    tiny.make(own.models / "first")
    while not _installed(own):
        time.sleep(0.1)  # the runner looks every second
    task_id = own.start(photos["desk"])
    told = list(own.events(task_id))

    steps = [event for kind, event in told if kind == "progress"]
    assert steps
    assert all(step["stage"] == "render" and 0 < step["step"] <= step["of"] for step in steps)
    assert [step["progress"] for step in steps] == sorted(step["progress"] for step in steps)
    assert {kind for kind, _ in told} == {"stage", "progress", "done"}
    task = told[-1][1]
    assert (task["status"], task["kind"], task["progress"]) == ("succeeded", "v2", 1.0)
    assert [item["what"] for item in task["cost"]["items"]] == ["describe"]
    picture = Image.open(io.BytesIO(httpx.get(task["result"]["processed_image_url"]).content))
    assert min(picture.size) >= 64
    assert task["result"]["products"]
    while not (told_of := [one for one in _callbacks(own) if one["body"] == task["result"]]):
        assert httpx.get(f"{own.base}/tasks/{task_id}").json()["callback"]["status"] != "failed"
        time.sleep(0.1)
    assert len(told_of) == 1

    drawing = httpx.get(f"{own.base}/info", timeout=10).json()["drawing"]
    assert [(one["version"], one["active"], one["problem"]) for one in drawing["versions"]] == [("first", True, "")]
    assert str(own.models) not in json.dumps(drawing)


def test_bentomls_own_client_can_draw_by_it(own: Own, photos: dict[str, str]) -> None:
    with bentoml.SyncHTTPClient(own.base, timeout=120) as client:
        made = dict(client.generate_by_ourselves({"image_url": photos["desk"], "concept": "SIMPLE"}))
    assert made["initial_image_url"] == photos["desk"]
    assert made["processed_image_url"]


def test_cancel_stops_the_drawing(own: Own, photos: dict[str, str]) -> None:
    task_id = own.start(photos["desk"])
    for kind, event in own.events(task_id):
        if kind == "progress":
            assert httpx.post(f"{own.base}/tasks/{task_id}/cancel").status_code == 202
        last = event
    assert last["status"] == "cancelled"
    # Nothing of it is under way any more: it may be deleted.
    while (answer := httpx.delete(f"{own.base}/tasks/{task_id}")).status_code == 409:
        assert answer.json()["type"] == "/problems/task-not-finished"
        time.sleep(0.1)
    assert answer.status_code == 204


def test_a_killed_runner_comes_back_and_the_makeover_ends_well(own: Own, photos: dict[str, str]) -> None:
    task_id = own.start(photos["desk_portrait_phone"])
    killed = None
    for kind, event in own.events(task_id):
        if kind == "progress" and killed is None:
            killed = runner()
            killed.kill()
        last = event
    assert last["status"] == "succeeded", last
    assert killed is not None
    assert runner().pid != killed.pid


def _installed(own: Own) -> bool:
    versions = httpx.get(f"{own.base}/info", timeout=10).json()["drawing"]["versions"]
    return bool(versions)


def _callbacks(own: Own) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = httpx.get(f"{own.sandbox}/backend/callbacks").json()
    return found
