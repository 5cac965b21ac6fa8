"""What a look at a photo says when the makeover that should follow is refused."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from deskterior.errors import DeskteriorError, RateLimited, SpendingCapReached
from deskterior.makeover.register import Origin
from deskterior.routers.classify import look
from deskterior.schemas import ClassifyRequest


@pytest.mark.parametrize("error", [SpendingCapReached(), RateLimited("The key backend may have 2 tasks waiting")])
async def test_the_verdict_stands_whatever_limit_the_makeover_meets(error: DeskteriorError) -> None:
    async def square(_: str) -> None: ...

    async def score(_: object) -> float:
        return 0.9

    async def start(*_: object) -> None:
        raise error

    to: Any = SimpleNamespace(
        photos=SimpleNamespace(fetch_square=square),
        desk=SimpleNamespace(score=score, info=SimpleNamespace(label="tiny")),
        desk_threshold=0.5,
        settings=SimpleNamespace(on_desk="generate"),
        makeovers=SimpleNamespace(kinds=frozenset(), start=start),
    )
    seen = await look(ClassifyRequest(initial_image_url="https://a.example/desk.jpg"), to, Origin())
    assert seen.status.classify
    assert seen.refused is error
