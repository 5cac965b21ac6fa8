"""The demo's steps as a client takes them: classify, make over, look at what came. Only HTTP crosses to the service."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import httpx
from PIL import Image, ImageOps
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from deskterior.schemas import Concept, PromptResponse, Task

Kind = Literal["v1", "v2"]
CALLBACK_WITHIN_S = 15
SIDE = 640
"""Height of the picture of before and after, in pixels."""


class Failed(RuntimeError):
    """The service answered with a problem; the text is what it said."""


@dataclass(frozen=True)
class Verdict:
    photo: str
    url: str
    desk: bool | None
    score: str
    seconds: float
    problem: str = ""


@dataclass(frozen=True)
class Makeover:
    response: PromptResponse
    task: Task
    callback: dict[str, Any] | None
    seconds: float
    files: list[Path]
    sandbox: bool


def classify(base: str, photos: list[tuple[str, str]]) -> list[Verdict]:
    """Ask of each photo (name, address) whether it shows a desk."""
    verdicts = []
    with httpx.Client(base_url=base, timeout=60, trust_env=False) as client:
        for name, url in photos:
            started = time.perf_counter()
            answer = client.post("/classify", json={"initial_image_url": url})
            seconds = time.perf_counter() - started
            if answer.status_code == 200:
                score = answer.headers["X-Desk-Score"]
                verdicts.append(Verdict(name, url, answer.json()["classify"], score, seconds))
            else:
                verdicts.append(Verdict(name, url, None, "", seconds, _problem(answer)))
    return verdicts


def make_over(
    base: str,
    sandbox: str,
    url: str,
    concept: Concept,
    output: Path,
    kind: Kind = "v1",
    tell: Callable[[str], None] = lambda _: None,
) -> Makeover:
    """Have the desk at `url` made over, and keep the pictures and the JSON in `output`.

    `tell` is given a line for each step of a v2.

    Raises:
        Failed: the service said why.
    """
    with httpx.Client(base_url=base, timeout=300, trust_env=False) as client:
        started = time.perf_counter()
        response = _generate(client, url, concept) if kind == "v1" else _follow(client, url, concept, tell)
        seconds = time.perf_counter() - started
        before, after = client.get(url).content, client.get(response.processed_image_url).content
        task = _told(client)
        played = bool(client.get("/info").json()["providers"]["image"]["sandbox"])
        callback = _callback(client, sandbox, url)
    files = {
        "before.jpg": before,
        f"after{Path(httpx.URL(response.processed_image_url).path).suffix}": after,
        "before-and-after.jpg": side_by_side(before, after),
        "makeover.json": _json(response.model_dump(mode="json")),
        "task.json": _json(task.model_dump(mode="json")),
        "callback.json": _json(callback),
    }
    for name, data in files.items():
        (output / name).write_bytes(data)
    return Makeover(response, task, callback, seconds, [output / name for name in files], played)


def _generate(client: httpx.Client, url: str, concept: Concept) -> PromptResponse:
    answer = client.post("/v1/generate", json={"image_url": url, "concept": concept})
    if answer.status_code != 200:
        raise Failed(_problem(answer))
    return PromptResponse.model_validate(answer.json())


def _follow(client: httpx.Client, url: str, concept: Concept, tell: Callable[[str], None]) -> PromptResponse:
    """Start a v2 and look on as it is drawn."""
    body = {"image_url": url, "concept": concept}
    answer = client.post("/v2/generate", json=body, headers={"Prefer": "respond-async"})
    if answer.status_code != 202:
        raise Failed(_problem(answer))
    with client.stream("GET", f"/tasks/{answer.json()['id']}/events") as events:
        kind = ""
        for line in events.iter_lines():
            if line.startswith("event: "):
                kind = line.removeprefix("event: ")
            elif line.startswith("data: "):
                told = json.loads(line.removeprefix("data: "))
                if kind == "progress":
                    tell(f"Drawing: step {told['step']} of {told['of']}, {told['progress']:.0%} of the makeover")
                elif kind == "stage":
                    tell(f"{told['stage']}: {told['state']}")
                elif kind == "done":
                    task = Task.model_validate(told)
                    if task.result is None:
                        raise Failed(task.error.detail if task.error else f"the task is {task.status}")
                    return task.result
    raise Failed("the events ended before the task did")


def side_by_side(before: bytes, after: bytes) -> bytes:
    """A JPEG of both pictures at one height."""
    pictures = [ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB") for data in (before, after)]
    scaled = [picture.resize((picture.width * SIDE // picture.height, SIDE)) for picture in pictures]
    both = Image.new("RGB", (sum(picture.width for picture in scaled) + 16, SIDE), "white")
    both.paste(scaled[0], (0, 0))
    both.paste(scaled[1], (scaled[0].width + 16, 0))
    out = io.BytesIO()
    both.save(out, "JPEG", quality=88)
    return out.getvalue()


def show_verdicts(console: Console, verdicts: list[Verdict]) -> None:
    table = Table("photo", "verdict", "score", "time", title="Is it a desk?")
    for verdict in verdicts:
        said = escape(verdict.problem) or ("[green]desk[/]" if verdict.desk else "not a desk")
        table.add_row(escape(verdict.photo), said, verdict.score, f"{verdict.seconds * 1000:.0f} ms")
    console.print(table)


def show_makeover(console: Console, makeover: Makeover, output: Path) -> None:
    table = Table("keyword", "product", "price", "at", title=f"What to buy ({makeover.task.concept})")
    for product in makeover.response.products:
        for detail in product.details:
            table.add_row(product.keyword, detail.title, f"{int(detail.price):,} 원", detail.mall)
    console.print(table)
    for warning in makeover.task.warnings:
        console.print(f"[yellow]{warning}[/]")
    cost = makeover.task.cost
    items = ", ".join(f"{item.what} {item.usd:.4f}" for item in cost.items)
    whose = "the sandbox's tokens at list prices; nothing was billed" if makeover.sandbox else "billed by OpenAI"
    console.print(f"Made over in {makeover.seconds:.1f} s. Cost: {cost.total:.4f} USD ({items}): {whose}.")
    console.print(f"Callback: {makeover.task.callback.status} after {makeover.task.callback.attempts} try.")
    console.print(f"Look at {output.name}/: {', '.join(path.name for path in makeover.files)}")


def _told(client: httpx.Client) -> Task:
    """The newest task, once its callback is delivered or has been given time to be."""
    until = time.monotonic() + CALLBACK_WITHIN_S
    while True:
        task = Task.model_validate(client.get("/tasks", params={"limit": 1}).json()["tasks"][0])
        if task.callback.status != "pending" or time.monotonic() > until:
            return task
        time.sleep(0.1)


def _callback(client: httpx.Client, sandbox: str, url: str) -> dict[str, Any] | None:
    """What the sandbox's backend was told of this photo."""
    received = client.get(f"{sandbox}/backend/callbacks").json()
    found = [one for one in received if isinstance(one.get("body"), dict) and one["body"]["initial_image_url"] == url]
    return found[-1] if found else None


def _problem(answer: httpx.Response) -> str:
    body = answer.json()
    return f"{answer.status_code} {body.get('title')}: {body.get('detail')}"


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, indent=2).encode()
