"""The desk classifier in its three places, as real processes on loopback: asked, broken, killed and stopped."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest

from deskterior.config import ROOT, Settings, SettingsError
from deskterior.errors import DeskteriorError, Overloaded, RunnerFailed
from runners import desk_engine, launcher, wire
from runners.desk_engine import ModelUnusable, OnnxEngine, TorchEngine
from runners.launcher import Child, ChildFailed
from runners.placement import DeskClient, EmbeddedDesk, connect_desk_classifier
from tests import tiny_desk
from tests.tiny_desk import POISON, expected_score, photo

MODEL = ROOT / "models" / "desk_classifier"
SLOW = 20
"""Work for about 30 ms a photo."""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_desk.write(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_desk.write(tmp_path_factory.mktemp("slow"), work=SLOW)


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


@pytest.fixture(scope="module")
def runner(tiny: Path) -> Iterator[str]:
    with running(tiny) as (_, url):
        yield url


def settings(model: Path, place: str) -> Settings:
    return Settings(_env_file=None, desk_model_dir=model, desk_runner=place)


async def until(condition: Callable[[], object], within_s: float = 60) -> None:
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - what is awaited is another process
            await asyncio.sleep(0.02)


# The model's files


def test_a_folder_without_a_model_is_named_with_the_way_to_mend_it(tmp_path: Path) -> None:
    with pytest.raises(ModelUnusable, match=r"model\.json.*No such file.*make train") as caught:
        desk_engine.load(tmp_path)
    assert str(tmp_path) in str(caught.value)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _card(**changes: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        card = json.loads((folder / "model.json").read_text())
        (folder / "model.json").write_text(json.dumps({k: v for k, v in (card | changes).items() if v is not None}))

    return change


def _foreign_onnx(folder: Path) -> None:
    """A sound ONNX file, with its digest noted, of another interface."""
    import onnx

    model = onnx.load(folder / "model.onnx")
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 128
    onnx.save(model, folder / "model.onnx")
    _resign(folder)


def _garbage_onnx(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"no model at all")
    _resign(folder)


def _resign(folder: Path) -> None:
    import hashlib

    digest = hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
    _card(files={"model.onnx": {"sha256": digest}})(folder)


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda folder: (folder / "model.onnx").unlink(), r"model\.onnx.*No such file"),
        (lambda folder: _cut(folder / "model.onnx"), r"model\.onnx.*SHA-256"),
        (lambda folder: (folder / "model.onnx").write_bytes(b""), r"model\.onnx.*SHA-256"),
        (_foreign_onnx, r"model\.onnx"),
        (_garbage_onnx, r"model\.onnx.*cannot load"),
        (lambda folder: _cut(folder / "model.json"), r"model\.json"),
        (lambda folder: (folder / "model.json").write_text("[]"), r"model\.json"),
        (_card(temperature=0), r"model\.json.*temperature"),
        (_card(threshold=2), r"model\.json.*threshold"),
        (_card(temperature=None), r"model\.json.*temperature"),
        (_card(files={}), r"model\.json.*model\.onnx"),
    ],
)
def test_damaged_files_are_named_with_the_way_to_mend_them(
    damage: Callable[[Path], None], named: str, tmp_path: Path
) -> None:
    damage(tiny_desk.write(tmp_path))
    with pytest.raises(ModelUnusable, match=named) as caught:
        desk_engine.load(tmp_path)
    assert "make train" in str(caught.value)


def test_onnx_and_torch_give_the_same_scores_whatever_the_batch() -> None:
    photos = np.random.default_rng(0).integers(0, 256, (3, 224, 224, 3), np.uint8)
    onnx, info = desk_engine.load(MODEL)
    torch = TorchEngine(MODEL, size=224, device="cpu")
    assert isinstance(onnx, OnnxEngine)
    ours = np.concatenate([onnx.logits(photos[:2]), onnx.logits(photos[2:])])
    for theirs in (torch.logits(photos), np.concatenate([torch.logits(photos[:1]), torch.logits(photos[1:])])):
        np.testing.assert_allclose(
            desk_engine.scores(theirs, info.temperature), desk_engine.scores(ours, info.temperature), atol=1e-3
        )


def test_serving_on_a_cpu_imports_no_torch(tiny: Path) -> None:
    code = (
        "import asyncio, sys; from deskterior.config import settings; from runners.placement import *\n"
        "async def main(): print(await (await connect_desk_classifier(settings())).check())\n"
        "asyncio.run(main()); import runners.desk_classifier; assert 'torch' not in sys.modules"
    )
    env = os.environ | {"DESK_MODEL_DIR": str(tiny), "RUNNERS": "embedded", "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run([sys.executable, "-W", "error::ImportWarning", "-c", code], cwd=ROOT, env=env, check=True)


# The three places


@asynccontextmanager
async def connected(model: Path, place: str) -> AsyncIterator[DeskClient]:
    desk = await connect_desk_classifier(settings(model, place))
    try:
        yield desk
    finally:
        await desk.aclose()


@pytest.fixture(params=["embedded", "runner"])
async def desk(request: pytest.FixtureRequest, tiny: Path) -> AsyncIterator[DeskClient]:
    place = request.getfixturevalue("runner") if request.param == "runner" else "embedded"
    async with connected(tiny, place) as desk:
        yield desk


async def test_many_at_once_each_get_their_own_score(desk: DeskClient) -> None:
    values = [(7 * i) % 255 for i in range(100)]
    scores = await asyncio.gather(*(desk.score(photo(value)) for value in values))
    np.testing.assert_allclose(scores, [expected_score(value) for value in values], atol=1e-5)


async def test_what_is_known_of_the_model_comes_along(desk: DeskClient) -> None:
    assert (desk.info.name, desk.info.version, desk.info.digest) == ("desk_classifier", "0.0.1", tiny_desk.DIGEST)
    assert (desk.info.size, desk.info.threshold, desk.info.temperature) == (224, 0.25, tiny_desk.TEMPERATURE)
    assert desk.info.device.startswith("cpu")
    assert desk.info.metrics == {"roc_auc": 0.5}
    assert "cpu" in await desk.check()


async def test_a_photo_that_breaks_the_model_fails_alone(desk: DeskClient) -> None:
    photos = [photo(value) for value in range(20)] + [POISON] + [photo(value) for value in range(20, 40)]
    results = await asyncio.gather(*(desk.score(each) for each in photos), return_exceptions=True)
    assert isinstance(results.pop(20), RunnerFailed)
    assert results == [pytest.approx(expected_score(value), abs=1e-5) for value in range(40)]


async def test_callers_that_leave_harm_no_other(desk: DeskClient) -> None:
    calls = [asyncio.ensure_future(desk.score(photo(value))) for value in range(60)]
    await asyncio.sleep(0)
    for call in calls[::3]:
        call.cancel()
    results = await asyncio.gather(*calls, return_exceptions=True)
    for value, result in enumerate(results):
        if value % 3 and not isinstance(result, float):
            raise AssertionError(f"{value}: {result!r}")
        if isinstance(result, float):
            assert result == pytest.approx(expected_score(value), abs=1e-5)


@pytest.mark.parametrize("bad", [photo(1).astype(np.float32), photo(1)[:200], photo(1)[..., :1], photo(1)[None]])
async def test_what_is_no_photo_is_refused_and_harms_no_other(desk: DeskClient, bad: np.ndarray) -> None:
    good, refused = await asyncio.gather(desk.score(photo(9)), desk.score(bad), return_exceptions=True)
    assert good == pytest.approx(expected_score(9), abs=1e-5)
    assert isinstance(refused, RunnerFailed)


async def test_a_closing_desk_answers_what_waits(slow: Path) -> None:
    desk = await asyncio.to_thread(EmbeddedDesk, slow)
    calls = [asyncio.ensure_future(desk.score(photo(value))) for value in range(10)]
    await asyncio.sleep(0)
    await desk.aclose()
    np.testing.assert_allclose(await asyncio.gather(*calls), [expected_score(v) for v in range(10)], atol=1e-5)
    with pytest.raises(Overloaded):
        await desk.score(photo(1))


async def test_process_without_its_launcher_says_what_to_start(tiny: Path) -> None:
    with pytest.raises(SettingsError, match="bentoml serve"):
        await connect_desk_classifier(settings(tiny, "process"))


# The runner's own door


GOOD = {wire.SHAPE: "1,224,224,3", wire.DTYPE: "uint8"}


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({}, photo(1).tobytes(), 422),
        ({wire.SHAPE: "1,224,224,3"}, photo(1).tobytes(), 422),
        (GOOD | {wire.DTYPE: "float32"}, photo(1).tobytes(), 422),
        (GOOD | {wire.SHAPE: "224,224,3"}, photo(1).tobytes(), 422),
        (GOOD | {wire.SHAPE: "1,112,448,3"}, photo(1).tobytes(), 422),
        (GOOD | {wire.SHAPE: "2,224,224,3"}, photo(1).tobytes(), 422),
        (GOOD | {wire.SHAPE: "1,224,224,4"}, bytes(224 * 224 * 4), 422),
        (GOOD | {wire.SHAPE: "65,224,224,3"}, b"", 413),
        (GOOD | {wire.SHAPE: "99999,99999,99999,99999"}, b"", 422),
        (GOOD, b"", 422),
        (GOOD, photo(1).tobytes()[:-1], 422),
        (GOOD, POISON.tobytes(), 500),
    ],
)
async def test_whatever_is_wrong_with_a_request_is_a_problem(
    runner: str, headers: dict[str, str], body: bytes, status: int
) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.post(runner + wire.SCORE_PATH, content=body, headers=headers)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status
    assert "Traceback" not in answer.text


async def test_a_body_of_untold_length_is_refused_before_it_is_read(runner: str) -> None:
    host, port = runner.removeprefix("http://").split(":")
    for path in (wire.SCORE_PATH, "/classify", "/nothing"):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"POST {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        assert b" 411 " in await asyncio.wait_for(reader.readline(), 10)
        await asyncio.wait_for(reader.read(), 10)  # until it hangs up
        writer.close()


async def test_an_announced_giant_is_refused_on_every_path_before_it_is_read(runner: str) -> None:
    host, port = runner.removeprefix("http://").split(":")
    for path in (wire.SCORE_PATH, "/classify", "/nothing"):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n".encode())
        assert b" 413 " in await asyncio.wait_for(reader.readline(), 10)
        writer.close()


async def test_other_methods_and_dtypes_of_our_own_routes_are_problems(runner: str) -> None:
    async with httpx.AsyncClient(trust_env=False, base_url=runner) as client:
        for answer in (await client.get(wire.SCORE_PATH), await client.post(wire.MODEL_PATH)):
            assert answer.status_code == 405
            assert answer.headers["content-type"] == "application/problem+json"


async def test_pickles_are_refused(runner: str) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return os.mkdir, ("it-went-off",)

    import pickle

    async with httpx.AsyncClient(trust_env=False, base_url=runner) as client:
        headers = {"Content-Type": "application/vnd.bentoml+pickle", "Payload-Container": "pickle"}
        answer = await client.post("/classify", content=pickle.dumps({"photos": Bomb()}), headers=headers)
    assert answer.status_code == 415
    assert not (ROOT / "it-went-off").exists()


def test_bentomls_own_client_gets_the_scores(runner: str) -> None:
    # In a process of its own: what BentoML's client deprecates and leaves behind is not ours to mend.
    code = (
        "import sys, bentoml, numpy; from tests.tiny_desk import photo\n"
        "with bentoml.SyncHTTPClient(sys.argv[1]) as client:\n"
        "    print(*client.classify(photos=numpy.stack([photo(10), photo(200)])))"
    )
    told = subprocess.run([sys.executable, "-c", code, runner], cwd=ROOT, check=True, capture_output=True, text=True)
    np.testing.assert_allclose([*map(float, told.stdout.split())], [expected_score(10), expected_score(200)], atol=1e-5)


async def test_batch_sizes_are_in_the_metrics(runner: str) -> None:
    async with httpx.AsyncClient(trust_env=False, base_url=runner) as client:
        assert "desk_classifier_batch_size_bucket" in (await client.get("/metrics")).text


# Death and return


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
            calls = [asyncio.ensure_future(desk.score(photo(value))) for value in range(20)]
            await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.to_thread(child.stop)
            np.testing.assert_allclose(await asyncio.gather(*calls), [expected_score(v) for v in range(20)], atol=1e-5)
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


def test_a_child_deaf_to_sigterm_is_killed_with_all_it_started(tmp_path: Path) -> None:
    told = tmp_path / "pids"
    code = (
        "import os, pathlib, signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "other = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"pathlib.Path({str(told)!r}).write_text(f'{{os.getpid()}} {{other.pid}}'); time.sleep(600)"
    )
    child = Child("deaf", python(code), "http://127.0.0.1:1/").start()
    while not (told.exists() and told.read_text()):
        time.sleep(0.02)
    pids = list(map(int, told.read_text().split()))
    child.stop(within_s=0.1)
    assert child.pid is None
    assert not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in pids)


def test_stopping_what_was_never_started_or_twice_is_fine() -> None:
    child = Child("idle", python("pass"), "http://127.0.0.1:1/")
    child.stop()
    child.stop()


# Beside a real `bentoml serve`


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
    api = serve("tests.integration.runner_api:Api", RUNNERS="process", DESK_RUNNER="", DESK_MODEL_DIR=str(slow))
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
    api = serve("tests.integration.runner_api:Api", RUNNERS="process", DESK_RUNNER="", DESK_MODEL_DIR=str(tiny))
    await api.ready()
    (beside,) = _runners(api)
    api.process.kill()
    await until(lambda: not beside.is_running() or beside.status() == "zombie")


async def test_workers_share_one_runner_that_comes_back_when_killed(tiny: Path, serve: Callable[..., Serving]) -> None:
    api = serve("tests.integration.runner_api:Api", RUNNERS="process", DESK_RUNNER="", DESK_MODEL_DIR=str(tiny))
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
    api = serve("tests.integration.runner_api:Api", RUNNERS="process", DESK_RUNNER="", DESK_MODEL_DIR=str(tmp_path))
    assert await asyncio.to_thread(api.process.wait, 90) != 0
    assert "model.json" in api.log.read_text()


async def test_the_runner_is_a_bentoml_service_of_its_own(tiny: Path, serve: Callable[..., Serving]) -> None:
    serving = serve("runners.desk_classifier:DeskClassifier", DESK_MODEL_DIR=str(tiny), RUNNERS="embedded")
    await serving.ready()
    async with connected(tiny, serving.url) as desk:
        assert await desk.score(photo(77)) == pytest.approx(expected_score(77), abs=1e-5)
