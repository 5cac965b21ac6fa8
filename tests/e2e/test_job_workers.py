"""Whole services whose jobs run in processes of their own: beside the API, and served apart from it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from benchmarks.processes import serving as served
from demo.running import free_port, service
from sandbox import serving
from tests.e2e.conftest import environment


@pytest.fixture(scope="module")
def slow_sandbox() -> Iterator[str]:
    """Describing, drawing and searching take a second each."""
    with serving.in_process("--latency", "1") as (url, _):
        yield url


def until(true: Callable[[], object], *, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.05)


def order(base: str, photo: str) -> str:
    answer = httpx.post(f"{base}/v1/generate", json={"image_url": photo}, headers={"Prefer": "respond-async"})
    assert answer.status_code == 202, answer.text
    task_id: str = answer.json()["id"]
    return task_id


def task(base: str, task_id: str) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{base}/tasks/{task_id}").json()
    return found


def ended(base: str, task_id: str) -> dict[str, Any]:
    until(lambda: task(base, task_id)["finished_at"])
    return task(base, task_id)


def drawing(base: str, task_id: str) -> bool:
    return bool(task(base, task_id)["stage"] == "render")


def check(base: str, name: str = "job_workers") -> str:
    answer = httpx.get(f"{base}/health")
    assert answer.status_code == 200, "an API without job workers is not to be taken away"
    text: str = answer.json()["checks"][name]
    return text


def family(port: str) -> list[psutil.Process]:
    """The main process that serves this port, and all that it has started."""
    mine = psutil.Process().children(recursive=True)
    (main,) = [one for one in mine if one.name() != "zombie" and port in one.cmdline() and "bentoml" in one.cmdline()]
    return [main, *main.children(recursive=True)]


def job_workers(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [one for one in processes if one.is_running() and "deskterior.job_worker:JobWorker" in one.cmdline()]


def gone(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_job_workers_beside_the_api_die_and_come_back_and_nothing_is_lost(
    photos: dict[str, str], slow_sandbox: str, tmp_path: Path
) -> None:
    settings = environment(tmp_path, SANDBOX_URL=slow_sandbox, JOB_WORKERS="2", RUNNERS="process")
    with service(tmp_path / "service.log", **settings) as base:
        processes = family(base.rpartition(":")[2])
        until(lambda: check(base) == "ok (2 job workers)")
        first = order(base, photos["desk"])
        until(lambda: drawing(base, first))
        assert len(job_workers(processes)) == 2
        for process in job_workers(processes):
            process.kill()

        done = ended(base, first)

        assert done["status"] == "succeeded"
        assert [item["what"] for item in done["cost"]["items"]].count("describe") == 1, "it was paid for already"

        # Killed as nothing can be cleaned up after: nobody stays behind.
        second = order(base, photos["desk"])
        processes = family(base.rpartition(":")[2])
        processes[0].kill()
        until(lambda: all(gone(one) for one in processes))
    assert len(processes) >= 5, "the main process, the API, a runner and two job workers"

    # The next start, of the old way, ends what was begun.
    with service(tmp_path / "service.log", **settings | {"JOB_WORKERS": "embedded", "RUNNERS": "embedded"}) as base:
        assert ended(base, second)["status"] == "succeeded"
        assert check(base) == "ok (in this process)"


def test_job_workers_served_apart_take_up_what_waits_and_leave_in_order(
    photos: dict[str, str], slow_sandbox: str, tmp_path: Path
) -> None:
    settings = environment(tmp_path, SANDBOX_URL=slow_sandbox)
    with service(tmp_path / "service.log", **settings, JOB_WORKERS="0") as base:
        assert "no job worker is alive" in check(base)
        waiting = order(base, photos["desk"])
        assert task(base, waiting)["status"] == "queued"

        port = free_port()
        apart = f"http://127.0.0.1:{port}"
        where = ["--host", "127.0.0.1", "--port", str(port)]
        argv = ["-m", "bentoml", "serve", "deskterior.job_worker:JobWorker", *where]
        with served(argv, f"{apart}/readyz", tmp_path / "worker.log", BENTOML_HOME=str(tmp_path), **settings):
            assert ended(base, waiting)["status"] == "succeeded"
            assert check(base) == "ok (1 job worker)"
            health = httpx.get(f"{apart}/health")
            assert (health.status_code, health.json()["checks"]) == (200, {"job_store": "ok"})
            assert httpx.get(f"{apart}/metrics").status_code == 200
            assert httpx.post(f"{apart}/v1/generate", json={}).status_code == 404, "it takes no orders"

            last = order(base, photos["desk"])
            until(lambda: drawing(base, last))
            (main, *_) = family(str(port))
            main.send_signal(signal.SIGTERM)
            # It ends the stage that it is in, and leaves the rest.
            assert main.wait(60) in {0, None}
        until(lambda: "no job worker is alive" in check(base))
        left = task(base, last)
        assert left["status"] == "running", "for whoever comes next"
        assert [item["what"] for item in left["cost"]["items"]] == ["describe", "render"]


def test_a_job_worker_with_settings_that_cannot_be_used_says_so_and_ends(tmp_path: Path) -> None:
    env = {**os.environ, **environment(tmp_path), "JOB_WORKERS": "many"}
    argv = [sys.executable, "-c", "import deskterior.job_worker"]
    ran = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode != 0
    assert "JOB_WORKERS: is neither embedded nor a number of processes" in ran.stderr
