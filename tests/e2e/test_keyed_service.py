"""A service with keys, over HTTP: each path with no key, a wrong one, one without its scope, the right, an admin's."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import bentoml
import httpx
import pytest

from demo.running import service
from deskterior.gateway.access import TABLE, Access
from deskterior.gateway.caller import SCOPES, Scope
from deskterior.gateway.keys import Entry, write
from sandbox import serving
from tests.e2e.conftest import SAMPLES, environment, run
from tests.issuer import AUDIENCE, Issuer, issuer

ACCESS = Access()
OPERATIONS = [(method, path, rule) for path, methods in TABLE.items() for method, rule in methods.items()]
CLOSED = [(method, path, rule) for method, path, rule in OPERATIONS if not ACCESS.free(rule)]
TASK = {"GET /tasks/{id}", "GET /tasks/{id}/events", "POST /tasks/{id}/cancel", "POST /tasks/{id}/retry"}


@dataclass
class Site:
    base: str
    log: Path
    file: Path
    issuer: Issuer
    keys: dict[str, str]
    http: httpx.Client

    def ask(self, method: str, path: str, key: str | None = None, **more: Any) -> httpx.Response:
        headers = {"X-API-Key": key} if key else {}
        url = self.base + re.sub(r"\{[^}]*\}", "x", path)
        return self.http.request(method, url, headers=headers, **more)


def _entries() -> tuple[dict[str, str], list[Entry]]:
    keys: dict[str, str] = {}
    entries: list[Entry] = []
    wanted: dict[str, tuple[str, list[Scope]]] = {
        **{scope: (f"only-{scope.replace(':', '-')}", [scope]) for scope in sorted(SCOPES)},
        "ann": ("ann", ["generate", "tasks:read", "tasks:write"]),
        "ann's next": ("ann", ["generate", "tasks:read", "tasks:write"]),
        "bob": ("bob", ["generate", "tasks:read", "tasks:write"]),
        "backend": ("backend", ["classify", "generate", "tasks:read", "tasks:write"]),
        "to be revoked": ("gone", ["classify"]),
    }
    for who, (name, scopes) in wanted.items():
        keys[who], entry = Entry.make(name, scopes)
        entries.append(entry)
    return keys, entries


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("keyed")
    file, log = folder / "keys.json", folder / "service.log"
    keys, entries = _entries()
    file.write_text(write(entries))
    with issuer() as by, serving.in_process("--latency", "0") as (sandbox, _):
        settings = environment(
            folder,
            API_KEYS=f"@{file}",
            JWT_JWKS_URL=by.url,
            JWT_ISSUER=by.name,
            JWT_AUDIENCE=AUDIENCE,
            SANDBOX_URL=sandbox,
            ADDRESS_FAILURES_PER_MINUTE="0",
        )
        with service(log, **settings) as base, httpx.Client(timeout=60, trust_env=False) as http:
            yield Site(base, log, file, by, keys, http)


def is_problem(answer: httpx.Response, status: int, slug: str) -> bool:
    challenged = "www-authenticate" in answer.headers
    return (
        answer.status_code == status
        and answer.headers["content-type"] == "application/problem+json"
        and (not answer.content or answer.json()["type"] == f"/problems/{slug}")
        and challenged == (status in {401, 403})
    )


@pytest.mark.parametrize("prefix", ["", "/app/routers"])
@pytest.mark.parametrize(("method", "path"), [(method, path) for method, path, _ in CLOSED])
def test_nobody_comes_in_without_a_key_or_with_a_wrong_one(site: Site, method: str, path: str, prefix: str) -> None:
    wrong = site.keys["admin"][:-1] + ("0" if site.keys["admin"][-1] != "0" else "1")
    for key in (None, "nonsense", wrong):
        assert is_problem(site.ask(method, prefix + path, key), 401, "unauthenticated")


@pytest.mark.parametrize(("method", "path", "rule"), [(m, p, r) for m, p, r in CLOSED if r.scopes])
def test_each_key_opens_what_its_scope_says_and_nothing_else(site: Site, method: str, path: str, rule: Any) -> None:
    for scope in sorted(SCOPES):
        answer = site.ask(method, path, site.keys[scope])
        if scope in rule.scopes or scope == "admin":
            assert answer.status_code in {200, 404, 422}, answer.text
        else:
            assert is_problem(answer, 403, "forbidden")
            assert rule.scopes <= set(re.findall(r"[a-z:]+", answer.json()["detail"]))


@pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json", "/schema.json", "/health", "/livez", "/readyz"])
def test_what_is_open_needs_no_key(site: Site, path: str) -> None:
    assert site.ask("GET", path, follow_redirects=True).status_code == 200


def test_a_link_to_a_picture_stands_for_a_key_and_nothing_else_does(site: Site) -> None:
    photo = (SAMPLES / "desk.jpg").read_bytes()
    wanted = {"content_type": "image/jpeg", "size": len(photo)}
    answer = site.ask("POST", "/uploads", site.keys["classify"], json=wanted)
    upload = answer.json()
    assert answer.status_code == 201
    assert httpx.put(upload["upload_url"], content=photo, headers=upload["headers"]).status_code == 204
    assert httpx.get(upload["image_url"]).content == photo
    unsigned = upload["image_url"].partition("?")[0]
    assert 400 <= httpx.get(unsigned, headers={"X-API-Key": site.keys["admin"]}).status_code < 500


@pytest.mark.parametrize(
    "target",
    [
        "/%63lassify",
        "/app/routers/%63lassify",
        "/app%2Frouters/classify",
        "//classify",
        "/classify/",
        "/./classify",
        "/files/../classify",
        "/files/..%2fclassify",
        "/docs/assets/../../classify",
        "/docs/%2e%2e/classify",
        "/studio/../classify",
        "/classify%0a",
        "/classify%00",
        "/classify;a=b",
        "/classify?x=/files/",
        "/CLASSIFY",
        "/health/../classify",
        "/v1/generated",
        "/app/routers/v1/generated",
        "/app/routers/app/routers/classify",
        "http://x.example/classify",
    ],
)
def test_no_spelling_of_a_path_gets_around_the_key(site: Site, target: str) -> None:
    parts = urlsplit(site.base)
    connection = HTTPConnection(str(parts.hostname), parts.port, timeout=30)
    connection.putrequest("POST", "*")
    connection._buffer[0] = f"POST {target} HTTP/1.1".encode()  # type: ignore[attr-defined]
    body = json.dumps({"initial_image_url": "http://127.0.0.1:1/", "image_url": "http://127.0.0.1:1/"}).encode()
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body)
    answer = connection.getresponse()
    assert answer.status in {401, 404, 405, 400}, (target, answer.status)
    assert b"initial_image_url" not in answer.read()
    connection.close()


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "TRACE", "PROPFIND"])
def test_another_method_gets_around_nothing_either(site: Site, method: str) -> None:
    assert site.ask(method, "/classify").status_code == 401
    answer = site.ask(method, "/classify", site.keys["admin"])
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Basic YTpi"},
        {"X-API-Key": ""},
        {"X-API-Key": "책상".encode()},
        {"X-API-Key": b"\xff\xfe"},
        {"X-API-Key": "s3cret" * 1000},
        {"X-API-Key": "s3cret", "Authorization": "Bearer s3cret2"},
        [("X-API-Key", "s3cret"), ("X-API-Key", "s3cret")],
        [("Authorization", "Bearer s3cret"), ("Authorization", "Bearer s3cret2")],
        {"Authorization": "Bearer a.b.c"},
        {"Authorization": "Bearer ..."},
    ],
)
def test_whatever_stands_in_the_headers_the_answer_is_401_and_does_not_repeat_it(site: Site, headers: Any) -> None:
    answer = httpx.post(f"{site.base}/classify", headers=headers, json={})
    assert is_problem(answer, 401, "unauthenticated")
    assert "s3cret" not in answer.text + str(answer.headers)


def test_a_key_of_100_kb_is_no_crash(site: Site) -> None:
    try:
        answer = httpx.post(f"{site.base}/classify", headers={"X-API-Key": "x" * 100_000}, json={}, timeout=30)
    except httpx.TransportError:
        return  # the connection is ended
    assert answer.status_code in {400, 401, 431}
    assert "xxx" not in answer.text


def test_a_key_in_the_address_is_not_read(site: Site) -> None:
    key = site.keys["admin"]
    assert site.ask("GET", f"/tasks?api_key={key}&key={key}&access_token={key}").status_code == 401


def test_a_stranger_is_refused_before_the_body_is_sent(site: Site) -> None:
    parts = urlsplit(site.base)
    with socket.create_connection((str(parts.hostname), parts.port or 80), timeout=30) as connection:
        head = "POST /classify HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 60000\r\n\r\n"
        connection.sendall(head.encode())
        assert connection.recv(64).startswith(b"HTTP/1.1 401")


@pytest.fixture(scope="module")
def anns(site: Site, photos: dict[str, str]) -> str:
    """A task of Ann's, finished."""
    body, headers = {"image_url": photos["desk"]}, {"X-API-Key": site.keys["ann"], "Idempotency-Key": "one"}
    answer = httpx.post(f"{site.base}/v1/generate", json=body, headers=headers, timeout=120)
    assert answer.status_code == 200, answer.text
    task: str = site.ask("GET", "/tasks", site.keys["ann"]).json()["tasks"][0]["id"]
    return task


