"""The wire to a runner: arrays come back as they went, and whatever a runner answers becomes an error with a name."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from deskterior.errors import Invalid, Overloaded, RunnerFailed
from runners import wire
from runners.desk_engine import ModelInfo
from runners.wire import RemoteDesk

INFO = ModelInfo(
    name="desk_classifier",
    version="1",
    digest="sha256:1",
    classes=("not_desk", "desk"),
    size=2,
    threshold=0.5,
    temperature=1.0,
    device="cpu",
    metrics={},
)
PHOTO: NDArray[np.uint8] = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
SCORE = {wire.SHAPE: "1", wire.DTYPE: "float32", wire.DIGEST: INFO.digest}


@given(
    dtype=st.sampled_from(["uint8", "float32"]),
    shape=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    seed=st.integers(0, 99),
    transposed=st.booleans(),
)
def test_an_array_comes_back_as_it_went(dtype: str, shape: list[int], seed: int, transposed: bool) -> None:
    array = (np.random.default_rng(seed).random(shape) * 255).astype(dtype)
    array = array.T if transposed else array
    headers = wire.array_headers(array)
    back = wire.to_array(
        wire.array_bytes(array), wire.read_shape(headers[wire.SHAPE]), wire.read_dtype(headers[wire.DTYPE])
    )
    np.testing.assert_array_equal(back, array)
    assert back.dtype == array.dtype


def test_big_endian_numbers_travel_as_little_endian() -> None:
    array = np.array([1.5, -2], ">f4")
    assert wire.array_bytes(array) == np.array([1.5, -2], "<f4").tobytes()


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "0",
        "-1",
        "1,",
        ",1",
        "1,,2",
        "01",
        "1.0",
        "1e3",
        "100000",
        "1,2,3,4,5",
        "１",
        "1\n",
        " 1",
        "(1,)",
        "1;2",
        "9" * 5000,
    ],
)
def test_a_shape_that_is_not_a_few_small_numbers_is_refused(text: str | None) -> None:
    with pytest.raises(Invalid, match=wire.SHAPE):
        wire.read_shape(text)


@pytest.mark.parametrize("text", [None, "", "object", "float64", "UINT8", "<u1", "uint8,uint8", "O"])
def test_only_two_dtypes_travel(text: str | None) -> None:
    with pytest.raises(Invalid, match=wire.DTYPE):
        wire.read_dtype(text)


@pytest.mark.parametrize("length", [0, 1, 11, 13, 24])
def test_a_body_of_another_length_than_its_shape_is_refused(length: int) -> None:
    with pytest.raises(Invalid, match=rf"{length} bytes where .* 12"):
        wire.to_array(bytes(length), (2, 2, 3), np.dtype("u1"))


def test_other_dtypes_are_not_sent() -> None:
    with pytest.raises(KeyError, match="int64"):
        wire.array_headers(np.zeros(1, np.int64))


def answer(status: int = 200, body: bytes = b"", headers: dict[str, str] | None = None) -> bytes:
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *(f"{k}: {v}" for k, v in (headers or {}).items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


def scored(value: float, **headers: str) -> bytes:
    return answer(
        200, np.array([value], np.float32).tobytes(), SCORE | {k.replace("_", "-"): v for k, v in headers.items()}
    )


CUT = b""
"""Answer nothing and hang up."""
SILENCE = None
"""Answer nothing, and keep the line open."""


@asynccontextmanager
async def desk(
    *script: bytes | None, info: Callable[[], ModelInfo] = lambda: INFO, timeout_s: float = 5
) -> AsyncIterator[tuple[RemoteDesk, list[bytes]]]:
    """A client of a runner that answers POST by the script, one entry a request."""
    todo, bodies = list(script), list[bytes]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                length = next((int(line[15:]) for line in head.splitlines() if line.startswith("content-length:")), 0)
                body = await reader.readexactly(length)
                if head.startswith("get /model "):
                    writer.write(answer(200, info().model_dump_json().encode()))
                    continue
                bodies.append(body)
                reply = todo.pop(0)
                if reply is SILENCE:
                    await reader.read()
                    return
                if reply == CUT:
                    return
                writer.write(reply)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        client = await RemoteDesk.open(f"http://127.0.0.1:{port}", timeout_s=timeout_s)
        try:
            yield client, bodies
        finally:
            await client.aclose()


async def test_a_photo_goes_out_as_raw_bytes_and_its_score_comes_back() -> None:
    async with desk(scored(0.75)) as (client, bodies):
        assert await client.score(PHOTO) == 0.75
        assert bodies == [PHOTO.tobytes()]


async def test_a_connection_that_was_cut_is_tried_once_more() -> None:
    async with desk(CUT, scored(0.5)) as (client, bodies):
        assert await client.score(PHOTO) == 0.5
        assert len(bodies) == 2


async def test_a_runner_that_keeps_hanging_up_is_restarting_and_waiting_helps() -> None:
    async with desk(CUT, CUT) as (client, bodies):
        with pytest.raises(Overloaded) as caught:
            await client.score(PHOTO)
        assert caught.value.retry_after
        assert len(bodies) == 2


async def test_check_names_a_runner_that_cannot_be_reached() -> None:
    async with desk(CUT, CUT) as (client, _):
        with pytest.raises(RunnerFailed, match="cannot be reached"):
            await client.check()


async def test_a_model_that_answered_lately_is_not_run_by_a_check(monkeypatch: pytest.MonkeyPatch) -> None:
    async with desk(scored(0.5), scored(0.5)) as (client, bodies):
        await client.score(PHOTO)
        assert await client.check() == "ok (cpu)"
        assert len(bodies) == 1
        monkeypatch.setattr(wire, "LATELY_S", 0.0)
        assert await client.check() == "ok (cpu)"
        assert len(bodies) == 2


async def test_a_refused_connection_is_restarting_too() -> None:
    async with desk() as (client, _):
        pass
    gone = RemoteDesk(httpx.AsyncClient(base_url=client._client.base_url, trust_env=False), INFO, 5)
    with pytest.raises(Overloaded):
        await gone.score(PHOTO)
    with pytest.raises(RunnerFailed):
        await gone.check()
    await gone.aclose()


async def test_silence_ends_at_the_timeout() -> None:
    async with desk(SILENCE, timeout_s=0.2) as (client, bodies):
        with pytest.raises(RunnerFailed, match=r"within 0\.2 s"):
            await client.score(PHOTO)
        assert len(bodies) == 1, "a slow model is not asked twice"


async def test_a_full_runner_says_when_to_come_back() -> None:
    async with desk(answer(503, b"{}", {"Retry-After": "7"}), answer(429), answer(503, b"", {"Retry-After": "x"})) as (
        client,
        _,
    ):
        for wanted in (7, 1, 1):
            with pytest.raises(Overloaded) as caught:
                await client.score(PHOTO)
            assert caught.value.retry_after == wanted


@pytest.mark.parametrize("status", [302, 400, 404, 413, 422, 500, 502, 504])
async def test_any_other_refusal_is_the_runners_failure_and_its_text_stays_in_the_log(status: int) -> None:
    async with desk(answer(status, b"secret trace", {"Location": "http://127.0.0.1:1/"})) as (client, _):
        with pytest.raises(RunnerFailed) as caught:
            await client.score(PHOTO)
        assert "secret" not in json.dumps(caught.value.problem())
        assert "secret" in caught.value.internal


@pytest.mark.parametrize(
    "reply",
    [
        scored(float("nan")),
        scored(float("inf")),
        scored(1.5),
        scored(-0.1),
        answer(200, b"<html>", {"Content-Type": "text/html"}),
        answer(200, bytes(4), SCORE | {wire.SHAPE: "2"}),
        answer(200, bytes(8), SCORE | {wire.SHAPE: "2"}),
        answer(200, bytes(4), SCORE | {wire.SHAPE: "1,1"}),
        answer(200, bytes(1), SCORE | {wire.DTYPE: "uint8"}),
        answer(200, b"", SCORE),
    ],
)
async def test_an_answer_that_is_no_score_is_never_taken_for_one(reply: bytes) -> None:
    async with desk(reply) as (client, _):
        with pytest.raises(RunnerFailed):
            await client.score(PHOTO)


@pytest.mark.parametrize("photo", [PHOTO.astype(np.float32), PHOTO[:1], PHOTO[..., 0], PHOTO[None]])
async def test_a_photo_of_another_shape_or_dtype_is_not_sent(photo: NDArray[np.uint8]) -> None:
    async with desk(scored(0.5)) as (client, bodies):
        with pytest.raises(RunnerFailed):
            await client.score(photo)
        assert bodies == []


async def test_a_runner_with_another_model_is_noticed() -> None:
    models = iter([INFO, INFO.model_copy(update={"digest": "sha256:2", "threshold": 0.9})])
    async with desk(scored(0.75), scored(0.75, X_Model_Digest="sha256:2"), info=lambda: next(models)) as (client, _):
        await client.score(PHOTO)
        assert client.info.threshold == 0.5
        await client.score(PHOTO)
        assert client.info.threshold == 0.9


async def test_a_cancelled_call_leaves_the_client_fit_for_the_next() -> None:
    async with desk(SILENCE, scored(0.5)) as (client, bodies):
        call = asyncio.ensure_future(client.score(PHOTO))
        while not bodies:
            await asyncio.wait({call}, timeout=0.01)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert await client.score(PHOTO) == 0.5


async def test_an_address_where_nobody_answers_is_named_with_its_setting() -> None:
    with pytest.raises(RunnerFailed, match="RUNNERS"):
        await RemoteDesk.open("http://127.0.0.1:1", ready_within_s=0)


async def test_an_address_of_something_else_is_named_with_its_setting() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer(200, b'{"hello": "world"}'))
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        with pytest.raises(RunnerFailed, match=r"RUNNERS.*no desk classifier"):
            await RemoteDesk.open(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
