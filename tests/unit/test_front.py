"""The front: what holds for every path, whatever stands behind it."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route

from deskterior.front import Front, _Answer
from deskterior.gateway.caller import EVERYONE, Entry
from tests.gateways import anybody

Receive = Callable[[], Awaitable[dict[str, object]]]


class Hold:
    """A route that says when a request has come in, and answers when told to."""

    def __init__(self) -> None:
        self.entered = asyncio.Semaphore(0)
        self.gate = asyncio.Event()


def inner(held: Hold | None = None) -> Starlette:
    async def echo(request: Request) -> JSONResponse:
        return JSONResponse({"path": request.url.path, "body": (await request.body()).decode()})

    async def crash(_: Request) -> JSONResponse:
        raise RuntimeError("secret inside")

    async def hold(_: Request) -> JSONResponse:
        assert held is not None
        held.entered.release()
        await held.gate.wait()
        return JSONResponse({})

    async def timeout(_: Request) -> JSONResponse:
        raise TimeoutError("secret inside")

    async def plain(request: Request) -> PlainTextResponse:
        return PlainTextResponse("upstream secret", int(request.path_params["status"]))

    async def plain_ok(_: Request) -> PlainTextResponse:
        return PlainTextResponse("ok")

    async def half(_: Request) -> StreamingResponse:
        async def body() -> AsyncIterator[bytes]:
            yield b"half"
            raise RuntimeError("broke")

        return StreamingResponse(body())

    return Starlette(
        routes=[
            Route("/echo", echo, methods=["POST"]),
            Route("/v1/generate", echo, methods=["POST"]),
            Route("/crash", crash),
            Route("/hold", hold),
            Route("/v1/hold", hold),
            Route("/tasks", echo, methods=["POST"]),
            Route("/tasks/hold", hold),
            Route("/1/events", hold),
            Route("/timeout", timeout),
            Route("/half", half),
            Route("/health", plain_ok),
            Route("/plain/{status}", plain),
        ]
    )


def bentoml() -> Starlette:
    async def ready(_: Request) -> PlainTextResponse:
        return PlainTextResponse("Service is dead because of a secret", 503)

    return Starlette(routes=[Route("/readyz", ready)])


def client(front: Front) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(front, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://test")


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with client(Front(bentoml(), api=inner(), enter=anybody, body_max_bytes=1024, max_concurrency=8)) as made:
        yield made


def is_problem(answer: httpx.Response, status: int, slug: str) -> bool:
    body = answer.json()
    return (
        answer.status_code == body["status"] == status
        and answer.headers["content-type"] == "application/problem+json"
        and body["type"] == f"/problems/{slug}"
        and body["request_id"] == answer.headers["x-request-id"]
        and bool(body["title"] and body["detail"])
        and "secret" not in answer.text
    )


@pytest.mark.parametrize("path", ["/echo", "/app/routers/echo"])
async def test_a_path_also_answers_under_the_prefix(http: httpx.AsyncClient, path: str) -> None:
    assert (await http.post(path, content="책상")).json() == {"path": "/echo", "body": "책상"}


@pytest.mark.parametrize("path", ["/v1/generated", "/app/routers/v1/generated"])
async def test_generated_is_generate(http: httpx.AsyncClient, path: str) -> None:
    assert (await http.post(path)).json()["path"] == "/v1/generate"


@pytest.mark.parametrize(
    ("method", "path", "status", "slug"),
    [
        ("GET", "/nowhere", 404, "not-found"),
        ("GET", "/app/routers", 404, "not-found"),
        ("GET", "/echo", 405, "method-not-allowed"),
        ("GET", "/crash", 500, "internal"),
        ("GET", "/timeout", 500, "internal"),
        ("GET", "/plain/400", 422, "validation"),
        ("GET", "/plain/418", 418, "bad-request"),
        ("GET", "/plain/429", 503, "overloaded"),
        ("GET", "/plain/500", 500, "internal"),
        ("GET", "/readyz", 503, "overloaded"),
    ],
)
async def test_every_error_has_the_one_shape(
    http: httpx.AsyncClient, method: str, path: str, status: int, slug: str
) -> None:
    assert is_problem(await http.request(method, path), status, slug)


async def test_405_says_what_is_allowed(http: httpx.AsyncClient) -> None:
    assert (await http.get("/echo")).headers["allow"] == "POST"


async def test_an_error_to_head_has_no_body(http: httpx.AsyncClient) -> None:
    answer = await http.head("/nowhere")
    assert answer.status_code == 404
    assert answer.content == b""


async def test_a_sane_request_id_comes_back_and_another_is_replaced(http: httpx.AsyncClient) -> None:
    assert (await http.post("/echo", headers={"X-Request-ID": "r-1"})).headers["x-request-id"] == "r-1"
    assert (await http.post("/echo", headers={"X-Request-ID": "r 1"})).headers["x-request-id"] != "r 1"


async def test_a_large_body_is_refused_by_its_announced_length(http: httpx.AsyncClient) -> None:
    assert is_problem(await http.post("/echo", content=b"x" * 1025), 413, "body-too-large")


async def test_a_large_body_is_refused_while_it_streams(http: httpx.AsyncClient) -> None:
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            assert taken < 100, "the body was read on after the limit"
            yield b"x" * 100

    assert is_problem(await http.post("/echo", content=endless()), 413, "body-too-large")


async def test_beyond_the_limit_requests_are_refused_at_once_and_health_still_answers() -> None:
    hold = Hold()
    async with client(Front(bentoml(), api=inner(hold), enter=anybody, body_max_bytes=1024, max_concurrency=2)) as http:
        held = [asyncio.create_task(http.get("/hold")) for _ in range(2)]
        await hold.entered.acquire()
        await hold.entered.acquire()
        refused = await http.get("/hold")
        assert is_problem(refused, 503, "overloaded")
        assert refused.headers["retry-after"] == "1"
        assert (await http.get("/health")).status_code == 200
        hold.gate.set()
        assert [answer.status_code for answer in await asyncio.gather(*held)] == [200, 200]
        assert (await http.get("/nowhere")).status_code == 404


async def test_a_crowd_that_waits_for_the_gateway_is_refused_too() -> None:
    """It may have to ask a database, and that may be slow: nobody is helped by a queue without end."""
    hold = Hold()

    async def slow(_: object) -> Entry:
        hold.entered.release()
        await hold.gate.wait()
        return Entry(EVERYONE)

    async with client(Front(bentoml(), api=inner(), enter=slow, body_max_bytes=1024, max_concurrency=2)) as http:
        held = [asyncio.create_task(http.post("/echo")) for _ in range(2)]
        await hold.entered.acquire()
        await hold.entered.acquire()
        assert is_problem(await http.post("/echo"), 503, "overloaded")
        hold.gate.set()
        assert (await http.get("/health")).status_code == 200
        assert [answer.status_code for answer in await asyncio.gather(*held)] == [200, 200]
        assert (await http.post("/echo")).status_code == 200


@pytest.mark.parametrize(
    ("held", "others"),
    [
        ("/v1/hold", ["/echo", "/tasks"]),
        ("/tasks/hold", ["/echo", "/v1/generate"]),
        ("/1/events", ["/echo", "/tasks", "/v1/generate"]),
    ],
)
async def test_those_who_wait_or_watch_never_keep_out_others(held: str, others: list[str]) -> None:
    hold = Hold()
    async with client(Front(bentoml(), api=inner(hold), enter=anybody, body_max_bytes=1024, max_concurrency=1)) as http:
        waiting = asyncio.create_task(http.get(held))
        await hold.entered.acquire()
        assert is_problem(await http.get(held), 503, "overloaded")
        for path in others:
            assert (await http.post(path)).status_code == 200
        hold.gate.set()
        assert (await waiting).status_code == 200


async def test_a_body_that_drips_takes_nobodys_place() -> None:
    dripping, whole = asyncio.Event(), asyncio.Event()

    async def drip() -> AsyncIterator[bytes]:
        yield b"a"
        dripping.set()
        await whole.wait()
        yield b"b"

    async def receive() -> dict[str, object]:
        chunk = await anext(chunks, None)
        return {"type": "http.request", "body": chunk or b"", "more_body": chunk is not None}

    chunks, front = drip(), Front(bentoml(), api=inner(), enter=anybody, body_max_bytes=1024, max_concurrency=1)
    slow = asyncio.create_task(ask(front, "POST", "/echo", receive))
    await dripping.wait()
    async with client(front) as http:
        assert (await http.post("/echo")).status_code == 200
    whole.set()
    assert (await slow)[0]["status"] == 200


async def test_a_body_that_was_cut_off_is_no_request() -> None:
    messages: list[dict[str, object]] = [
        {"type": "http.disconnect"},
        {"type": "http.request", "body": b"{}", "more_body": True},
    ]

    async def receive() -> dict[str, object]:
        return messages.pop()

    start, body = await ask(
        Front(bentoml(), api=inner(), enter=anybody, body_max_bytes=9, max_concurrency=9), "POST", "/echo", receive
    )
    assert start["status"] == 400
    assert b"request-cut-off" in body["body"]  # type: ignore[operator]


async def test_an_answer_that_does_not_begin_in_time_is_a_problem() -> None:
    front = Front(
        bentoml(), api=inner(Hold()), enter=anybody, body_max_bytes=1024, max_concurrency=9, answer_within_s=0.01
    )
    async with client(front) as http:
        assert is_problem(await http.get("/hold"), 504, "answer-timeout")


async def test_an_answer_that_has_begun_may_go_on() -> None:
    async def send(_: object) -> None:
        pass

    answer = _Answer({"method": "GET", "path": "/tasks/1/events", "headers": []}, send)
    async with asyncio.timeout(1000) as answer.deadline:
        await answer.send({"type": "http.response.start", "status": 200, "headers": []})
        assert answer.deadline.when() is None


async def test_a_packed_body_is_refused_by_name(http: httpx.AsyncClient) -> None:
    answer = await http.post("/echo", content=b"\x1f\x8b", headers={"Content-Encoding": "gzip"})
    assert is_problem(answer, 422, "validation")
    assert answer.json()["errors"][0]["field"] == "content-encoding"


async def test_a_crash_is_told_once_and_does_not_end_the_connection() -> None:
    sent = await ask(Front(bentoml(), api=inner(), enter=anybody, body_max_bytes=9, max_concurrency=9), "GET", "/crash")
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]


async def test_a_websocket_is_refused_in_the_one_shape() -> None:
    sent: list[dict[str, object]] = []

    async def receive() -> dict[str, object]:
        return {"type": "websocket.connect"}

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": "/classify", "headers": [], "extensions": {"websocket.http.response": {}}}
    front = Front(bentoml(), api=inner(), enter=anybody, body_max_bytes=9, max_concurrency=9)
    await front(scope, receive, send)  # type: ignore[arg-type]
    start, body = sent
    assert start["status"] == 404
    assert dict(start["headers"])[b"content-type"] == b"application/problem+json"  # type: ignore[call-overload]
    assert json.loads(body["body"])["request_id"]  # type: ignore[arg-type]


async def ask(front: Front, method: str, path: str, receive: Receive | None = None) -> list[dict[str, object]]:
    """What the front sends to a client that neither says more nor goes, unless `receive` is given."""
    sent: list[dict[str, object]] = []
    body = [{"type": "http.request", "body": b"", "more_body": False}]

    async def no_more() -> dict[str, object]:
        if not body:
            await asyncio.Event().wait()
        return body.pop()

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "headers": [], "query_string": b""}
    await front(scope, receive or no_more, send)  # type: ignore[arg-type]
    return sent


async def test_an_answer_that_breaks_half_way_is_cut_off_not_ended() -> None:
    sent: list[dict[str, object]] = []

    body = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> dict[str, object]:
        if not body:
            await asyncio.Event().wait()  # the client neither says more nor goes
        return body.pop()

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/half", "raw_path": b"/half", "headers": [], "query_string": b""}
    with pytest.raises(ConnectionAbortedError):
        await Front(bentoml(), api=inner(), enter=anybody, body_max_bytes=9, max_concurrency=9)(scope, receive, send)  # type: ignore[arg-type]
    assert sent[-1].get("more_body") is True
    assert json.dumps([m["type"] for m in sent]).count("start") == 1
