"""No address on the list makes the service ask anybody: neither as it stands, nor as the target of a redirect."""

from __future__ import annotations

import re

import pytest

from tests.attacks.addresses import ADDRESSES, PORTS, Address
from tests.attacks.attack import FORBIDDEN, UNREACHABLE
from tests.attacks.world import ATTACKER, world
from tests.websites import Visit


def each(attacks: list[Address]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("attack", attacks, ids=lambda attack: attack.name)


@each(ADDRESSES + PORTS)
async def test_an_address_that_leads_inside_is_forbidden(attack: Address) -> None:
    async with world() as here:
        answers = {url: await here.classify(url) for url in attack.urls}
        assert answers == dict.fromkeys(attack.urls, attack.answer)
        assert here.exchange.dialled == []
        assert here.inside.connections == 0


@each(ADDRESSES)
@pytest.mark.parametrize("production", [True, False])
async def test_a_list_of_hosts_lets_none_of_them_pass_either(attack: Address, production: bool) -> None:
    async with world(allowed=["photos.test", "::2"], production=production) as here:
        answers = {url: await here.classify(url) for url in attack.urls}
        assert answers == dict.fromkeys(attack.urls, FORBIDDEN)
        assert here.exchange.dialled == []


@each(ADDRESSES)
async def test_where_one_spelling_of_this_machine_is_allowed_no_other_is(attack: Address) -> None:
    async with world(allowed=["127.0.0.1"]) as here:
        for url in attack.urls:
            if not re.match(r"http://127\.0\.0\.1[/?#]", url):
                assert await here.classify(url) == FORBIDDEN, url
        assert here.exchange.dialled == []


@each(ADDRESSES + PORTS)
async def test_a_redirect_to_it_is_forbidden_too(attack: Address) -> None:
    target = ""

    async def answer(visit: Visit) -> None:
        await visit.say(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: " + target.encode() + b"\r\n\r\n")

    async with world(answer) as here:
        for url in attack.urls:
            if re.match(r"[a-z+-]+:", url.lower()) and not set(url) & set("\r\n\0"):
                target = url
                # The colon of "http:///a" and the like makes it a path at the attacker's own host: a circle.
                circle = re.match(r"http:/?[^/]|http:///|https?:/*($|[?#])", url)
                assert await here.classify("http://photos.test/desk.jpg") in {FORBIDDEN, circle and UNREACHABLE}, url
        assert set(here.exchange.dialled) <= {ATTACKER}
        assert here.inside.connections == 0


@pytest.mark.parametrize(
    "url", [r"http://\ud800.test/", r"http://photos.test/\udfff", r"http://photos.test/\udfff\ud800"]
)
async def test_half_a_unicode_character_is_forbidden(url: str) -> None:
    async with world() as here:
        body = b'{"initial_image_url": "%b"}' % url.encode()
        answer = await here.api.post("/classify", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 422
        assert here.exchange.dialled == []


async def test_an_address_longer_than_any_is_refused_by_the_schema() -> None:
    async with world() as here:
        assert await here.classify("http://photos.test/" + "a" * 10_000) == "422 validation"


async def test_the_world_can_be_broken_into_so_that_these_tests_can_fail() -> None:
    async with world(allowed=["10.0.0.66"]) as here:
        assert await here.classify("http://10.0.0.66/") == "200"
        assert here.reached_inside
