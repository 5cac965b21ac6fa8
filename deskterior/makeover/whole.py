"""Tasks as they are read: a row with all that belongs to it, within the transaction of whoever looks."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from deskterior.errors import NotFound, TaskNotFinished
from deskterior.makeover.tables import CallbackRow, ProgressRow, StageRow, TaskRow, callbacks, progress, stages, tasks


@dataclass(frozen=True)
class Whole:
    """A task with all that belongs to it, stages in the order in which they began."""

    task: TaskRow
    stages: list[StageRow]
    callback: CallbackRow | None
    progress: ProgressRow | None = None


def task_of(connection: sa.Connection, task_id: str, owner: str | None, *, change: bool = False) -> TaskRow:
    """One task, locked when it is to `change`. Raises NotFound, also for another owner's."""
    query = sa.select(tasks).where(tasks.c.id == task_id)
    if change:
        query = query.with_for_update()
    # Ids in another shape are not looked up: a database may refuse them in its own words.
    found = connection.execute(query).one_or_none() if len(task_id) == 32 and task_id.isalnum() else None
    if found is None or (owner is not None and found.owner != owner):
        raise NotFound("There is no task of this id")
    return TaskRow.of(found)


def at_rest(connection: sa.Connection, task_id: str, owner: str | None) -> TaskRow:
    """The task, locked, if it has finished and no call of it is under way: a cancelled one's may still be.

    Raises:
        NotFound, TaskNotFinished
    """
    task = task_of(connection, task_id, owner, change=True)
    if not task.finished:
        raise TaskNotFinished(f"The task is {task.status}; wait for it, or cancel it first")
    under_way = sa.select(stages.c.stage).where(stages.c.task_id == task_id, stages.c.state == "running").limit(1)
    if stage := connection.execute(under_way).scalar():
        raise TaskNotFinished(f"The task was cancelled during {stage}, which has not come back yet; try again shortly")
    return task


def wholes_of(connection: sa.Connection, rows: list[TaskRow]) -> list[Whole]:
    """The tasks of `rows`, in their order."""
    ids = [row.id for row in rows]
    by_task: dict[str, list[StageRow]] = {task_id: [] for task_id in ids}
    order = (stages.c.started_at, stages.c.number)
    for row in connection.execute(sa.select(stages).where(stages.c.task_id.in_(ids)).order_by(*order)):
        by_task[row.task_id].append(StageRow.of(row))
    told = {
        row.task_id: CallbackRow.of(row)
        for row in connection.execute(sa.select(callbacks).where(callbacks.c.task_id.in_(ids)))
    }
    drawn = [row.id for row in rows if row.kind == "v2" and row.status == "running"]
    steps = {
        row.task_id: ProgressRow.of_row(row)
        for row in (connection.execute(sa.select(progress).where(progress.c.task_id.in_(drawn))) if drawn else ())
    }
    return [Whole(row, by_task[row.id], told.get(row.id), steps.get(row.id)) for row in rows]
