"""Killed with `kill -9` at every boundary and inside every stage, then started again: the task ends well, and no
finished paid call is made twice. On SQLite and on Postgres."""

from __future__ import annotations

import json
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa

from deskterior.jobs.database import Database
from deskterior.makeover.tables import progress, stages
from deskterior.schemas import Task
from tests.integration.jobs.accounts import check_totals
from tests.integration.jobs.process import Orders, finish, start
from tests.integration.jobs.stand_ins import Ledger

# Every write to the job store and every line of the ledger that a makeover has, in about their order.
POINTS = [
    "after create",
    "after claim",
    "fetch answered",
    "after note",
    "keep answered",
    "after begin",
    "describe sent",
    "describe answered",
    "after end",
    "after begin#2",
    "after begin#3",
    "render sent",
    "shop sent",
    "shop answered",
    "render answered",
    "keep sent#2",
    "keep answered#2",
    "after end#2",
    "after end#3",
    "after begin#4",
    "after end#4",
    "after finish",
    "notify sent",
    "notify answered",
    "after write",  # the delivery is noted
]


@dataclass(frozen=True)
class Left:
    """What a killed process left of a paid stage: calls it had written down, calls it had made, and whether what the
    last one brought was on the disk."""

    begun: int
    made: int
    kept: bool


@pytest.mark.parametrize("point", POINTS)
def test_after_a_kill_the_task_ends_well_and_no_finished_call_is_bought_again(
    point: str, database_url: str, tmp_path: Path
) -> None:
    assert finish(start(Orders(database_url, tmp_path, begin=1, die_at=point))) == -signal.SIGKILL
    left = {stage: look(stage, database_url, tmp_path) for stage in ("describe", "render")}

    # Had the process died before the task was written down, the client would ask again with the same key.
    assert finish(start(Orders(database_url, tmp_path, begin=1))) == 0

    [task] = [Task.model_validate(one) for one in json.loads((tmp_path / "tasks").read_text())]
    ledger = Ledger(tmp_path / "ledger")
    assert task.status == "succeeded", task.error
    assert task.result is not None
    assert [product.keyword for product in task.result.products] == ["마우스", "키보드"]
    assert task.callback.status == "delivered"
    for stage, found in left.items():
        assert ledger.count(f"{stage} sent") == found.made + (not found.kept)
        # Every call that was written down is counted, and one that may be billed for nothing is told.
        costs = [item for item in task.cost.items if item.what.startswith(stage)]
        assert len(costs) == found.begun + (not found.kept)
        in_vain = found.begun - found.kept
        assert sum("interrupted" in item.what for item in costs) == in_vain
        assert sum(stage in warning for warning in task.warnings) == in_vain
    assert task.cost.total == pytest.approx(sum(item.usd for item in task.cost.items))
    look("render", database_url, tmp_path)  # the totals once more


def look(stage: str, database_url: str, folder: Path) -> Left:
    database = Database(database_url)
    rows = database.read_now(lambda c: c.execute(sa.select(stages.c.state).where(stages.c.stage == stage)).all())
    check_totals(database)
    database.close()
    kept = any(row.state == "done" for row in rows)
    if stage == "render":
        kept = kept or any((folder / "storage" / "results").rglob("*.png"))
    return Left(begun=len(rows), made=Ledger(folder / "ledger").count(f"{stage} sent"), kept=kept)


def test_every_point_that_a_makeover_passes_is_in_the_matrix(tmp_path: Path) -> None:
    assert finish(start(Orders(f"sqlite:///{tmp_path}/jobs.sqlite", tmp_path, begin=1))) == 0

    passed = [line.removesuffix("#1") for line in (tmp_path / "points").read_text().splitlines()]
    # What comes before the task, and what repeats a boundary from its other side, needs no kill of its own.
    begun = passed[passed.index("after create") :]
    lines = {"keep sent"}  # of the photo, which is fetched again for nothing
    passed_once = {point for point in begun if not point.startswith("before") and "execute_now" not in point}
    assert passed_once - lines - set(POINTS) == set()


@pytest.mark.parametrize(
    "point", ["after begin#2", "after begin#3", "after tell", "keep sent#2", "keep answered#2", "after end#3"]
)
def test_after_a_kill_our_own_model_draws_again_for_nothing_and_the_task_ends_well(
    point: str, database_url: str, tmp_path: Path
) -> None:
    orders = Orders(database_url, tmp_path, begin=1, kind="v2", die_at=point)
    assert finish(start(orders)) == -signal.SIGKILL

    assert finish(start(Orders(database_url, tmp_path, begin=1, kind="v2"))) == 0

    [task] = [Task.model_validate(one) for one in json.loads((tmp_path / "tasks").read_text())]
    assert task.status == "succeeded", task.error
    assert [item.what for item in task.cost.items] == ["describe"]
    assert task.warnings == []
    assert Ledger(tmp_path / "ledger").count("describe sent") == 1
    database = Database(database_url)
    rows = database.read_now(lambda connection: connection.execute(sa.select(progress)).all())
    database.close()
    assert rows == []