@pytest.mark.parametrize("operation", [*sorted(TASK), "DELETE /tasks/{id}"])
def test_another_ones_task_is_not_there(site: Site, anns: str, operation: str) -> None:
    method, path = operation.replace("{id}", anns).split()
    answer = site.ask(method, path, site.keys["bob"])
    assert is_problem(answer, 404, "not-found")
    missing = site.ask(method, path.replace(anns, "0" * 32), site.keys["bob"])
    assert answer.json()["detail"].replace(anns, "") == missing.json()["detail"].replace("0" * 32, "")


def test_lists_hold_ones_own_tasks_and_an_admin_sees_all(site: Site, anns: str) -> None:
    for who, sees in (("ann", True), ("ann's next", True), ("bob", False), ("tasks:read", False), ("admin", True)):
        tasks = site.ask("GET", "/tasks", site.keys[who]).json()["tasks"]
        assert (anns in {task["id"] for task in tasks}) is sees
        assert site.ask("GET", f"/tasks/{anns}", site.keys[who]).status_code in ({200} if sees else {404, 403})


def test_idempotency_keys_are_each_owners_own(site: Site, anns: str, photos: dict[str, str]) -> None:
    made = {}
    for who in ("ann's next", "bob"):
        headers = {"X-API-Key": site.keys[who], "Idempotency-Key": "one", "Prefer": "respond-async"}
        answer = httpx.post(f"{site.base}/v1/generate", json={"image_url": photos["desk"]}, headers=headers)
        assert answer.status_code == 202
        made[who] = answer.json()["id"]
    assert made["ann's next"] == anns
    assert made["bob"] != anns


