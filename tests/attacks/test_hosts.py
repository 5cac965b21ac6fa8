"""Hosts that lie by their name, their redirects and their answers: nobody inside is asked, and memory stays small."""

from __future__ import annotations

import tracemalloc

import pytest

from tests.attacks.attack import ACCEPTED
from tests.attacks.hosts import HOPS, HOSTS, MAX_BYTES, NAMES, SOON, Hop, Host, Name
from tests.attacks.world import ATTACKER, Directory, world
from tests.downloads import PHOTO
from tests.websites import Visit

URL = "http://photos.test/desk.jpg"


def each(attacks: list[Name] | list[Hop] | list[Host]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("attack", attacks, ids=lambda attack: attack.name)


@each(NAMES)
async def test_a_name_is_judged_by_every_address_that_it_leads_to(attack: Name) -> None:
    async def answer(visit: Visit) -> None:
        await visit.answer(PHOTO, "200 OK", "Connection: close")

    names = Directory(photos_test=[list(addresses) for addresses in attack.leads_to])
    async with world(answer, names=names) as here:
        if attack.again:
            assert await here.classify(URL) == ACCEPTED
        assert await here.classify(URL) == attack.answer
        assert not here.reached_inside
        dialled = [ATTACKER] if attack.again or attack.answer == ACCEPTED else []
        assert here.exchange.dialled == dialled


@each(HOPS)
async def test_a_redirect_is_judged_like_any_address(attack: Hop) -> None:
    async def answer(visit: Visit) -> None:
        await (visit.redirect(attack.location) if attack.location else visit.answer(b"", "302 Found"))

    async with world(answer) as here:
        assert await here.classify(URL) == attack.answer
        assert not here.reached_inside
        assert len(here.attacker.visits) <= 6
        assert all(place not in here.problems[0]["detail"] for place in ("10.0.0", "169.254", "passwd", "a:b"))


@each(HOSTS)
async def test_a_rude_host_gets_a_plain_answer_and_little_memory(attack: Host) -> None:
    timeout_s = SOON if attack.slow else 30.0
    async with world(attack.says, max_bytes=MAX_BYTES, timeout_s=timeout_s) as here:
        tracemalloc.start()
        try:
            assert await here.classify(URL) == attack.answer
            assert tracemalloc.get_traced_memory()[1] < 20 * MAX_BYTES
        finally:
            tracemalloc.stop()
        assert not here.reached_inside
        assert here.desk.shown == (attack.answer == ACCEPTED)
        if attack.answer.startswith("4"):
            await here.attacker.left.wait()  # nothing holds the connection open


async def test_no_cookie_goes_back() -> None:
    async def answer(visit: Visit) -> None:
        await visit.answer(PHOTO, "200 OK", "Set-Cookie: you=known; Path=/")

    async with world(answer) as here:
        for _ in range(2):
            assert await here.classify(URL) == ACCEPTED
        assert all("cookie" not in visit.headers for visit in here.attacker.visits)
