"""Our own drawing model: what waits, what nobody waits for any more, and what there is no room for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from deskterior.errors import Overloaded
from runners.drawing_engine import LocalDrawing
from tests.drawing import (
    SAME,
    Checkpoints,
    Gate,
    Hook,
    apart,
    request,
    until,
)

# One loop for all: a model is loaded once, and most tests draw with the same.
pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("no_network")]


async def test_what_was_cancelled_while_it_waited_is_never_drawn(sd: LocalDrawing, hook: Hook) -> None:
    gate = Gate()
    hook.do = gate
    first = asyncio.ensure_future(sd.draw(request()))
    await gate.until_reached()
    waiting = [asyncio.ensure_future(sd.draw(request(at))) for at in range(3)]
    await until(lambda: len(sd.queue) == 3)
    for each in waiting:
        each.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert len(sd.queue) == 0
    hook.do = lambda _: None
    gate.open.set()
    await first
    assert hook.batches == [1, 1, 1]


async def test_a_batch_that_nobody_waits_for_any_more_ends_early(sd: LocalDrawing, hook: Hook) -> None:
    gate = Gate()
    hook.do = gate
    told: list[int] = []
    first = asyncio.ensure_future(sd.draw(request(), lambda done, _: told.append(done)))
    await gate.until_reached()
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    gate.open.set()
    await sd.draw(request(3))
    assert hook.batches == [1, 1, 1, 1]  # one step of the first, all three of the second
    assert told == []


async def test_a_batch_goes_on_for_those_who_still_wait(sd: LocalDrawing, hook: Hook) -> None:
    expected = await sd.draw(request(2))
    gate = Gate()
    hook.do = gate
    first = asyncio.ensure_future(sd.draw(request()))
    await gate.until_reached()
    leaves, stays = (asyncio.ensure_future(sd.draw(request(seed))) for seed in (1, 2))
    await until(lambda: len(sd.queue) == 2)

    def leave(many: int) -> None:
        if many == 2:
            leaves.cancel()

    hook.do = leave
    gate.open.set()
    await first
    assert apart(await stays, expected) <= SAME


async def test_a_full_queue_is_said_at_once_and_empties_again(
    models: Path, checkpoints: Checkpoints, opened: Callable[..., LocalDrawing]
) -> None:
    checkpoints.install(models)
    drawing = opened(drawing_max_queue=2)
    await drawing.draw(request())
    hook, gate = Hook(drawing), Gate()
    hook.do = gate
    first = asyncio.ensure_future(drawing.draw(request()))
    await gate.until_reached()
    waiting = [asyncio.ensure_future(drawing.draw(request(at))) for at in range(2)]
    await until(lambda: len(drawing.queue) == 2)
    with pytest.raises(Overloaded, match="2 pictures") as full:
        await drawing.draw(request())
    assert full.value.retry_after == 1
    hook.do = lambda _: None
    gate.open.set()
    await asyncio.gather(first, *waiting)
    await drawing.draw(request())


async def test_closing_finishes_what_is_drawn_and_refuses_what_waits(own: LocalDrawing) -> None:
    hook = Hook(own)
    gate = Gate()
    hook.do = gate
    first = asyncio.ensure_future(own.draw(request()))
    await gate.until_reached()
    waits = asyncio.ensure_future(own.draw(request(1)))
    await until(lambda: len(own.queue) == 1)
    closing = asyncio.ensure_future(own.aclose())
    with pytest.raises(Overloaded, match="stopping"):
        await waits
    with pytest.raises(Overloaded, match="stopping"):
        await own.draw(request())
    gate.open.set()
    assert (await first).image
    await closing
    await own.aclose()
