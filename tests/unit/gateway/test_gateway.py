"""Who the gateway lets in, and what it says to the others; before a body, and without a key ever being repeated."""

from __future__ import annotations

import time
from typing import Any

import pytest
from structlog.testing import capture_logs

from deskterior.config import Settings, SettingsError
from deskterior.errors import DeskteriorError, Forbidden, MethodNotAllowed, NotFound, RateLimited, Unauthenticated
from deskterior.gateway.caller import EVERYONE, STRANGER, Caller
from deskterior.gateway.gateway import Gateway
from deskterior.gateway.keys import Entry, write
from deskterior.services import Services
from tests.gateways import scope

KEYS = {"eyes": Entry.make("eyes", ["classify"]), "root": Entry.make("root", ["admin"])}


def settings(**more: Any) -> Settings:
    keys = write([entry for _, entry in KEYS.values()])
    return Settings(**{"api_keys": keys, "_env_file": None, **more})


@pytest.fixture
def gateway() -> Gateway:
    return Gateway.open(settings())


async def enter(gateway: Gateway, method: str, path: str, key: str | None = None) -> Caller:
    return (await gateway.enter(scope(method, path, **({"x-api-key": key} if key else {})))).caller


async def test_a_key_with_the_scope_comes_in_by_its_name(gateway: Gateway) -> None:
    caller = await enter(gateway, "POST", "/classify", KEYS["eyes"][0])
    assert (caller.name, caller.sees) == ("eyes", "eyes")


async def test_an_admin_comes_in_everywhere_and_sees_everybodys(gateway: Gateway) -> None:
    for method, path in (("POST", "/v1/generate"), ("GET", "/tasks/1"), ("GET", "/metrics")):
        caller = await enter(gateway, method, path, KEYS["root"][0])
        assert (caller.name, caller.sees) == ("root", None)


@pytest.mark.parametrize(
    ("method", "path", "key", "error"),
    [
        ("POST", "/classify", None, Unauthenticated),
        ("POST", "/classify", "dskt_wrong", Unauthenticated),
        ("POST", "/v1/generate", "eyes", Forbidden),
        ("GET", "/tasks", "eyes", Forbidden),
        ("HEAD", "/tasks", "eyes", Forbidden),
        ("HEAD", "/tasks", None, Unauthenticated),
        ("GET", "/metrics", "eyes", Forbidden),
        ("GET", "/info", None, Unauthenticated),
        ("GET", "/classify", None, Unauthenticated),
        ("GET", "/classify", "eyes", MethodNotAllowed),
        ("GET", "/nowhere", None, Unauthenticated),
        ("GET", "/nowhere", "eyes", NotFound),
        ("GET", "/nowhere", "root", NotFound),
        ("POST", "/health", None, MethodNotAllowed),
        ("OPTIONS", "/classify", None, MethodNotAllowed),
        ("OPTIONS", "/nowhere", None, NotFound),
        ("TRACE", "/classify", "root", MethodNotAllowed),
    ],
)
async def test_the_others_are_told_why_not(
    gateway: Gateway, method: str, path: str, key: str | None, error: type[DeskteriorError]
) -> None:
    shown = KEYS[key][0] if key in KEYS else key
    with pytest.raises(error):
        await enter(gateway, method, path, shown)


@pytest.mark.parametrize("path", ["/health", "/livez", "/docs", "/openapi.json", "/studio", "/files/a.jpg"])
async def test_what_is_open_looks_at_no_key(gateway: Gateway, path: str) -> None:
    for key in (None, "wrong", KEYS["root"][0]):
        assert await enter(gateway, "GET", path, key) == STRANGER


async def test_a_makeover_that_another_request_starts_goes_by_the_rules_of_asking_for_one() -> None:
    gateway = Gateway.open(settings(key_generates_per_minute=1))
    asked = scope("POST", "/classify")
    eyes = await enter(gateway, "POST", "/classify", KEYS["eyes"][0])
    with pytest.raises(Forbidden, match="generate"):
        await gateway.admit_order(eyes, asked)
    root = await enter(gateway, "POST", "/classify", KEYS["root"][0])
    await gateway.admit_order(root, asked)
    with pytest.raises(RateLimited, match="KEY_GENERATES_PER_MINUTE"):
        await gateway.admit_order(root, asked)
    await Gateway.open(settings(api_keys="")).admit_order(EVERYONE, asked)


async def test_info_is_for_any_key(gateway: Gateway) -> None:
    assert await enter(gateway, "GET", "/info", KEYS["eyes"][0])


async def test_a_key_in_the_address_is_not_read(gateway: Gateway) -> None:
    asked = scope("POST", "/classify") | {"query_string": f"api_key={KEYS['root'][0]}&access_token=x".encode()}
    with pytest.raises(Unauthenticated):
        await gateway.enter(asked)


