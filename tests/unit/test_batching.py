"""The adaptive batcher: every caller gets its own answer exactly once, whatever others do."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deskterior.errors import NotADesk, Overloaded, RunnerFailed
from runners.batching import MicroBatcher


class Model:
    """Doubles each item; raises when a batch holds one of `poison`; can be held still while a queue forms."""

    def __init__(self, poison: Sequence[int] = ()) -> None:
        self.poison = set(poison)
        self.batches: list[list[int]] = []
        self.go = threading.Event()
        self.go.set()
        self.started = threading.Event()

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.started.set()
        assert self.go.wait(10)
        self.batches.append(list(items))
        if bad := self.poison & set(items):
            raise ValueError(f"poison {bad}")
        return [2 * item for item in items]

    @property
    def computed(self) -> list[int]:
        return [item for batch in self.batches for item in batch]


async def held(model: Model, batcher: MicroBatcher[int, int]) -> asyncio.Task[int]:
    """Occupy the model with item -1, so that what is asked next queues up behind it."""
    model.go.clear()
    model.started.clear()
    first = asyncio.ensure_future(batcher(-1))
    await asyncio.to_thread(model.started.wait, 10)
    return first


async def settle() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_what_queued_while_the_model_was_busy_goes_in_together_and_in_order() -> None:
    model = Model()
    batcher = MicroBatcher(model, max_batch=4)
    first = await held(model, batcher)
    rest = [asyncio.ensure_future(batcher(i)) for i in range(10)]
    await settle()
    model.go.set()
    assert await asyncio.gather(first, *rest) == [-2, *(2 * i for i in range(10))]
    assert model.batches == [[-1], [0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert batcher.sizes == {1: 1, 4: 2, 2: 1}
    await batcher.close()


async def test_metrics_are_told_each_batch() -> None:
    seen: list[int] = []
    batcher = MicroBatcher(Model(), max_batch=8, on_batch=seen.append)
    await asyncio.gather(*(batcher(i) for i in range(8)))
    assert sum(seen) == 8
    assert sum(size * count for size, count in batcher.sizes.items()) == 8
    await batcher.close()


async def test_a_caller_cancelled_while_queued_is_never_computed_and_harms_no_other() -> None:
    model = Model()
    batcher = MicroBatcher(model, max_batch=8)
    first = await held(model, batcher)
    rest = [asyncio.ensure_future(batcher(i)) for i in range(6)]
    await settle()
    rest[2].cancel()
    rest[0].cancel()
    await settle()
    assert batcher.waiting == 4
    model.go.set()
    results = await asyncio.gather(first, *rest, return_exceptions=True)
    assert [r for r in results if not isinstance(r, BaseException)] == [-2, 2, 6, 8, 10]
    assert model.batches == [[-1], [1, 3, 4, 5]]
    await batcher.close()


async def test_a_caller_cancelled_while_its_batch_runs_harms_no_other() -> None:
    model = Model()
    batcher = MicroBatcher(model, max_batch=8)
    first = await held(model, batcher)
    rest = [asyncio.ensure_future(batcher(i)) for i in range(3)]
    await settle()
    first.cancel()
    await settle()
    model.go.set()
    assert await asyncio.gather(*rest) == [0, 2, 4]
    assert first.cancelled()
    await batcher.close()


async def test_one_poisonous_item_fails_alone() -> None:
    model = Model(poison=[5])
    batcher = MicroBatcher(model, max_batch=16)
    first = await held(model, batcher)
    rest = [asyncio.ensure_future(batcher(i)) for i in range(11)]
    await settle()
    model.go.set()
    results = await asyncio.gather(first, *rest, return_exceptions=True)
    failed = results.pop(6)
    assert isinstance(failed, RunnerFailed)
    assert "poison" in failed.internal
    assert "poison" not in failed.detail
    assert results == [-2, 0, 2, 4, 6, 8, 12, 14, 16, 18, 20]
    await batcher.close()


async def test_a_caller_cancelled_between_the_failure_of_its_batch_and_the_retry_is_not_computed_again() -> None:
    model = Model(poison=[0])
    loop = asyncio.get_running_loop()
    rest: list[asyncio.Task[int]] = []

    def run(items: Sequence[int]) -> list[int]:
        if len(items) == 4:
            loop.call_soon_threadsafe(rest[3].cancel)
        return model(items)

    batcher = MicroBatcher(run, max_batch=4)
    first = await held(model, batcher)
    rest += [asyncio.ensure_future(batcher(i)) for i in range(4)]
    await settle()
    model.go.set()
    results = await asyncio.gather(first, *rest, return_exceptions=True)
    assert isinstance(results[1], RunnerFailed)
    assert results[2:4] == [2, 4]
    assert model.computed.count(3) == 1
    await batcher.close()


async def test_errors_of_our_own_tree_pass_unchanged() -> None:
    def refuse(items: Sequence[int]) -> list[int]:
        raise NotADesk("a table")

    batcher = MicroBatcher(refuse, max_batch=2)
    with pytest.raises(NotADesk, match="a table"):
        await batcher(1)
    await batcher.close()


@pytest.mark.parametrize("error", [StopIteration, SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError])
async def test_whatever_a_model_raises_reaches_its_caller_and_the_batcher_lives_on(error: type[BaseException]) -> None:
    def run(items: Sequence[int]) -> list[int]:
        if 0 in items:
            raise error
        return list(items)

    batcher = MicroBatcher(run, max_batch=4)
    results = await asyncio.gather(*(batcher(i) for i in range(4)), return_exceptions=True)
    assert isinstance(results[0], RunnerFailed)
    assert results[1:] == [1, 2, 3]
    await batcher.close()


@pytest.mark.parametrize("answer", [[], [1, 2], np.zeros((2, 1))])
async def test_a_wrong_number_of_results_is_an_error_not_a_mix_up(answer: Any) -> None:
    batcher: MicroBatcher[int, Any] = MicroBatcher(lambda _: answer, max_batch=4)
    with pytest.raises(RunnerFailed):
        await batcher(1)
    await batcher.close()


async def test_a_full_queue_refuses_at_once_and_says_when_to_return() -> None:
    model = Model()
    batcher = MicroBatcher(model, max_batch=2, max_queue=3)
    first = await held(model, batcher)
    rest = [asyncio.ensure_future(batcher(i)) for i in range(3)]
    await settle()
    with pytest.raises(Overloaded) as caught:
        await batcher(9)
    assert caught.value.status == 503
    assert caught.value.retry_after
    assert caught.value.retry_after >= 1
    rest[1].cancel()  # a caller that leaves frees its place
    await settle()
    late = asyncio.ensure_future(batcher(7))
    await settle()
    model.go.set()
    assert list(await asyncio.gather(first, rest[0], rest[2], late)) == [-2, 0, 4, 14]
    await batcher.close()


async def test_close_answers_what_waits_and_refuses_what_comes_after() -> None:
    model = Model()
    batcher = MicroBatcher(model, max_batch=2)
    first = await held(model, batcher)
    rest = [asyncio.ensure_future(batcher(i)) for i in range(5)]
    await settle()
    closing = asyncio.ensure_future(batcher.close())
    await settle()
    with pytest.raises(Overloaded):
        await batcher(9)
    assert not closing.done()
    model.go.set()
    await closing
    assert await asyncio.gather(first, *rest) == [-2, 0, 2, 4, 6, 8]
    await batcher.close()


def test_a_batcher_outlives_event_loops_even_one_that_died_with_work_in_hand() -> None:
    model = Model()
    batcher = MicroBatcher(model, max_batch=4)
    assert asyncio.run(_ask(batcher, 1)) == 2
    assert asyncio.run(_ask(batcher, 2)) == 4

    async def abandon() -> None:
        await held(model, batcher)
        queued.append(asyncio.ensure_future(batcher(5)))
        await settle()

    queued: list[asyncio.Task[int]] = []
    asyncio.run(abandon())
    model.go.set()
    assert asyncio.run(_ask(batcher, 3)) == 6
    assert 5 not in model.computed


def test_a_loop_that_was_closed_without_being_drained_does_not_block_the_next() -> None:
    model = Model()
    batcher = MicroBatcher(model, max_batch=4)
    loop = asyncio.new_event_loop()
    dropped = loop.create_task(batcher(1))
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    assert asyncio.run(_ask(batcher, 3)) == 6
    dropped._log_destroy_pending = False  # type: ignore[attr-defined]
    gc.collect()


async def test_a_second_event_loop_beside_a_living_one_is_refused_by_name() -> None:
    model = Model()
    batcher = MicroBatcher(model, max_batch=4, name="desk classifier")
    first = await held(model, batcher)
    with pytest.raises(RuntimeError, match=r"desk classifier.*event loop"):
        await asyncio.to_thread(lambda: asyncio.run(_ask(batcher, 1)))
    model.go.set()
    assert await first == -2
    await batcher.close()


async def test_callers_are_told_when_the_batcher_itself_is_cancelled() -> None:
    model = Model()
    batcher = MicroBatcher(model, max_batch=2)
    first = await held(model, batcher)
    rest = [asyncio.ensure_future(batcher(i)) for i in range(3)]
    await settle()
    next(task for task in asyncio.all_tasks() if task.get_name() == "model-batches").cancel()
    results = await asyncio.gather(first, *rest, return_exceptions=True)
    model.go.set()
    assert all(isinstance(result, RunnerFailed) for result in results)
    assert await batcher(4) == 8
    await batcher.close()


async def _ask(batcher: MicroBatcher[int, int], item: int) -> int:
    return await batcher(item)


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.integers(1, 6)),
        st.tuples(st.just("poison"), st.just(1)),
        st.tuples(st.just("cancel"), st.integers(0, 60)),
        st.tuples(st.just("yield"), st.integers(1, 4)),
        st.tuples(st.just("hold"), st.just(0)),
        st.tuples(st.just("release"), st.just(0)),
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(events=EVENTS, max_batch=st.integers(1, 7))
def test_every_caller_gets_its_own_answer_exactly_once(events: list[tuple[str, int]], max_batch: int) -> None:
    asyncio.run(_play(events, max_batch))


async def _play(events: list[tuple[str, int]], max_batch: int) -> None:
    model = Model()
    batcher = MicroBatcher(model, max_batch=max_batch, max_queue=10_000)
    asked: list[asyncio.Task[int]] = []
    cancelled: set[int] = set()
    for what, number in events:
        if what in {"ask", "poison"}:
            for _ in range(number):
                if what == "poison":
                    model.poison.add(len(asked))
                asked.append(asyncio.ensure_future(batcher(len(asked))))
        elif what == "cancel" and number < len(asked) and asked[number].cancel():
            cancelled.add(number)
        elif what == "yield":
            for _ in range(number):
                await asyncio.sleep(0)
        elif what == "hold":
            model.go.clear()
        elif what == "release":
            model.go.set()
    model.go.set()
    results = await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), 20)
    for number, result in enumerate(results):
        if number in cancelled:
            assert isinstance(result, asyncio.CancelledError)
        elif number in model.poison:
            assert isinstance(result, RunnerFailed)
        else:
            assert result == 2 * number
    healthy = [i for batch in model.batches if not model.poison & set(batch) for i in batch]
    assert len(healthy) == len(set(healthy)), "an item was computed twice for nothing"
    whole = [batch for batch in model.batches if not model.poison & set(batch)]
    assert all(batch == sorted(batch) for batch in whole)
    assert not model.poison or not healthy or healthy == sorted(healthy)
    assert max(batcher.sizes, default=0) <= max_batch
    assert batcher.waiting == 0
    await batcher.close()
