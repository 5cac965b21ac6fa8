"""The rule for a paid call: written down before, settled after, and never repeated without leave.

A call that is known to have cost nothing may be made again a few times. One that may have been billed is made again
only within `allowed` paid calls an attempt; beside these, once when the process died in it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from deskterior.errors import InternalError, ProviderError, ProviderRefused
from deskterior.makeover.journal import Journal, Run
from deskterior.schemas import CostItem

log = structlog.get_logger(__name__)

FREE_TRIES = 3
MAX_PAUSE_S = 10.0


@dataclass(frozen=True)
class Bought:
    """What a call brought (JSON) and cost."""

    result: str
    cost: CostItem


class Lost(Exception):
    """The call was answered and paid, but what it brought is lost."""

    def __init__(self, cost: CostItem, why: Exception) -> None:
        super().__init__(str(why))
        self.cost = cost
        self.why = why


async def buy(
    journal: Journal,
    run: Run,
    stage: str,
    call: Callable[[int], Awaitable[Bought]],
    *,
    expected: CostItem | None,
    allowed: int = 1,
) -> str:
    """Make the call of a stage and return its result. `call` is given the number under which it is written down.

    Raises:
        ProviderError: the call failed; what that cost is written down.
        InternalError: the process died after, or in, as many calls as may be made.
        Superseded: the task was cancelled, or another run has it.
    """
    free = 0
    while True:
        if run.paid_in_vain(stage) >= allowed:
            raise InternalError(
                f"The {stage} call came to nothing as often as it may be made, and may have been billed each time. "
                "Retry the task to have it made again"
            )
        number = await journal.begin(run, stage, expected)
        try:
            bought = await call(number)
        except ProviderError as error:
            await journal.failed(run, stage, number, error.cost)
            pause = error.retry_after if error.retry_after is not None else random.uniform(0.2, 1.0) * 2**free
            if error.cost is None:
                free += 1
                again = error.safe_to_retry and free < FREE_TRIES and pause <= MAX_PAUSE_S
            else:
                again = not isinstance(error, ProviderRefused) and run.paid_in_vain(stage) < allowed
            if not again:
                raise
            log.warning("paid.again", stage=stage, slug=error.slug, billed=error.cost is not None)
            await asyncio.sleep(min(pause, MAX_PAUSE_S))
        except Lost as lost:
            await journal.failed(run, stage, number, lost.cost)
            raise lost.why from lost
        except Exception:
            # Of a mistake in our own code nobody can know what it cost.
            await journal.failed(run, stage, number, expected)
            raise
        else:
            await journal.done(run, stage, number, bought.result, bought.cost)
            return bought.result
