"""Runners as real processes, alone and beside `bentoml serve`: started, broken, killed and stopped."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest

from deskterior.config import ROOT
from deskterior.errors import DeskteriorError
from runners.launcher import Child, ChildFailed
from tests import tiny_desk
from tests.integration.desks import connected, running
from tests.tiny_desk import expected_score, photo

SLOW = 20
"""Work for about 30 ms a photo."""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_desk.write(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_desk.write(tmp_path_factory.mktemp("slow"), work=SLOW)


async def until(condition: Callable[[], object], within_s: float = 60) -> None:
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - what is awaited is another process
            await asyncio.sleep(0.02)


async def until_arrived(url: str, calls: Sequence[asyncio.Future[float]]) -> None:
    """Until the runner has all of the calls in hand, but for those that it has answered."""
    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        while True:
            answered = sum(call.done() for call in calls)
            figures = (await client.get(f"{url}/metrics")).text
            in_hand = re.search(r'^bentoml_service_request_in_progress{endpoint="/score",.*} (.+)$', figures, re.M)
            if in_hand and answered + float(in_hand[1]) >= len(calls):
                return


def ended(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def test_a_killed_runner_comes_back_and_nobody_hangs(slow: Path) -> None:
    with running(slow) as (child, url):
        async with connected(slow, url) as desk:
            calls = [asyncio.ensure_future(desk.score(photo(value))) for value in range(30)]
            await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
            first = child.pid
            assert first
            os.kill(first, signal.SIGKILL)
            results = await asyncio.gather(*calls, return_exceptions=True)
            for value, result in enumerate(results):
                if isinstance(result, float):
                    assert result == pytest.approx(expected_score(value), abs=1e-5)
                else:
                    assert isinstance(result, DeskteriorError)
            # Its socket was held open: whoever asks while it restarts waits, and is answered, by the same model.
            assert await desk.score(photo(3)) == pytest.approx(expected_score(3), abs=1e-5)
            assert child.pid != first


async def test_a_runner_stopped_with_work_in_hand_answers_it_first(slow: Path) -> None:
    with running(slow) as (child, url):
        async with connected(slow, url) as desk:
            calls = [asyncio.ensure_future(desk.score(photo(value))) for value in range(40)]
            await until_arrived(url, calls)
            await asyncio.to_thread(child.stop)
            np.testing.assert_allclose(await asyncio.gather(*calls), [expected_score(v) for v in range(40)], atol=1e-5)
            with pytest.raises(DeskteriorError):
                await desk.score(photo(1))


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_a_child_that_dies_while_starting_is_told_with_the_end_of_its_log() -> None:
    child = Child(
        "oracle", python("import sys; print('the stars are wrong'); sys.exit(3)"), "http://127.0.0.1:1/"
    ).start()
    with pytest.raises(ChildFailed, match=r"oracle ended with code 3 .*\n.*the stars are wrong"):
        child.wait_ready()
    child.stop()


def test_a_runner_without_its_model_does_not_start_and_says_why(tmp_path: Path) -> None:
    with pytest.raises(ChildFailed, match=r"model\.json.*make train"), running(tmp_path):
        pass


def test_a_child_that_never_answers_is_stopped() -> None:
    child = Child("mute", python("import time; time.sleep(600)"), "http://127.0.0.1:1/").start()
    with pytest.raises(ChildFailed, match="not ready within"):
        child.wait_ready(within_s=0.5)
    assert child.pid is None


def test_a_child_that_nobody_waits_for_is_started_again_until_it_stays(tmp_path: Path) -> None:
    told = tmp_path / "starts"
    code = f"import pathlib, sys; pathlib.Path({str(told)!r}).open('a').write('x'); sys.exit(1)"
    child = Child("stubborn", python(code), "http://127.0.0.1:1/", awaited=False).start()
    while not (told.exists() and len(told.read_text()) >= 2):
        time.sleep(0.02)
    child.stop()
    assert child.pid is None


async def test_a_child_deaf_to_sigterm_is_killed_with_all_it_started(tmp_path: Path) -> None:
    told = tmp_path / "pids"
    code = (
        "import os, pathlib, signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "other = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"pathlib.Path({str(told)!r}).write_text(f'{{os.getpid()}} {{other.pid}}'); time.sleep(600)"
    )
    child = Child("deaf", python(code), "http://127.0.0.1:1/").start()
    await until(lambda: told.exists() and told.read_text())
    family = [psutil.Process(int(pid)) for pid in told.read_text().split()]
    await asyncio.to_thread(child.stop, within_s=0.1)
    assert child.pid is None
    assert ended(family[0])
    # It has its signal too, and is no child of ours that could be waited for: on a busy machine it dies a little later.
    await until(lambda: ended(family[1]))


def test_stopping_what_was_never_started_or_twice_is_fine() -> None:
    child = Child("idle", python("pass"), "http://127.0.0.1:1/")
    child.stop()
    child.stop()


class Serving:
    """`bentoml serve` of a service, in a session of its own."""

    def __init__(self, target: str, log: Path, **env: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as sock:
            self.port = sock.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = log
        command = [sys.executable, "-m", "bentoml", "serve", target, "--host", "127.0.0.1", "--port", str(self.port)]
        home = {"BENTOML_HOME": str(log.parent / "bentoml"), "BENTOML_DO_NOT_TRACK": "true", "PYTHONPATH": str(ROOT)}
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=os.environ | home | env, stdout=out, stderr=out, start_new_session=True
            )
        self.family: list[psutil.Process] = []

    async def ready(self) -> None:
        async with httpx.AsyncClient(trust_env=False, timeout=2) as client:
            async with asyncio.timeout(90):
                while self.process.poll() is None:
                    try:
                        if (await client.get(f"{self.url}/readyz")).status_code == 200:
                            break
                    except httpx.HTTPError:
                        await asyncio.sleep(0.1)
        assert self.process.poll() is None, self.log.read_text()
        self.family = psutil.Process(self.process.pid).children(recursive=True)

    def end(self) -> None:
        for process in self.family:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.kill()
        self.process.wait()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Serving]]:
    started: list[Serving] = []

    def start(target: str, **env: str) -> Serving:
        started.append(Serving(target, tmp_path / "serve.log", **env))
        return started[-1]

    yield start
    for each in started:
        each.end()


def _runners(serving: Serving) -> list[psutil.Process]:
    return [process for process in serving.family if process.is_running() and "runners.serve" in process.cmdline()]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
async def test_an_api_stopped_with_40_requests_in_flight_answers_all_40(
    slow: Path, serve: Callable[..., Serving], how: signal.Signals
) -> None:
    api = serve("tests.integration.runner_api:Api", DESK_RUNNER="process", DESK_MODEL_DIR=str(slow))
    await api.ready()
    (beside,) = _runners(api)
    async with httpx.AsyncClient(trust_env=False, base_url=api.url, timeout=60) as client:
        calls = [asyncio.ensure_future(client.get("/score", params={"value": value})) for value in range(40)]
        await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        # Ctrl-C reaches the whole group, as a terminal sends it; SIGTERM the main process alone, as a container's end.
        os.killpg(api.process.pid, how) if how is signal.SIGINT else api.process.send_signal(how)
        answers = await asyncio.gather(*calls)
    assert [answer.status_code for answer in answers] == [200] * 40
    scores = [answer.json()["score"] for answer in answers]
    np.testing.assert_allclose(scores, [expected_score(value) for value in range(40)], atol=1e-5)
    assert await asyncio.to_thread(api.process.wait, 60) == 0, api.log.read_text()
    assert not beside.is_running()


async def test_a_killed_api_takes_its_runner_along(tiny: Path, serve: Callable[..., Serving]) -> None:
    api = serve("tests.integration.runner_api:Api", DESK_RUNNER="process", DESK_MODEL_DIR=str(tiny))
    await api.ready()
    (beside,) = _runners(api)
    api.process.kill()
    await until(lambda: not beside.is_running() or beside.status() == "zombie")


async def test_workers_share_one_runner_that_comes_back_when_killed(tiny: Path, serve: Callable[..., Serving]) -> None:
    api = serve("tests.integration.runner_api:Api", DESK_RUNNER="process", DESK_MODEL_DIR=str(tiny))
    await api.ready()
    (beside,) = _runners(api)
    seen: dict[int, str] = {}
    async with asyncio.timeout(60):
        while len(seen) < 2:
            async with httpx.AsyncClient(trust_env=False, base_url=api.url) as client:
                about = (await client.get("/about")).json()
                seen[about["pid"]] = about["runner"]
    assert len(set(seen.values())) == 1
    beside.kill()
    async with httpx.AsyncClient(trust_env=False, base_url=api.url, timeout=60) as client:
        answer = await client.get("/score", params={"value": 5})
    assert answer.json()["score"] == pytest.approx(expected_score(5), abs=1e-5)


async def test_an_api_whose_runner_cannot_start_does_not_start(tmp_path: Path, serve: Callable[..., Serving]) -> None:
    api = serve("tests.integration.runner_api:Api", DESK_RUNNER="process", DESK_MODEL_DIR=str(tmp_path))
    assert await asyncio.to_thread(api.process.wait, 90) != 0
    assert "model.json" in api.log.read_text()


async def test_the_runner_is_a_bentoml_service_of_its_own(tiny: Path, serve: Callable[..., Serving]) -> None:
    serving = serve("runners.desk_classifier:DeskClassifier", DESK_MODEL_DIR=str(tiny), RUNNERS="embedded")
    await serving.ready()
    async with connected(tiny, serving.url) as desk:
        assert await desk.score(photo(77)) == pytest.approx(expected_score(77), abs=1e-5)
