"""What a found desk starts: nothing, a callback, or a makeover; and that the verdict stands whatever becomes of it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import httpx

from demo.running import service
from deskterior.gateway.keys import Entry, write
from sandbox import serving
from tests.e2e.conftest import environment


def received(sandbox: str, number: int) -> list[dict[str, Any]]:
    """What the backend has been told, once it is `number` messages."""
    for _ in range(600):
        found: list[dict[str, Any]] = httpx.get(f"{sandbox}/backend/callbacks").json()
        if len(found) >= number:
            return found
        time.sleep(0.1)
    raise AssertionError(f"{number} callbacks expected, got {found}")


def test_a_desk_is_told_to_the_backend_and_another_photo_is_not(photos: dict[str, str], tmp_path: Path) -> None:
    with serving.in_process() as (sandbox, _):
        settings = environment(
            tmp_path, SANDBOX_URL=sandbox, ON_DESK="callback", CALLBACK_URL=f"{sandbox}/backend/callback"
        )
        with service(tmp_path / "log", **settings) as base:
            for name in ("dining_table", "desk"):
                body = {"initial_image_url": photos[name]}
                assert httpx.post(f"{base}/classify", json=body).status_code == 200
            (told,) = received(sandbox, 1)
            assert told["body"] == {"initial_image_url": photos["desk"], "classify": True}


def test_what_the_backend_missed_is_told_after_a_restart(photos: dict[str, str], tmp_path: Path) -> None:
    with serving.in_process() as (sandbox, _):
        settings = environment(
            tmp_path, SANDBOX_URL=sandbox, ON_DESK="callback", CALLBACK_URL=f"{sandbox}/backend/callback"
        )
        httpx.post(f"{sandbox}/faults", json={"where": "backend", "kind": "status", "status": 503, "times": 1})
        with service(tmp_path / "log", **settings) as base:
            body = {"initial_image_url": photos["desk"]}
            assert httpx.post(f"{base}/classify", json=body).json()["classify"] is True
        with service(tmp_path / "log2", **settings):
            accepted = [one for one in received(sandbox, 1) if one["body"]["initial_image_url"] == photos["desk"]]
            assert accepted


def test_a_desk_is_made_over_for_who_may_and_a_spent_budget_leaves_the_verdict(
    photos: dict[str, str], tmp_path: Path
) -> None:
    key, may_order = Entry.make("backend", ["classify", "generate", "tasks:read"])
    cheap, may_look = Entry.make("camera", ["classify"])
    backend, camera = {"X-API-Key": key}, {"X-API-Key": cheap}
    with serving.in_process("--latency", "0") as (sandbox, _):
        settings = environment(
            tmp_path,
            SANDBOX_URL=sandbox,
            ON_DESK="generate",
            CALLBACK_URL=f"{sandbox}/backend/callback",
            SPEND_CAP_USD_PER_DAY="0.2",
            API_KEYS=write([may_order, may_look]),
        )
        with service(tmp_path / "log", **settings) as base:
            body = {"initial_image_url": photos["desk"], "concept": "SIMPLE"}
            looked = httpx.post(f"{base}/classify", json=body, headers=camera)
            assert looked.json()["classify"] is True
            assert looked.headers["x-makeover-refused"] == "/problems/forbidden"
            assert not httpx.get(f"{base}/tasks", headers=backend).json()["tasks"]

            first = httpx.post(f"{base}/classify", json=body, headers=backend)
            (told,) = received(sandbox, 1)
            assert told["body"]["initial_image_url"] == photos["desk"]
            task = httpx.get(f"{base}/tasks/{first.headers['x-task-id']}", headers=backend).json()
            assert (task["status"], task["concept"]) == ("succeeded", "SIMPLE")
            answers = [httpx.post(f"{base}/classify", json=body, headers=backend) for _ in range(8)]
            assert all(answer.json()["classify"] is True for answer in answers)
            assert answers[-1].headers["x-makeover-refused"] == "/problems/spending-cap-reached"
            refused = httpx.post(f"{base}/v1/generate", json={"image_url": photos["desk"]}, headers=backend)
            assert (refused.status_code, refused.json()["type"]) == (503, "/problems/spending-cap-reached")
            assert int(refused.headers["retry-after"]) > 0
