"""A task as clients see it, made from its rows whenever it is asked for."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Literal, cast, get_args

from deskterior.makeover.publish import Published
from deskterior.makeover.tables import CallbackRow, ProgressRow, StageRow
from deskterior.makeover.whole import Whole
from deskterior.schemas import (
    CallbackState,
    Concept,
    Cost,
    CostItem,
    Problem,
    PromptResponse,
    Stage,
    Task,
    TaskState,
)
from deskterior.storage import Storage

WEIGHTS = {"describe": 0.15, "render": 0.7, "shop": 0.05, "publish": 0.1}
"""How much of a task a stage is, roughly by its time; progress is what of it is done."""
STAGES: tuple[str, ...] = get_args(Stage)


class View:
    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    async def task(self, whole: Whole) -> Task:
        row = whole.task
        shown = [run for run in whole.stages if run.stage in STAGES]
        done = {run.stage: run for run in shown if run.state == "done"}
        published = done.get("publish")
        kept = Published.model_validate_json(published.result) if published and published.result else None
        result = None
        if row.status == "succeeded" and kept:
            result = PromptResponse(
                initial_image_url=row.initial_image_url,
                processed_image_url=await self._storage.url(kept.key),
                products=kept.products,
            )
        return Task(
            id=row.id,
            kind=cast(Literal["v1", "v2"], row.kind),
            status=cast(TaskState, row.status),
            stage=_stage(row.status, shown),
            progress=progress_of(whole),
            initial_image_url=row.initial_image_url,
            concept=Concept(row.concept),
            created_at=_time(row.created_at),
            started_at=_time(row.started_at) if row.started_at else None,
            finished_at=_time(row.finished_at) if row.finished_at else None,
            attempts=row.attempts,
            result=result,
            error=Problem.model_validate(json.loads(row.error)) if row.error else None,
            cost=_cost(shown),
            callback=_callback(whole.callback),
            prompt_version=row.prompt_version,
            warnings=[*_interruptions(shown), *(kept.warnings if kept else [])],
        )


def progress_of(whole: Whole) -> float:
    """How much of a task is done, 0 to 1, by the stages and the steps of a drawing under way."""
    if whole.task.status == "succeeded":
        return 1.0
    done = {run.stage for run in whole.stages if run.state == "done"}
    progress = sum(WEIGHTS.get(stage, 0.0) for stage in done)
    if drawing := under_way(whole):
        progress += WEIGHTS["render"] * min(1.0, drawing.step / drawing.of)
    return round(min(0.99, progress), 2)


def under_way(whole: Whole) -> ProgressRow | None:
    """The steps of the drawing that runs now, if one does and has told."""
    at = whole.progress
    running = at is not None and any(
        run.stage == "render" and run.state == "running" and run.number == at.number for run in whole.stages
    )
    return at if running and at is not None and at.of > 0 else None


def _stage(status: str, shown: list[StageRow]) -> Stage | None:
    """The stage under way, the dearest if there are two; of a failed task the one it failed in; else the last one."""
    if status == "failed":
        failed = [run for run in shown if run.state in ("failed", "interrupted")]
        return cast(Stage, failed[-1].stage) if failed else None
    running = [run for run in shown if run.state == "running"]
    if running:
        return cast(Stage, max(running, key=lambda run: WEIGHTS.get(run.stage, 0.0)).stage)
    return cast(Stage, shown[-1].stage) if shown else None


def _cost(shown: list[StageRow]) -> Cost:
    items = []
    for run in shown:
        if run.cost and run.state != "running":
            item = CostItem.model_validate_json(run.cost)
            items.append(item if run.state == "done" else item.model_copy(update={"what": _in_vain(run, item)}))
    return Cost(total=round(sum(item.usd for item in items), 6), items=items)


def _in_vain(run: StageRow, item: CostItem) -> str:
    if run.state == "interrupted":
        return f"{item.what} (interrupted, may have been billed)"
    return f"{item.what} (failed, may have been billed)" if item.units.get("assumed") else f"{item.what} (failed)"


def _interruptions(shown: list[StageRow]) -> list[str]:
    return [
        f"The service died in a paid call ({run.stage}): it may have been billed, and is counted at "
        f"{run.usd:.4f} USD as expected"
        for run in shown
        if run.state == "interrupted" and run.cost
    ]


def _callback(row: CallbackRow | None) -> CallbackState:
    if row is None:
        return CallbackState()
    status = cast(Literal["pending", "delivered", "failed"], row.status)
    return CallbackState(status=status, attempts=row.attempts, last_error=row.last_error)


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
