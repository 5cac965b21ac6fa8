"""The backend's callback endpoint."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime

import httpx
import pytest
from standardwebhooks.webhooks import Webhook

from sandbox.app import create_app
from sandbox.serving import in_thread
from sandbox.state import Latency, Options
from tests.integration.sandbox.stand import Stand

SECRET = "whsec_" + base64.b64encode(b"a secret for tests only").decode()

STATUS = {"initial_image_url": "https://example.com/a.jpg?x=1&y=2", "classify": True}


def test_a_callback_is_kept_as_it_came(stand: Stand) -> None:
    answer = stand.http.post("/backend/callback", json=STATUS, headers={"Authorization": "secret", "X-Trace": "7"})
    assert answer.status_code == 200
    (kept,) = stand.http.get("/backend/callbacks", params={"at_least": 1}).json()
    assert (kept["body"], kept["shape"], kept["signature"], kept["status"]) == (STATUS, "status", "unchecked", 200)
    assert kept["headers"]["x-trace"] == "7"
    assert "authorization" not in kept["headers"]
    assert json.loads(kept["raw"]) == STATUS


@pytest.mark.parametrize("body", [b"", b"[]", b'{"initial_image_url": 1, "classify": true}', b"\xff", b"{" * 50_000])
def test_a_wrong_callback_is_refused_and_kept_too(stand: Stand, body: bytes) -> None:
    answer = stand.http.post("/backend/callback", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_BODY")
    assert stand.http.get("/backend/callbacks").json()[0]["status"] == 400


def test_the_backend_answers_as_it_is_told_to(stand: Stand) -> None:
    stand.fails("backend", "status", status=404, code="AIIMAGE_NOT_FOUND")
    stand.fails("backend", "status", status=503, retry_after=7)
    first, second, third = [stand.http.post("/backend/callback", json=STATUS) for _ in range(3)]
    assert (first.status_code, first.json()["code"]) == (404, "AIIMAGE_NOT_FOUND")
    assert (second.status_code, second.headers["retry-after"]) == (503, "7")
    assert third.status_code == 200
    assert [kept["status"] for kept in stand.http.get("/backend/callbacks").json()] == [404, 503, 200]


def test_only_signed_callbacks_are_taken_once_there_is_a_secret() -> None:
    app = create_app(Options(latency=Latency.parse("0"), callback_secret=SECRET))
    body = json.dumps(STATUS)
    with in_thread(app) as url, httpx.Client(base_url=url, trust_env=False) as http:

        def send(secret: str, at: datetime, text: str = body) -> httpx.Response:
            headers = {
                "webhook-id": "msg_1",
                "webhook-timestamp": str(int(at.timestamp())),
                "webhook-signature": Webhook(secret).sign("msg_1", at, body),
                "content-type": "application/json",
            }
            return http.post("/backend/callback", content=text, headers=headers)

        now = datetime.now(UTC)
        other = "whsec_" + base64.b64encode(b"another secret").decode()
        assert http.post("/backend/callback", json=STATUS).json()["code"] == "INVALID_SIGNATURE"
        assert send(other, now).status_code == 401
        assert send(SECRET, now, body + " ").status_code == 401
        assert send(SECRET, datetime.fromtimestamp(now.timestamp() - 3600, UTC)).status_code == 401
        assert send(SECRET, now).status_code == 200
        assert send(SECRET, now).status_code == 200
        kept = http.get("/backend/callbacks").json()
    assert [one["signature"] for one in kept] == ["unsigned", "invalid", "invalid", "invalid", "verified", "verified"]
    assert [one["duplicate"] for one in kept] == [False] * 5 + [True]


def test_a_failed_makeover_in_the_flat_format_is_answered_as_the_java_backend_does() -> None:
    app = create_app(Options(latency=Latency.parse("0"), callback_format="flat"))
    failed = {"initial_image_url": "x", "processed_image_url": None, "products": None}
    with in_thread(app) as url, httpx.Client(base_url=url, trust_env=False) as http:
        answer = http.post("/backend/callback", json=failed)
        assert (answer.status_code, answer.json()["code"]) == (404, "PRODUCT_NOT_FOUND")
        nested = {"initial_image_url": "x", "processed_image_url": "http://x/y", "products": [{"keyword": "a"}]}
        assert http.post("/backend/callback", json=nested).status_code == 400
