"""The desk classifier in the API's process and in its own: the same answers, and a door that lets nothing odd in."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from deskterior.config import ROOT, SettingsError
from deskterior.errors import Overloaded, RunnerFailed
from runners import placement, wire
from runners.placement import DeskClient, EmbeddedDesk, connect_desk_classifier
from tests import tiny_desk
from tests.integration.desks import connected, running, settings
from tests.tiny_desk import POISON, expected_score, photo


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_desk.write(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_desk.write(tmp_path_factory.mktemp("slow"), work=20)


@pytest.fixture(scope="module")
def runner(tiny: Path) -> Iterator[str]:
    with running(tiny) as (_, url):
        yield url


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


async def test_a_busy_model_is_alive_and_says_so_at_once(slow: Path) -> None:
    """A health check does not wait behind the photos: a load balancer would take a busy machine away."""
    async with connected(slow, "embedded") as desk:
        assert isinstance(desk, EmbeddedDesk)
        await desk.score(photo(0))
        queue = [asyncio.ensure_future(desk.score(photo(value))) for value in range(200)]
        await asyncio.sleep(0)
        waiting = desk.batcher.waiting
        assert "cpu" in await desk.check()
        assert desk.batcher.waiting == waiting > 100
        await asyncio.gather(*queue)


async def test_a_model_that_has_been_silent_is_run_by_a_check(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with connected(tiny, "embedded") as desk:
        assert isinstance(desk, EmbeddedDesk)
        for _ in range(2):
            await desk.check()
        assert desk.batcher.sizes == {1: 1}
        monkeypatch.setattr(placement, "LATELY_S", 0.0)
        await desk.check()
        assert desk.batcher.sizes == {1: 2}


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


def test_serving_on_a_cpu_imports_no_torch(tiny: Path) -> None:
    code = (
        "import asyncio, sys; from deskterior.config import settings; from runners.placement import *\n"
        "async def main(): print(await (await connect_desk_classifier(settings())).check())\n"
        "asyncio.run(main()); import runners.desk_classifier; assert 'torch' not in sys.modules"
    )
    env = os.environ | {"DESK_MODEL_DIR": str(tiny), "RUNNERS": "embedded", "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run([sys.executable, "-W", "error::ImportWarning", "-c", code], cwd=ROOT, env=env, check=True)


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
