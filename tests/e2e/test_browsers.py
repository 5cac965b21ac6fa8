"""What a browser meets at a whole service with keys: headers on every answer of every path, and a page that works."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from demo.running import service
from deskterior.browsers import EVERYWHERE, PAGE_POLICY
from deskterior.gateway.keys import Entry
from tests.e2e.conftest import environment

SITE = "https://desk.example"
KEY, ENTRY = Entry.make("page", ["classify", "generate", "tasks:read", "tasks:write", "admin"])
WAYS: list[dict[str, str]] = [{}, {"Authorization": f"Bearer {KEY}"}, {"X-API-Key": "wrong"}]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service behind TLS, with a key, and one site whose pages may call it."""
    folder = tmp_path_factory.mktemp("browsers")
    settings = {
        "API_KEYS": json.dumps([ENTRY.model_dump(mode="json")]),
        "CORS_ORIGINS": SITE,
        "PUBLIC_BASE_URL": "https://api.desk.example",
    }
    with service(folder / "service.log", **environment(folder, **settings)) as url:
        yield url


@pytest.fixture(scope="module")
def answers(shop: str) -> list[httpx.Response]:
    """Of every documented path and others, asked rightly and wrongly, with the prefix and without."""
    found: list[httpx.Response] = []
    with httpx.Client(base_url=shop, timeout=30, trust_env=False, headers={"Origin": SITE}) as client:
        document = client.get("/openapi.json").json()
        paths = {path.replace("{task_id}", "0" * 32).replace("{key}", "results/x.png") for path in document["paths"]}
        assert len(paths) > 12
        for path in sorted(
            {*paths, "/", "/docs", "/docs/start.js", "/docs/assets/swagger-ui.css", "/openapi.json", "/nowhere"}
        ):
            for prefix in ("", "/app/routers"):
                for method in ("GET", "HEAD", "POST", "DELETE", "PATCH", "OPTIONS"):
                    asked = WAYS[:1] if prefix else WAYS
                    found += [client.request(method, prefix + path, headers=headers) for headers in asked]
        key = {"Authorization": f"Bearer {KEY}"}
        found.append(client.post("/classify", headers=key, content=b"x" * 100_000))
        found.append(client.post("/classify", headers=key, content=b"[" * 1000))
        found.append(client.post("/classify", headers={**key, "Content-Encoding": "gzip"}, content=b"{}"))
    return found


def test_every_answer_carries_the_security_headers_and_no_version(answers: list[httpx.Response]) -> None:
    for answer in answers:
        asked = f"{answer.request.method} {answer.request.url.path} {answer.status_code}"
        for name, value in EVERYWHERE.items():
            assert answer.headers.get(name) == value, f"{asked}: {name}"
        for name in ("Content-Security-Policy", "Cross-Origin-Resource-Policy", "Cache-Control", "X-Request-ID"):
            assert answer.headers.get(name), f"{asked}: {name}"
        assert answer.headers["Strict-Transport-Security"].startswith("max-age="), asked
        assert not {"server", "x-powered-by"} & set(answer.headers), asked
        assert "uvicorn" not in str(answer.headers).lower(), asked


def test_the_listed_site_may_read_every_answer(answers: list[httpx.Response]) -> None:
    statuses = {answer.status_code for answer in answers}
    assert {200, 401, 404, 405, 413, 422} <= statuses
    for answer in answers:
        asked = f"{answer.request.method} {answer.request.url.path} {answer.status_code}"
        assert answer.headers.get("Access-Control-Allow-Origin") == SITE, asked
        assert "Retry-After" in answer.headers["Access-Control-Expose-Headers"], asked
        assert "Origin" in answer.headers["Vary"], asked


def test_every_refusal_of_every_path_is_a_problem(answers: list[httpx.Response]) -> None:
    for answer in answers:
        if answer.status_code >= 400:
            assert answer.headers["Content-Type"] == "application/problem+json", answer.request.url
            if answer.status_code == 405:
                assert answer.headers["Allow"], answer.request.url


def test_a_preflight_needs_no_key(shop: str) -> None:
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
    for path in ("/v1/generate", "/tasks", "/app/routers/classify", "/nowhere", "/metrics"):
        answer = httpx.options(shop + path, headers={"Origin": SITE, **asked}, trust_env=False)
        assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (200, SITE)
        refused = httpx.options(shop + path, headers={"Origin": "https://evil.example", **asked}, trust_env=False)
        assert refused.status_code == 403
        assert "Access-Control-Allow-Origin" not in refused.headers


def test_a_page_has_the_strict_policy(shop: str) -> None:
    answer = httpx.get(f"{shop}/docs", trust_env=False)
    assert answer.headers["Content-Security-Policy"] == PAGE_POLICY
    assert "<style" not in answer.text
    assert "<script>" not in answer.text


@pytest.mark.parametrize("prefix", ["", "/app/routers"])
def test_the_documentation_works_in_a_browser_under_its_policy(base: str, prefix: str, tmp_path: Path) -> None:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if not chromium:
        assert not os.environ.get("CI"), "CI has a browser: `make browser` installs it"
        pytest.skip("no browser here: as root, `make browser` installs Chromium")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    flags += ["--disable-background-networking", "--enable-logging=stderr", f"--user-data-dir={tmp_path}"]
    flags += ["--no-proxy-server", "--virtual-time-budget=20000", "--dump-dom"]
    done = subprocess.run([chromium, *flags, f"{base}{prefix}/docs"], capture_output=True, text=True, timeout=120)
    assert "Content Security Policy" not in done.stderr, done.stderr
    assert done.stdout.count("opblock-summary-path") > 10, done.stdout[:2000] + done.stderr[-2000:]
    assert "/v1/generate" in done.stdout
