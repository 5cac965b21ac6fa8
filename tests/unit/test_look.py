"""What a look at a photo says when the makeover that should follow is refused."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from deskterior.errors import DeskteriorError, Forbidden, RateLimited, SpendingCapReached
from deskterior.jobs.database import DatabaseAway
from deskterior.makeover.register import Origin
from deskterior.routers.classify import look
from deskterior.schemas import ClassifyRequest

DESK = ClassifyRequest(initial_image_url="https://a.example/desk.jpg")


def services(start: Callable[..., Awaitable[None]]) -> Any:
    """What a look at a desk needs, with `start` for the makeover that follows."""

    async def square(_: str) -> None: ...

    async def score(_: object) -> float:
        return 0.9

    return SimpleNamespace(
        photos=SimpleNamespace(fetch_square=square),
        desk=SimpleNamespace(score=score, info=SimpleNamespace(label="tiny")),
        desk_threshold=0.5,
        settings=SimpleNamespace(on_desk="generate"),
        makeovers=SimpleNamespace(kinds=frozenset(), start=start),
    )


@pytest.mark.parametrize(
    "error",
    [SpendingCapReached(), RateLimited("The key backend may have 2 tasks waiting"), DatabaseAway("no answer")],
)
async def test_the_verdict_stands_whatever_limit_the_makeover_meets(error: DeskteriorError) -> None:
    async def start(*_: object) -> None:
        raise error

    seen = await look(DESK, services(start), Origin())
    assert seen.status.classify
    assert seen.refused is error


@pytest.mark.parametrize("error", [Forbidden("This needs a key with the scope generate"), RateLimited("60 a minute")])
async def test_who_may_not_order_a_makeover_has_the_verdict_and_spends_nothing(error: DeskteriorError) -> None:
    started = []

    async def start(*_: object) -> None:
        started.append(1)

    async def admit() -> None:
        raise error

    seen = await look(DESK, services(start), Origin("camera"), admit)
    assert seen.status.classify
    assert seen.refused is error
    assert not started
