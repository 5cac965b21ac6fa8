"""The routes of generate and tasks over real HTTP, on makeovers with stand-ins."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, cast

import httpx
import pytest
import pytest_asyncio
import uvicorn

from deskterior.app import create_app
from deskterior.config import Settings
from deskterior.errors import ProviderFailed, ProviderRefused, ProviderTimeout
from deskterior.front import Front
from deskterior.jobs.database import Database
from deskterior.makeover.makeovers import Makeovers
from deskterior.schemas import Task
from deskterior.services import Services
from tests.gateways import anybody
from tests.integration.jobs.house import House, open_house
from tests.integration.jobs.process import Orders, processes, run
from tests.integration.jobs.stand_ins import DESK, Faults, Ledger, make_outfit, make_settings, until

pytestmark = pytest.mark.asyncio(loop_scope="module")
BODY = {"image_url": DESK}
ASYNC = {"Prefer": "respond-async"}


class NothingToConfigure:
    def check(self, *, drawing: bool) -> None: ...


@dataclass
class FewServices:
    """Of all services those that these routes use."""

    settings: Settings
    makeovers: Makeovers
    providers: NothingToConfigure


@dataclass
class Site:
    house: House
    client: httpx.AsyncClient

    async def ended(self, task_id: str) -> dict[str, Any]:
        await self.house.ended(task_id)
        found: dict[str, Any] = (await self.client.get(f"/tasks/{task_id}")).json()
        return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def one_site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    async with open_house(folder) as house:
        app = create_app()
        settings = Settings.model_validate({"wait_default_s": 20, "wait_max_s": 20})
        app.state.services = cast(Services, FewServices(settings, house.makeovers, NothingToConfigure()))
        front = Front(app, api=app, enter=anybody, body_max_bytes=64 * 1024, max_concurrency=64)
        server = uvicorn.Server(uvicorn.Config(front, port=0, log_config=None, lifespan="off"))
        serving = asyncio.create_task(server.serve())
        await until(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            yield Site(house, client)
        server.should_exit = True
        await serving


@pytest.fixture
def site(one_site: Site) -> Site:
    fresh = Faults()
    for name in vars(fresh):
        setattr(one_site.house.faults, name, getattr(fresh, name))
    (one_site.house.folder / "ledger").unlink(missing_ok=True)
    return one_site


async def events(stream: httpx.Response) -> list[tuple[str, dict[str, Any]]]:
    """The server-sent events of a whole stream."""
    found, kind = [], ""
    async for line in stream.aiter_lines():
        if line.startswith("event: "):
            kind = line.removeprefix("event: ")
        elif line.startswith("data: "):
            found.append((kind, json.loads(line.removeprefix("data: "))))
    return found


async def test_the_answer_is_held_until_the_makeover_is_there(site: Site) -> None:
    answer = await site.client.post("/v1/generate", json=BODY)

    assert answer.status_code == 200
    assert set(answer.json()) == {"initial_image_url", "processed_image_url", "products"}
    assert "preference-applied" not in answer.headers


async def test_asked_to_respond_async_it_does(site: Site) -> None:
    answer = await site.client.post("/v1/generate", json=BODY, headers=ASYNC)

    assert answer.status_code == 202
    assert answer.headers["location"] == f"/tasks/{answer.json()['id']}"
    assert answer.headers["preference-applied"] == "respond-async"
    assert answer.json()["status"] in {"queued", "running"}
    ended = await site.ended(answer.json()["id"])
    assert ended["status"] == "succeeded"
    assert Task.model_validate(ended).result is not None


async def test_an_order_that_was_taken_is_told_as_taken_though_the_job_store_goes_away(site: Site) -> None:
    site.house.database.unread = True
    try:
        answer = await site.client.post("/v1/generate", json=BODY)
        assert (await site.client.get(f"/tasks/{answer.json()['id']}")).status_code == 503
    finally:
        site.house.database.unread = False

    assert answer.status_code == 202
    assert answer.headers["location"] == f"/tasks/{answer.json()['id']}"
    assert (await site.ended(answer.json()["id"]))["status"] == "succeeded"


async def test_when_the_wait_runs_out_the_task_goes_on(site: Site) -> None:
    held = asyncio.Event()
    site.house.faults.before["render"] = held.wait  # type: ignore[assignment]

    answer = await site.client.post("/v1/generate", json=BODY, headers={"Prefer": "wait=1"})

    assert answer.status_code == 202
    assert answer.headers["preference-applied"] == "wait=1"
    assert answer.json()["status"] == "running"
    held.set()
    assert (await site.ended(answer.json()["id"]))["status"] == "succeeded"


async def test_the_task_goes_on_when_the_client_hangs_up(site: Site) -> None:
    held = asyncio.Event()
    site.house.faults.before["render"] = held.wait  # type: ignore[assignment]
    with pytest.raises(httpx.ReadTimeout):
        await site.client.post("/v1/generate", json=BODY, headers={"Idempotency-Key": "hang-up"}, timeout=0.5)
    held.set()

    answer = await site.client.post("/v1/generate", json=BODY, headers={"Idempotency-Key": "hang-up"})

    assert answer.status_code == 200
    assert site.house.count("render") == 1


@pytest.mark.parametrize(
    ("fault", "status", "slug"),
    [
        (ProviderFailed("OpenAI answered 500"), 502, "provider-failed"),
        (ProviderRefused("The vision model refused this photo"), 502, "provider-refused"),
        (ProviderTimeout("OpenAI did not answer within 60 s"), 504, "provider-timeout"),
        (RuntimeError("secret"), 500, "internal"),
    ],
)
async def test_a_failure_within_the_wait_is_the_answer(site: Site, fault: Exception, status: int, slug: str) -> None:
    site.house.faults.describe = [fault]

    answer = await site.client.post("/v1/generate", json=BODY)

    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, answer.json()["type"]) == (status, f"/problems/{slug}")
    assert "secret" not in answer.text


async def test_what_is_no_desk_is_the_clients_to_mend(site: Site) -> None:
    site.house.faults.score = 0.1

    held = await site.client.post("/v1/generate", json=BODY)
    prompt = await site.client.post("/v1/prompt", json=BODY)
    later = await site.client.post("/v1/generate", json=BODY, headers=ASYNC)

    for answer in (held, prompt):
        assert (answer.status_code, answer.json()["type"]) == (422, "/problems/not-a-desk")
    assert (await site.ended(later.json()["id"]))["error"]["type"] == "/problems/not-a-desk"
    assert site.house.count("describe") == 0


async def test_a_cancelled_task_answers_those_who_wait_for_it(site: Site) -> None:
    held = asyncio.Event()
    site.house.faults.before["fetch"] = held.wait  # type: ignore[assignment]
    waiting = asyncio.create_task(
        site.client.post("/v1/generate", json=BODY, headers={"Idempotency-Key": "to be cancelled".replace(" ", "-")})
    )

    async def begun() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await site.client.get("/tasks?status=running")).json()["tasks"]
        return found

    await until(begun)
    [task] = await begun()
    cancelled = await site.client.post(f"/tasks/{task['id']}/cancel")
    held.set()

    assert (cancelled.status_code, cancelled.json()["status"]) == (202, "cancelled")
    answer = await waiting
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/task-cancelled")
    again = await site.client.post(f"/tasks/{task['id']}/retry")
    assert (again.status_code, again.json()["attempts"]) == (202, 2)
    assert (await site.ended(task["id"]))["status"] == "succeeded"


async def test_a_prompt_is_told_without_drawing(site: Site) -> None:
    answer = await site.client.post("/v1/prompt", json=BODY)

    assert set(answer.json()) == {"prompt", "keywords", "tags", "mood"}
    assert site.house.count("render") == 0


async def test_our_own_model_is_missing_and_says_so(site: Site) -> None:
    answer = await site.client.post("/v2/generate", json=BODY)

    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/custom-model-missing")


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        ({}, {}),
        ({"image_url": DESK, "concept": "NEON"}, {}),
        ({"image_url": DESK, "concept": None}, {}),
        ({"image_url": 7}, {}),
        ({"image_url": "https://a/\0"}, {}),
        ({"image_url": DESK}, {"Idempotency-Key": "x" * 256}),
        ({"image_url": DESK}, {"Idempotency-Key": ""}),
    ],
)
async def test_a_body_that_does_not_fit_is_named_and_starts_nothing(
    site: Site, body: dict[str, object], headers: dict[str, str]
) -> None:
    before = (await site.client.get("/tasks")).json()["tasks"][:1]

    answer = await site.client.post("/v1/generate", json=body, headers=headers)

    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/validation")
    assert answer.json()["errors"]
    assert (await site.client.get("/tasks")).json()["tasks"][:1] == before


async def test_half_of_a_character_is_no_address(site: Site) -> None:
    content = b'{"image_url": "https://a/\\ud800"}'
    answer = await site.client.post("/v1/generate", content=content, headers={"Content-Type": "application/json"})

    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/validation")


async def test_a_task_is_deleted_once(site: Site) -> None:
    made = (await site.client.post("/v1/generate", json=BODY, headers=ASYNC)).json()
    await site.ended(made["id"])

    gone = await site.client.delete(f"/tasks/{made['id']}")
    again = await site.client.delete(f"/tasks/{made['id']}")

    assert (gone.status_code, gone.content) == (204, b"")
    assert (again.status_code, again.json()["type"]) == (404, "/problems/not-found")


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "status=done", "cursor=x", "cursor=" + "x" * 201])
async def test_a_page_that_is_none_is_named(site: Site, query: str) -> None:
    answer = await site.client.get(f"/tasks?{query}")

    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/validation")
    assert answer.json()["errors"][0]["field"] == query.partition("=")[0]


@pytest.mark.parametrize("path", ["", "/events", "/cancel", "/retry"])
async def test_an_unknown_task_is_not_found(site: Site, path: str) -> None:
    method = "POST" if path in {"/cancel", "/retry"} else "GET"
    answer = await site.client.request(method, f"/tasks/no-such-task{path}")

    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/not-found")


async def test_events_come_while_the_task_runs(site: Site) -> None:
    held = asyncio.Event()
    site.house.faults.before["render"] = held.wait  # type: ignore[assignment]
    made = (await site.client.post("/v1/generate", json=BODY, headers=ASYNC)).json()

    async with site.client.stream("GET", f"/tasks/{made['id']}/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = stream.aiter_lines()
        async for line in lines:
            if '"render"' in line and '"started"' in line:
                break
        held.set()
        rest = [line async for line in lines]

    assert any(line == "event: done" for line in rest)
    done = json.loads(next(line for line in reversed(rest) if line.startswith("data: ")).removeprefix("data: "))
    assert done["status"] == "succeeded"
    assert done["result"]["products"]


async def test_who_comes_late_hears_all(site: Site) -> None:
    made = (await site.client.post("/v1/generate", json=BODY, headers=ASYNC)).json()
    await site.ended(made["id"])

    async with site.client.stream("GET", f"/tasks/{made['id']}/events") as stream:
        told = await events(stream)

    assert [kind for kind, _ in told] == ["stage"] * 10 + ["done"]
    assert {data["stage"] for kind, data in told if kind == "stage"} == {
        "describe",
        "render",
        "shop",
        "publish",
        "notify",
    }


async def test_a_listener_that_hangs_up_leaves_nothing_behind(site: Site) -> None:
    held = asyncio.Event()
    site.house.faults.before["render"] = held.wait  # type: ignore[assignment]
    made = (await site.client.post("/v1/generate", json=BODY, headers=ASYNC)).json()

    async with site.client.stream("GET", f"/tasks/{made['id']}/events") as stream:
        await anext(stream.aiter_lines())

    await until(lambda: not site.house.makeovers._watch._waiting)
    held.set()
    assert (await site.ended(made["id"]))["status"] == "succeeded"


async def test_events_of_a_task_that_another_process_runs(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("other")
    url = f"sqlite:///{folder}/jobs.sqlite"
    other = processes.Process(target=run, args=(Orders(url, folder, begin=1, dwell_s=0.5),), daemon=True)
    other.start()
    settings = make_settings(url, folder)
    database = Database(url)
    ledger = Ledger(folder / "ledger")
    here = Makeovers(settings, database, make_outfit(settings, ledger, Faults())[0])  # looks on and runs nothing
    await until(lambda: ledger.count("render sent"))

    [task] = (await here.page()).tasks
    told = [event async for event in here.events(task.id)]

    assert isinstance(told[-1], Task)
    assert told[-1].status == "succeeded"
    assert (await here.wait(task.id, 5)).status == "succeeded"
    other.join(20)
    await here._watch.aclose()
    database.close()