def test_a_token_of_the_issuer_is_a_key(site: Site) -> None:
    token = site.issuer.token(scope="tasks:read classify")
    bearer = {"Authorization": f"Bearer {token}"}
    assert httpx.get(f"{site.base}/tasks", headers=bearer).json()["tasks"] == []
    assert is_problem(httpx.post(f"{site.base}/v1/generate", headers=bearer, json={}), 403, "forbidden")
    spoiled = {"Authorization": f"Bearer {token[:-8]}AAAAAAAA"}
    assert is_problem(httpx.get(f"{site.base}/tasks", headers=spoiled), 401, "unauthenticated")


def test_bentomls_own_client_comes_in_with_a_token(site: Site, photos: dict[str, str]) -> None:
    with bentoml.SyncHTTPClient(site.base, token=site.keys["classify"]) as client:
        assert dict(client.classify({"initial_image_url": photos["desk"]}))["classify"] is True


def test_a_backend_in_java_goes_through_the_whole_surface_with_its_key(site: Site, java: list[str]) -> None:
    assert run(java, "Surface", site.base, site.keys["backend"], str(SAMPLES / "desk.jpg")) == [
        "refused 401 /problems/unauthenticated",
        "refused 401 /problems/unauthenticated",
        "uploaded 204",
        "read back image/jpeg",
        "classify true",
        "prompt",
        "generate 200 true",
        "begun 202",
        "watched 200 succeeded 1",
        "deleted 204",
        "gone 404 /problems/not-found",
    ]


def test_a_revoked_key_is_refused_while_the_service_runs_on(site: Site) -> None:
    entries = json.loads(site.file.read_text())
    key = site.keys["to be revoked"]
    assert site.ask("POST", "/classify", key, json={}).status_code == 422
    site.file.write_text(json.dumps([entry for entry in entries if entry["name"] != "gone"]))
    for _ in range(200):
        if site.ask("POST", "/classify", key, json={}).status_code == 401:
            break
        time.sleep(0.05)
    else:
        raise AssertionError("the key is still good")
    assert site.ask("POST", "/classify", site.keys["classify"], json={}).status_code == 422


def test_no_key_is_in_the_log(site: Site) -> None:
    text = site.log.read_text()
    assert "gateway.unauthenticated" in text
    assert not any(key[18:50] in text for key in site.keys.values())
    assert "s3cret" not in text
    assert not re.search(r"eyJ[A-Za-z0-9_-]{10,}", text)
