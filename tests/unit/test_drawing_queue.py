"""Pictures that wait: the oldest first, what is alike together, and an honest word when there is no room."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest
from PIL import Image

from deskterior.errors import Overloaded, RunnerFailed
from deskterior.schemas import Concept
from runners.drawing import DrawRequest
from runners.drawing_queue import DrawQueue, Job


def job(concept: Concept = Concept.BASIC, prompt: str = "") -> Job:
    request = DrawRequest(b"", prompt, concept)
    return Job(request, Image.new("RGB", (4, 4)), 0, asyncio.get_running_loop().create_future())


def filled(jobs: Iterable[Job], most: int = 100) -> DrawQueue:
    queue = DrawQueue(most)
    for each in jobs:
        queue.enter()
        queue.put(each)
    return queue


def concept_of(each: Job) -> Concept:
    return each.request.concept


async def test_the_oldest_goes_first_and_takes_along_what_is_alike() -> None:
    oil, basic = [job(Concept.OIL) for _ in range(3)], [job() for _ in range(3)]
    queue = filled([oil[0], basic[0], oil[1], basic[1], oil[2], basic[2]])
    assert queue.take(concept_of, 2) == oil[:2]
    assert queue.take(concept_of, 2) == basic[:2]
    assert queue.take(concept_of, 2) == oil[2:]
    assert queue.take(concept_of, 2) == basic[2:]
    assert queue.take(concept_of, 2) == []


async def test_a_rare_concept_is_not_starved_by_a_common_one_that_never_ends() -> None:
    rare = job(Concept.MSPAINT)
    queue = filled([job(), job(), rare, *(job() for _ in range(50))])
    assert rare not in queue.take(concept_of, 4)
    for _ in range(4):  # the common ones keep coming
        queue.enter()
        queue.put(job())
    assert queue.take(concept_of, 4) == [rare]


async def test_a_full_queue_says_when_to_come_back_by_what_a_picture_takes() -> None:
    queue = filled([job() for _ in range(4)], most=4)
    queue.measured(seconds=60, pictures=2)
    with pytest.raises(Overloaded, match="4 pictures") as full:
        queue.enter()
    assert full.value.retry_after == 60  # half of four, at 30 s each
    queue.drop(queue.take(concept_of, 1)[0])
    queue.enter()
    with pytest.raises(Overloaded):  # a photo that is being decoded has its place
        queue.enter()
    queue.leave()
    queue.enter()


async def test_the_time_to_wait_has_bounds() -> None:
    queue = filled([job()], most=1)
    queue.measured(seconds=1e-6, pictures=1)
    with pytest.raises(Overloaded) as quick:
        queue.enter()
    assert quick.value.retry_after == 1
    for _ in range(50):
        queue.measured(seconds=1e6, pictures=1)
    with pytest.raises(Overloaded) as slow:
        queue.enter()
    assert slow.value.retry_after == 600


async def test_those_who_leave_make_room_and_are_not_drawn() -> None:
    jobs = [job() for _ in range(3)]
    queue = filled(jobs, most=3)
    queue.drop(jobs[1])
    queue.drop(jobs[1])
    queue.enter()
    queue.put(late := job())
    assert queue.take(concept_of, 10) == [jobs[0], jobs[2], late]


async def test_steps_are_told_once_forwards_and_never_after_the_answer() -> None:
    told: list[tuple[int, int]] = []
    each = job()
    each.on_step = lambda done, total: told.append((done, total))
    for done in (1, 2, 1, 2, 3):  # the second round is the batch drawn again
        each.step(done, 4)
    each.fail(RunnerFailed())
    each.step(4, 4)
    assert told == [(1, 4), (2, 4), (3, 4)]
    assert isinstance(each.answer.exception(), RunnerFailed)


async def test_a_watcher_that_raises_harms_nobody() -> None:
    each = job()

    def raises(done: int, total: int) -> None:
        raise ZeroDivisionError

    each.on_step = raises
    each.step(1, 2)
    assert not each.gone


async def test_those_who_wait_are_failed_once() -> None:
    jobs = [job(), job()]
    queue = filled(jobs)
    jobs[0].answer.cancel()
    queue.fail_all(lambda: RunnerFailed("over"))
    assert len(queue) == 0
    assert isinstance(jobs[1].answer.exception(), RunnerFailed)


def test_a_queue_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="room"):
        DrawQueue(0)
