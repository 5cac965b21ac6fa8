"""Our own drawing model in a process of its own, as `RUNNERS=process` starts it."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image

from deskterior.errors import CustomModelMissing, PhotoUnreadable
from runners import launcher
from runners.drawing import DrawRequest
from runners.remote_drawing import RemoteDrawing
from tests.drawing import Checkpoints, photo, request

TOKEN = "a-token-of-the-tests"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def runner(models: Path) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUSTOM_MODEL_DIR", str(models))
        patch.setenv("RUNNER_TOKEN", TOKEN)
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        child, url = launcher.custom_generator()
        child.start()
    try:
        child.wait_ready()
        yield url
    finally:
        child.stop()


async def test_a_model_dropped_into_a_running_runner_draws(
    runner: str, models: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    drawing = RemoteDrawing(runner, timeout_s=120, token=TOKEN)
    try:
        with pytest.raises(CustomModelMissing, match=r"model_index\.json"):
            await drawing.draw(request())
        await asyncio.to_thread(Checkpoints(tmp_path_factory.mktemp("checkpoints")).install, models, "first")
        async with asyncio.timeout(100):
            steps: list[tuple[int, int]] = []
            drawn = await _draw_when_there(drawing, steps)
        assert (drawn[0], drawn[1]) == ("first", "image/jpeg")
        assert steps[-1] == (3, 3)
        (version,) = (await drawing.info()).versions
        assert (version.active, version.problem) == (True, "")
        with pytest.raises(PhotoUnreadable):
            await drawing.draw(DrawRequest(b"no photo", "a desk"))
    finally:
        await drawing.aclose()


async def _draw_when_there(drawing: RemoteDrawing, steps: list[tuple[int, int]]) -> tuple[str, str]:
    while True:
        try:
            drawn = await drawing.draw(request(), lambda done, total: steps.append((done, total)))
        except CustomModelMissing:
            await asyncio.sleep(0.1)
        else:
            return drawn.version, drawn.content_type


async def test_bentomls_clients_draw_too(runner: str, tmp_path: Path) -> None:
    path = tmp_path / "desk.png"
    path.write_bytes(photo(60, 40))
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with httpx.AsyncClient(base_url=runner, headers=headers, trust_env=False, timeout=60) as client:
        files = {"photo": ("desk.png", path.read_bytes(), "image/png")}
        answer = await client.post("/render", files=files, data={"prompt": "a desk", "concept": "OIL", "seed": "3"})
        assert answer.status_code == 200, answer.text
        assert Image.open(io.BytesIO(answer.content)).format == "JPEG"
        bad = await client.post("/render", files={"photo": ("x.png", b"x", "image/png")}, data={"prompt": "a desk"})
        assert bad.status_code == 400
        for address in ("http://192.0.2.1/desk.jpg", str(path), ""):  # what it would fetch, or open
            told = {"photo": address, "prompt": "a desk"}
            for sent in ({"data": told}, {"data": told, "files": {"other": b"x"}}, {"json": told}):
                refused = await client.post("/render", **sent)
                assert refused.status_code == 400
                assert "file" in refused.text
        metrics = (await client.get("/metrics")).text
        for name in ("batch_size_bucket", "queue_length", "seconds_per_picture_count", "steps_total"):
            assert f"drawing_model_{name}" in metrics


async def test_the_door_is_shut_to_those_without_the_token_and_to_endless_bodies(runner: str) -> None:
    async with httpx.AsyncClient(base_url=runner, trust_env=False, timeout=60) as client:
        for path in ("/draw", "/render", "/drawing-model", "/metrics"):
            assert (await client.post(path)).status_code == 401
    for header, status in (("Transfer-Encoding: chunked", 411), (f"Content-Length: {10**12}", 413)):
        lines = ["POST /render HTTP/1.1", "Host: runner", f"Authorization: Bearer {TOKEN}", header, "", ""]
        reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(runner).port)
        writer.write("\r\n".join(lines).encode())
        assert (await reader.readline()).split()[1] == str(status).encode()
        writer.close()
        await writer.wait_closed()
