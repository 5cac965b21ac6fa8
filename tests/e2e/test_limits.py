"""The limits of a whole service, as clients behind a proxy meet them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest

from demo.running import service
from deskterior.gateway.keys import Entry, Limits, write
from tests.e2e.conftest import environment

FEW = 4


class Site:
    def __init__(self, base: str, keys: dict[str, str]) -> None:
        self.base = base
        self.keys = keys

    def get(self, path: str, key: str = "", address: str = "", method: str = "GET", **more: object) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.keys.get(key, key)}"} if key else {}
        if address:
            headers["X-Forwarded-For"] = address
        return httpx.request(method, self.base + path, headers=headers, timeout=60, trust_env=False, **more)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Every limit is small; the test is the proxy."""
    folder = tmp_path_factory.mktemp("limited")
    wanted = {
        "few": Limits(requests_per_minute=FEW),
        "many": Limits(),
        "poor": Limits(usd_per_day=0.0),
        "generous": Limits(),
    }
    made = {
        name: Entry.make(name, ["generate", "tasks:read", "tasks:write"], limits) for name, limits in wanted.items()
    }
    settings = environment(
        folder,
        API_KEYS=write([entry for _, entry in made.values()]),
        TRUSTED_PROXIES="127.0.0.1",
        KEY_GENERATES_PER_MINUTE="3",
        ADDRESS_REQUESTS_PER_MINUTE=str(FEW),
        ADDRESS_FAILURES_PER_MINUTE=str(FEW),
        HEADER_MAX_BYTES="8192",
    )
    with service(folder / "service.log", **settings) as base:
        yield Site(base, {name: key for name, (key, _) in made.items()})


def refused(answer: httpx.Response, status: int, slug: str) -> bool:
    body = answer.json()
    return (
        answer.status_code == body["status"] == status
        and answer.headers["content-type"] == "application/problem+json"
        and body["type"] == f"/problems/{slug}"
        and int(answer.headers["retry-after"]) >= 1
    )


def test_a_key_is_told_what_is_left_and_then_refused(site: Site) -> None:
    answers = [site.get("/tasks", "few") for _ in range(FEW + 1)]

    assert [answer.headers["ratelimit-remaining"] for answer in answers] == ["3", "2", "1", "0", "0"]
    assert {answer.headers["ratelimit-limit"] for answer in answers} == {str(FEW)}
    assert [answer.status_code for answer in answers[:-1]] == [200] * FEW
    assert refused(answers[-1], 429, "rate-limited")
    assert "The key few" in answers[-1].json()["detail"]
    assert site.get("/tasks", "few", address="9.9.9.9").status_code == 429, "wherever it is used"
    assert site.get("/tasks", "many").status_code == 200


def test_a_key_is_not_tried_without_end(site: Site) -> None:
    wrong = f"dskt_{'0' * 12}_{'0' * 64}"
    answers = [site.get("/tasks", wrong, address="1.1.1.1") for _ in range(FEW + 1)]

    assert [answer.status_code for answer in answers[:-1]] == [401] * FEW
    assert refused(answers[-1], 429, "rate-limited")
    assert site.get("/tasks", wrong, address="6.6.6.6, 1.1.1.1").status_code == 429, "whatever it claims"
    assert site.get("/tasks", wrong, address="2.2.2.2").status_code == 401
    assert site.get("/tasks", "generous", address="1.1.1.1").status_code == 200, "who else is there is not kept out"


def test_an_address_without_a_key_has_its_own_count(site: Site) -> None:
    answers = [site.get("/openapi.json", address="2001:db8::1") for _ in range(FEW)]
    assert [answer.status_code for answer in answers] == [200] * FEW
    assert refused(site.get("/openapi.json", address="2001:db8::ffff"), 429, "rate-limited")
    assert site.get("/openapi.json", address="2001:db8:0:1::1").status_code == 200


@pytest.mark.parametrize("path", ["/health", "/healthcheck", "/livez", "/readyz"])
def test_health_is_asked_without_end(site: Site, path: str) -> None:
    answers = [site.get(path, address="3.3.3.3") for _ in range(FEW * 3)]
    assert {answer.status_code for answer in answers} == {200}
    assert "ratelimit-limit" not in answers[-1].headers


def test_makeovers_are_counted_apart_and_by_money(site: Site, photos: dict[str, str]) -> None:
    body = {"image_url": photos["desk"]}
    answers = [site.get("/v1/prompt", "poor", method="POST", json=body) for _ in range(4)]

    assert [answer.status_code for answer in answers] == [503, 503, 503, 429]
    assert refused(answers[0], 503, "spending-cap-reached")
    assert "The key poor may spend 0.00 USD a day" in answers[0].json()["detail"]
    assert "makeovers, prompts and retries" in answers[3].json()["detail"]
    assert site.get("/tasks", "poor").json() == {"tasks": [], "next_cursor": None}


def test_what_clients_must_keep_to_is_told(site: Site) -> None:
    limits = site.get("/info", "generous").json()["limits"]
    assert limits["key_generates_per_minute"] == 3
    assert limits["header_max_bytes"] == 8192
    assert limits["body_max_depth"] == 32


@pytest.mark.parametrize(
    ("body", "named"), [("[" * 60_000, "nests deeper"), ('{"size":1,"size":2}', "twice"), ('{"size":NaN}', "NaN")]
)
def test_json_that_nobody_means_is_named(site: Site, body: str, named: str) -> None:
    answer = httpx.post(
        f"{site.base}/uploads",
        content=body,
        headers={"Content-Type": "application/json", "X-API-Key": site.keys["generous"]},
    )
    assert answer.status_code == 422
    assert named in answer.json()["detail"]


@pytest.mark.parametrize("size", ["5", True, 5.5, None])
def test_a_size_is_a_number(site: Site, size: object) -> None:
    answer = site.get("/uploads", "generous", method="POST", json={"content_type": "image/png", "size": size})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "size"


@pytest.mark.parametrize(
    ("sent", "status"),
    [(b"nonsense\r\n\r\n", b"400"), (b"GET / HTTP/1.1\r\nhost: x\r\na: " + b"x" * 9000 + b"\r\n\r\n", b"431")],
)
def test_what_never_becomes_a_request_has_the_one_shape_too(site: Site, sent: bytes, status: bytes) -> None:
    where = urlsplit(site.base)
    with socket.create_connection((where.hostname, where.port or 80), timeout=30) as connection:
        connection.sendall(sent)
        answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert b"application/problem+json" in answer


async def test_a_crowd_is_answered_or_told_to_come_again(site: Site) -> None:
    """Whatever the order: each answer is one of those that are named."""
    async with httpx.AsyncClient(base_url=site.base, timeout=60, trust_env=False) as http:
        key = {"X-API-Key": site.keys["generous"]}
        asked = [http.get("/tasks", headers=key) for _ in range(300)]
        answers = await asyncio.gather(*asked)
        assert {answer.status_code for answer in answers} <= {200, 503}
        assert all("retry-after" in answer.headers for answer in answers if answer.status_code == 503)
        assert (await http.get("/health")).status_code == 200
