"""What has happened to a task, as events: made from the journal, so that any process can tell them, at any time."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from deskterior.makeover.tables import StageRow
from deskterior.makeover.view import STAGES, progress_of, under_way
from deskterior.makeover.whole import Whole
from deskterior.schemas import Wire


class StageEvent(Wire):
    """A stage began or ended. `interrupted`: the service died in it, and it begins again."""

    stage: str
    state: Literal["started", "done", "failed", "interrupted"]
    attempt: int
    at: datetime


class ProgressEvent(Wire):
    """How far a stage has come that counts its steps: a drawing by our own model."""

    stage: Literal["render"] = "render"
    step: int
    of: int
    progress: float
    """Of the whole task, 0 to 1."""
    at: datetime


def progress_event(whole: Whole) -> tuple[tuple[str, int, str], ProgressEvent] | None:
    """The newest step of the drawing under way, with a key of its own."""
    if (row := under_way(whole)) is None:
        return None
    event = ProgressEvent(step=row.step, of=row.of, progress=progress_of(whole), at=datetime.fromtimestamp(row.at, UTC))
    return ("render", row.number, f"step {row.step}"), event


def stage_events(rows: list[StageRow]) -> list[tuple[tuple[str, int, str], StageEvent]]:
    """The beginnings and ends of stages in the order of their times, each with a key of its own."""
    events: list[tuple[float, int, tuple[str, int, str], StageEvent]] = []
    for order, row in enumerate(row for row in rows if row.stage in STAGES):
        times: list[tuple[Literal["started", "done", "failed", "interrupted"], float]] = [("started", row.started_at)]
        if row.ended_at is not None and row.state in ("done", "failed", "interrupted"):
            times.append((row.state, row.ended_at))  # type: ignore[arg-type]  # one of the three
        for state, at in times:
            event = StageEvent(stage=row.stage, state=state, attempt=row.attempt, at=datetime.fromtimestamp(at, UTC))
            events.append((at, order, (row.stage, row.number, state), event))
    events.sort(key=lambda item: item[:2])
    return [(key, event) for _, _, key, event in events]