async def test_a_refused_key_is_in_the_log_by_its_id_alone(gateway: Gateway) -> None:
    key = KEYS["eyes"][0]
    spoiled = key[:-4] + "0000"
    with capture_logs() as logs:
        for shown in (spoiled, "some-secret", "dskt_" + "x" * 77):
            with pytest.raises(Unauthenticated):
                await enter(gateway, "POST", "/classify", shown)
        with pytest.raises(Forbidden):
            await enter(gateway, "POST", "/v1/generate", key)
    assert [line.get("key_id", line.get("caller")) for line in logs] == [KEYS["eyes"][1].id, None, None, "eyes"]
    assert not any(secret in str(logs) for secret in (key[18:40], "some-secret", "xxx"))


async def test_a_flood_of_wrong_keys_keeps_out_no_right_one_from_the_same_address() -> None:
    """A whole company may come from one address, or everybody where a proxy stands before the service."""
    gateway = Gateway.open(settings(address_failures_per_minute=2))
    with capture_logs() as logs:
        for number in range(20):
            with pytest.raises(Unauthenticated if number < 2 else RateLimited):
                await enter(gateway, "POST", "/classify", f"wrong-{number}")
            assert (await enter(gateway, "POST", "/classify", KEYS["eyes"][0])).name == "eyes"
    assert len(logs) == 2


async def test_without_keys_everybody_may_do_everything_and_the_start_says_so() -> None:
    with capture_logs() as logs:
        gateway = Gateway.open(settings(api_keys=""))
    assert [(line["event"], line["log_level"]) for line in logs] == [("gateway.open_to_all", "warning")]
    for shown in (None, "whatever"):
        assert await enter(gateway, "DELETE", "/tasks/1", shown) == EVERYONE
    with pytest.raises(NotFound):
        await enter(gateway, "GET", "/nowhere")


def test_with_keys_the_start_says_nothing() -> None:
    with capture_logs() as logs:
        Gateway.open(settings())
    assert logs == []


async def test_a_token_is_no_key_where_there_is_no_issuer(gateway: Gateway) -> None:
    with pytest.raises(Unauthenticated):
        await enter(gateway, "POST", "/classify", "aaaa.bbbb.cccc")


async def test_keys_stay_good_beside_an_issuer_that_is_away() -> None:
    gateway = Gateway.open(settings(jwt_jwks_url="http://127.0.0.1:1/", jwt_issuer="i", jwt_audience="a"))
    assert await enter(gateway, "POST", "/classify", KEYS["eyes"][0])
    with pytest.raises(Unauthenticated):
        await enter(gateway, "POST", "/classify", "dskt_no.token.atall")
    await gateway.aclose()


async def test_an_issuer_alone_closes_the_doors_too() -> None:
    gateway = Gateway.open(settings(api_keys="", jwt_jwks_url="http://127.0.0.1:1/", jwt_issuer="i", jwt_audience="a"))
    with pytest.raises(Unauthenticated):
        await enter(gateway, "POST", "/classify")
    with pytest.raises(Unauthenticated):
        await enter(gateway, "POST", "/classify", KEYS["root"][0])
    await gateway.aclose()


async def test_keys_that_cannot_be_used_stop_the_start() -> None:
    with pytest.raises(SettingsError, match="API_KEYS entry 1"):
        await Services.rehearse(settings(api_keys="[{}]"))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"jwt_jwks_url": "https://i.example/jwks"}, "JWT_ISSUER and JWT_AUDIENCE missing"),
        ({"jwt_issuer": "i", "jwt_audience": "a"}, "JWT_JWKS_URL missing"),
        ({"jwt_jwks_url": "i.example", "jwt_issuer": "i", "jwt_audience": "a"}, "JWT_JWKS_URL is not"),
        (
            {"env": "production", "jwt_jwks_url": "http://i.example/", "jwt_issuer": "i", "jwt_audience": "a"},
            "JWT_JWKS_URL must begin with https",
        ),
        ({"env": "production", "api_keys": ""}, "API_KEYS is missing"),
        ({"open_paths": "docs,tasks"}, "tasks"),
        ({"open_paths": "none,docs"}, "none"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(more: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        settings(**more)


@pytest.mark.parametrize(
    ("text", "groups"),
    [("none", set()), ("info, metrics", {"info", "metrics"}), ("docs,", {"docs"})],
)
def test_open_paths_are_named_by_commas(text: str, groups: set[str]) -> None:
    assert settings(open_paths=text).open_paths == groups


async def test_letting_somebody_in_costs_microseconds(gateway: Gateway) -> None:
    """No assertion on the time: the figure is printed, and the answer is the same each time."""
    asked = scope("POST", "/classify", Authorization=f"Bearer {KEYS['eyes'][0]}")
    started = time.perf_counter()
    callers = {(await gateway.enter(asked)).caller.name for _ in range(1000)}
    print(f"{(time.perf_counter() - started) * 1000:.1f} µs a request")
    assert callers == {"eyes"}
