"""CORS by list and security headers, around every answer: pages, pictures, data and refusals."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from deskterior.app import create_app
from deskterior.browsers import DATA_POLICY, EVERYWHERE, METHODS, PAGE_POLICY, PICTURE_POLICY, SENT, SHOWN, Browsers
from deskterior.config import Settings

OURS = "https://desk.example"
OTHER = "https://evil.example"


async def page(_: Request) -> Response:
    return HTMLResponse("<p>")


async def own_policy(_: Request) -> Response:
    return HTMLResponse("<p>", headers={"Content-Security-Policy": "default-src 'self'", "Server": "made/1.2.3"})


async def data(_: Request) -> Response:
    return JSONResponse({"id": 1})


async def picture(_: Request) -> Response:
    return Response(b"", media_type="image/png", headers={"Cache-Control": "private, max-age=3600", "ETag": '"x"'})


async def asset(_: Request) -> Response:
    return Response("", media_type="text/css", headers={"ETag": '"x"'})


async def refused(request: Request) -> Response:
    return JSONResponse({}, int(request.path_params["status"]), {"Retry-After": "3"}, "application/problem+json")


PICTURE, ASSET, REFUSED = "/files/results/a.png", "/docs/assets/a.css", ["/refused/401", "/refused/413", "/refused/503"]
PATHS = ["/docs", "/own", "/tasks", PICTURE, ASSET, *REFUSED, "/nowhere"]
Client = Callable[..., httpx.AsyncClient]


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    opened: list[httpx.AsyncClient] = []
    routes = [
        Route("/docs", page),
        Route("/own", own_policy),
        Route("/tasks", data, methods=["GET", "POST"]),
        Route(PICTURE, picture),
        Route(ASSET, asset),
        Route("/refused/{status}", refused),
    ]

    def make(*origins: str, https: bool = False) -> httpx.AsyncClient:
        app: Any = Browsers(Starlette(routes=routes), origins, https)
        opened.append(httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service"))
        return opened[-1]

    yield make
    for each in opened:
        await each.aclose()


def preflight(origin: str = OURS, method: str = "POST", headers: str = "authorization") -> dict[str, str]:
    asked = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": headers}
    return {"Origin": origin, "X-Request-ID": "r-1", **asked}


@pytest.mark.parametrize("path", PATHS)
async def test_every_answer_carries_the_headers(client: Client, path: str) -> None:
    answer = await client().get(path)
    for name, value in EVERYWHERE.items():
        assert answer.headers[name] == value
    assert "server" not in answer.headers
    assert "strict-transport-security" not in answer.headers
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"] or path == "/own"
    assert "access-control-allow-origin" not in answer.headers


async def test_each_kind_of_answer_has_its_policy(client: Client) -> None:
    told = {path: (await client().get(path)).headers for path in PATHS}
    names = ("content-security-policy", "cross-origin-resource-policy", "cache-control")
    found = {path: tuple(headers[name] for name in names) for path, headers in told.items()}
    data = (DATA_POLICY, "same-origin", "no-store")
    assert found == {
        "/docs": (PAGE_POLICY, "same-origin", "no-store"),
        "/own": ("default-src 'self'", "same-origin", "no-store"),
        "/tasks": data,
        PICTURE: (PICTURE_POLICY, "cross-origin", "private, max-age=3600"),
        ASSET: (DATA_POLICY, "same-origin", "no-cache"),
        **dict.fromkeys(REFUSED, data),
        "/nowhere": data,
    }
    assert "unsafe" not in PAGE_POLICY + PICTURE_POLICY + DATA_POLICY


async def test_browsers_are_told_to_keep_to_tls_where_there_is_tls(client: Client) -> None:
    answer = await client(https=True).get("/tasks")
    assert int(answer.headers["strict-transport-security"].removeprefix("max-age=")) >= 180 * 24 * 3600


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("origins", [(OURS,), (OURS, "http://localhost:5173")])
async def test_a_listed_site_reads_every_answer_also_refusals(
    client: Client, path: str, origins: tuple[str, ...]
) -> None:
    answer = await client(*origins).get(path, headers={"Origin": OURS})
    assert answer.headers["access-control-allow-origin"] == OURS
    assert "access-control-allow-credentials" not in answer.headers
    assert "Origin" in answer.headers["vary"]
    shown = {name.strip().lower() for name in answer.headers["access-control-expose-headers"].split(",")}
    wanted = {"x-request-id", "location", "retry-after", "preference-applied", "ratelimit-limit", "ratelimit-remaining"}
    assert wanted <= shown == {name.lower() for name in SHOWN}


def test_a_page_may_read_every_header_that_the_document_tells_of() -> None:
    operations = [operation for path in create_app().openapi()["paths"].values() for operation in path.values()]
    answers = [answer for operation in operations for answer in operation["responses"].values()]
    told = {name for answer in answers for name in answer.get("headers", {})}
    assert {"X-Task-ID", "Location", "WWW-Authenticate"} <= told <= set(SHOWN)


@pytest.mark.parametrize("origin", [OTHER, "null", f"{OURS}.evil.example", f"{OURS}:444", "http://desk.example", ""])
async def test_another_site_reads_nothing(client: Client, origin: str) -> None:
    answer = await client(OURS).get("/tasks", headers={"Origin": origin})
    assert "access-control-allow-origin" not in answer.headers
    refused = await client(OURS).options("/tasks", headers=preflight(origin))
    assert refused.status_code == 403
    assert "access-control-allow-origin" not in refused.headers


async def test_what_caches_keep_depends_on_the_origin_even_without_one(client: Client) -> None:
    assert "Origin" in (await client(OURS).get(PICTURE)).headers["vary"]


@pytest.mark.parametrize("path", [*PATHS, "/livez", "/app/routers/v1/generate"])
@pytest.mark.parametrize("method", METHODS)
async def test_a_preflight_is_answered_for_every_path_and_method(client: Client, path: str, method: str) -> None:
    answer = await client(OURS).options(path, headers=preflight(method=method, headers=", ".join(SENT)))
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == OURS
    assert method in answer.headers["access-control-allow-methods"]
    assert answer.headers["x-request-id"] == "r-1"
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (preflight(OTHER), "origin"),
        (preflight(method="PATCH"), "method"),
        (preflight(headers="x-other"), "headers"),
        (preflight(OTHER, "TRACE", "cookie"), "origin and method and headers"),
    ],
)
async def test_a_refused_preflight_is_a_problem(client: Client, asked: dict[str, str], said: str) -> None:
    answer = await client(OURS).options("/tasks", headers=asked)
    assert answer.status_code == 403
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-request-id"] == answer.json()["request_id"] == "r-1"
    assert answer.json()["type"] == "/problems/forbidden"
    assert answer.json()["detail"].endswith(f"this {said}")


async def test_without_a_list_there_is_no_cors(client: Client) -> None:
    answer = await client().options("/tasks", headers=preflight())
    assert answer.status_code == 405
    assert not [name for name in answer.headers if name.startswith("access-control")]


async def test_any_site_reads_in_development_where_that_is_asked_for(client: Client) -> None:
    answer = await client("*").get("/tasks", headers={"Origin": OTHER})
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in answer.headers


def read(origins: str, **changes: str) -> frozenset[str]:
    return Settings(_env_file=None, cors_origins=origins, **changes).cors_origins  # type: ignore[arg-type]


def test_origins_are_a_list_by_commas() -> None:
    assert read("https://desk.example, http://LOCALHOST:5173,") == {"https://desk.example", "http://localhost:5173"}
    assert read("http://[::1]:5173") == {"http://[::1]:5173"}
    assert read("") == read(" , ") == frozenset()


@pytest.mark.parametrize(
    "origins",
    [
        "desk.example",
        "https://",
        "https://desk.example/",
        "https://desk.example/app",
        "https://desk.example?x",
        "https://desk.example#",
        "https://user@desk.example",
        "https://desk.example:443",
        "http://desk.example:80",
        "https://desk.example:x",
        "https://desk.example:99999",
        "https://*.desk.example",
        "https://책상.example",
        "ftp://desk.example",
        "null",
        "https://desk.example https://b.example",
        "https://desk.example;https://b.example",
        "http://[::1",
        "https://fine.example,file:///x",
        "https://de sk.example",
        "https://de\tsk.example",
    ],
)
def test_an_origin_that_no_browser_sends_stops_the_start(origins: str) -> None:
    with pytest.raises(ValueError, match=r"no origin|do not send") as raised:
        read(f"https://first.example,{origins}")
    assert "cors_origins" in str(raised.value)


def test_production_wants_the_list_of_sites() -> None:
    assert read(OURS, env="production", api_keys="x") == {OURS}
    with pytest.raises(ValueError, match=r"CORS_ORIGINS is \*"):
        read("*", env="production", api_keys="x")
