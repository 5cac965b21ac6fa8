"""Tokens of an issuer, whose keys are fetched from a real server: which are taken, and what it takes to fool us."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import socket
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import get_default_algorithms

from deskterior.errors import IssuerAway, Unauthenticated
from deskterior.gateway.caller import Caller
from deskterior.gateway.issuer_keys import COOLDOWN_S, KEEP_S, LARGEST, REFRESH_S, IssuerKeys
from deskterior.gateway.tokens import Tokens, owner
from tests.issuer import AUDIENCE, Issuer, ec_key, ed_key, issuer, public, rsa_key


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def by() -> Iterator[Issuer]:
    with issuer() as made:
        yield made


@pytest.fixture
async def tokens(by: Issuer, clock: Clock) -> AsyncIterator[Tokens]:
    made = Tokens(by.name, AUDIENCE, IssuerKeys(by.url, clock))
    yield made
    await made.aclose()


def unsigned(header: dict[str, Any], claims: dict[str, Any], signature: bytes = b"") -> str:
    parts = (json.dumps(header).encode(), json.dumps(claims).encode(), signature)
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


async def test_a_good_token_is_its_subjects(tokens: Tokens, by: Issuer) -> None:
    caller = await tokens.find(by.token(scope="openid classify tasks:read"))
    assert caller == Caller(owner(by.name, "someone"), frozenset({"classify", "tasks:read"}))


@pytest.mark.parametrize(
    ("claims", "scopes"),
    [
        ({"scope": "classify generate"}, {"classify", "generate"}),
        ({"scope": ..., "scp": ["tasks:write", 1, None, "admin"]}, {"tasks:write", "admin"}),
        ({"scope": ..., "scp": "classify"}, {"classify"}),
        ({"scope": ...}, set()),
        ({"scope": "Classify classify,generate"}, set()),
        ({"scope": {"classify": True}}, set()),
        ({"scope": 7, "scp": 8}, set()),
    ],
)
async def test_scopes_are_those_of_ours_that_it_names(
    tokens: Tokens, by: Issuer, claims: dict[str, Any], scopes: set[str]
) -> None:
    assert set((await tokens.find(by.token(**claims))).scopes) == scopes


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [(rsa_key, "RS256"), (rsa_key, "RS512"), (rsa_key, "PS256"), (ec_key, "ES256"), (ed_key, "EdDSA")],
)
async def test_signatures_of_every_usual_kind_are_taken(tokens: Tokens, by: Issuer, key: Any, algorithm: str) -> None:
    by.keys = [public(key(), "k", algorithm)]
    assert await tokens.find(by.token(key(), algorithm, {"kid": "k"}))


async def test_an_owner_is_the_same_for_every_token_and_nobody_elses(tokens: Tokens, by: Issuer) -> None:
    first, second = (await tokens.find(by.token(jti=jti)) for jti in "ab"), await tokens.find(by.token(sub="other"))
    names = {caller.name async for caller in first}
    assert len(names) == 1
    assert second.name not in names
    assert owner("a", "bc") != owner("ab", "c")
    assert ":" in owner("a", "b")  # which no API key's name has
    assert len(owner("a" * 5000, "책상" * 5000)) < 64


HOUR = 3600


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ({"exp": 1}, "expired"),
        ({"exp": ...}, "`exp`"),
        ({"exp": None}, "`exp`"),
        ({"exp": "tomorrow"}, "no token"),
        ({"nbf": int(time.time()) + HOUR}, "not good yet"),
        ({"iat": int(time.time()) + HOUR}, "not good yet"),
        ({"iss": "https://evil.example/"}, "another issuer"),
        ({"iss": "https://issuer.example"}, "another issuer"),
        ({"iss": ...}, "`iss`"),
        ({"iss": ["https://issuer.example/"]}, None),
        ({"aud": "somebody-else"}, "another audience"),
        ({"aud": ["somebody-else"]}, "another audience"),
        ({"aud": ...}, "`aud`"),
        ({"aud": []}, "`aud`"),
        ({"aud": {"deskterior": 1}}, "another audience"),
        ({"sub": ...}, "`sub`"),
        ({"sub": ""}, "`sub`"),
        ({"sub": ["someone"]}, None),
        ({"sub": 7}, None),
    ],
)
async def test_a_signed_token_that_is_not_for_here_and_now_is_refused(
    tokens: Tokens, by: Issuer, claims: dict[str, Any], said: str | None
) -> None:
    body = {name: value for name, value in (_claims(by) | claims).items() if value is not ...}
    with pytest.raises(Unauthenticated, match=said):
        await tokens.find(_signed({"kid": "one", "alg": "RS256"}, body))


def _signed(head: dict[str, Any], body: dict[str, Any]) -> str:
    """Signed by the issuer's own key, whatever nonsense it says."""
    text = unsigned(head, body).rpartition(".")[0]
    return unsigned(head, body, get_default_algorithms()["RS256"].sign(text.encode(), rsa_key()))


def _confused(by: Issuer) -> str:
    """HS256, with the issuer's public key as the secret that both are meant to share."""
    pem = rsa_key().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    text = unsigned({"alg": "HS256", "kid": "one"}, _claims(by)).rpartition(".")[0]
    return unsigned({"alg": "HS256", "kid": "one"}, _claims(by), hmac.digest(pem, text.encode(), hashlib.sha256))


def _claims(by: Issuer) -> dict[str, Any]:
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(by.token().split(".")[1] + "=="))
    return claims


FORGERIES: dict[str, Any] = {
    "no signature": lambda by: unsigned({"alg": "none", "kid": "one"}, _claims(by)),
    "no signature, in other letters": lambda by: unsigned({"alg": "nOnE", "kid": "one"}, _claims(by)),
    "an empty signature": lambda by: unsigned({"alg": "RS256", "kid": "one"}, _claims(by)),
    "the public key as a shared secret": _confused,
    "no algorithm": lambda by: unsigned({"kid": "one"}, _claims(by)),
    "an algorithm that is no text": lambda by: unsigned({"alg": ["RS256"], "kid": "one"}, _claims(by)),
    "somebody else's key": lambda by: by.token(rsa_key(2048, 1)),
    "an unknown key id": lambda by: by.token(rsa_key(2048, 1), "RS256", {"kid": "two"}),
    "no key id": lambda by: by.token(None, "RS256", {"kid": ...}),
    "a key id that is a path": lambda by: by.token(rsa_key(2048, 1), "RS256", {"kid": "../../dev/null"}),
    "a key id that is SQL": lambda by: by.token(rsa_key(2048, 1), "RS256", {"kid": "' or 1=1 --"}),
    "a key id that is a list": lambda by: _signed({"alg": "RS256", "kid": ["one"]}, _claims(by)),
    "a key of its own in the header": lambda by: by.token(
        rsa_key(2048, 1), "RS256", {"jwk": public(rsa_key(2048, 1), "one", "RS256")}
    ),
    "an address of keys in the header": lambda by: by.token(rsa_key(2048, 1), "RS256", {"jku": by.url, "x5u": by.url}),
    "an extension that nobody knows": lambda by: by.token(None, "RS256", {"crit": ["x"], "x": 1}),
    "another algorithm than the key's": lambda by: by.token(rsa_key(), "RS512"),
    "another kind of key": lambda by: by.token(ec_key(), "ES256"),
    "another body": lambda by: _swapped(by),
    "two parts": lambda by: by.token().rpartition(".")[0],
    "four parts": lambda by: by.token() + ".x",
    "empty parts": lambda _: "..",
    "no base64": lambda _: "!.!.!",
    "a list for a header": lambda _: "W10.W10.W10",
    "deep nesting": lambda _: base64.urlsafe_b64encode(b"[" * 4000).decode().rstrip("=") + ".e30.e30",
    "words": lambda _: "letmein",
}


def _swapped(by: Issuer) -> str:
    head, _, signature = by.token().split(".")
    return f"{head}.{by.token(scope='admin').split('.')[1]}.{signature}"


@pytest.mark.parametrize("forgery", FORGERIES)
async def test_a_forged_token_is_refused(tokens: Tokens, by: Issuer, forgery: str) -> None:
    with pytest.raises(Unauthenticated) as raised:
        await tokens.find(FORGERIES[forgery](by))
    assert b"invalid_token" in dict(raised.value.headers)[b"www-authenticate"]
    assert await tokens.find(by.token())


async def test_an_extra_letter_in_the_signature_is_refused(tokens: Tokens, by: Issuer) -> None:
    token = by.token()
    spoiled = token[:-10] + ("A" if token[-10] != "A" else "B") + token[-9:]
    with pytest.raises(Unauthenticated):
        await tokens.find(spoiled)


@pytest.mark.parametrize(
    "unusable",
    [
        {"kty": "oct", "k": "c2VjcmV0", "kid": "one", "alg": "HS256"},
        {"kty": "oct", "k": "c2VjcmV0", "kid": "one"},
        {"kty": "RSA", "kid": "one"},
        {"kty": "RSA", "kid": "one", "n": 5, "e": "AQAB"},
        {"kty": "?", "kid": "one"},
        {},
        "one",
        None,
        public(rsa_key(), "one", "RS256") | {"use": "enc"},
        public(rsa_key(), "one", "RS256") | {"kid": 1},
        public(rsa_key(), "one", "RS256") | {"alg": "HS256"},
        public(rsa_key(), "one", "RS256") | {"alg": "none"},
        public(rsa_key(), None, "RS256"),
    ],
)
async def test_keys_that_cannot_check_a_signature_are_left_out(tokens: Tokens, by: Issuer, unusable: Any) -> None:
    by.keys = [unusable, public(ec_key(), "good", "ES256")]
    assert await tokens.find(by.token(ec_key(), "ES256", {"kid": "good"}))
    with pytest.raises(Unauthenticated):
        await tokens.find(by.token())


async def test_a_weak_key_is_refused(tokens: Tokens, by: Issuer) -> None:
    by.keys = [public(rsa_key(1024), "one", "RS256")]
    with pytest.warns(Warning, match="below the minimum"):
        token = by.token(rsa_key(1024))
    with pytest.raises(Unauthenticated):
        await tokens.find(token)


async def test_keys_are_fetched_once_and_for_many_at_a_time(tokens: Tokens, by: Issuer) -> None:
    by.gate.clear()
    many = [asyncio.create_task(tokens.find(by.token())) for _ in range(20)]
    await _until(lambda: by.asked)
    by.gate.set()
    await asyncio.gather(*many)
    await tokens.find(by.token())
    assert by.asked == 1


async def test_unknown_keys_do_not_make_us_ask_without_end(tokens: Tokens, by: Issuer, clock: Clock) -> None:
    await tokens.find(by.token())
    for number in range(50):
        with pytest.raises(Unauthenticated):
            await tokens.find(by.token(None, "RS256", {"kid": f"k{number}"}))
    assert by.asked == 1
    clock.now += COOLDOWN_S
    for number in range(50):
        with pytest.raises(Unauthenticated):
            await tokens.find(by.token(None, "RS256", {"kid": f"k{number}"}))
    assert by.asked == 2


async def test_a_new_key_of_the_issuer_is_found(tokens: Tokens, by: Issuer, clock: Clock) -> None:
    await tokens.find(by.token())
    by.keys.append(public(ec_key(), "two", "ES256"))
    clock.now += COOLDOWN_S
    assert await tokens.find(by.token(ec_key(), "ES256", {"kid": "two"}))


async def test_a_key_that_the_issuer_takes_back_goes(tokens: Tokens, by: Issuer, clock: Clock) -> None:
    await tokens.find(by.token())
    by.keys = [public(ec_key(), "two", "ES256")]
    clock.now += REFRESH_S
    await tokens.find(by.token())  # asks, and waits for nobody
    await _until(lambda: by.asked == 2)
    with pytest.raises(Unauthenticated):
        await _eventually_refused(tokens, by.token())


FAULTS: dict[str, dict[str, Any]] = {
    "an error": {"status": 500},
    "not found": {"status": 404},
    "a redirect": {"status": 302, "location": "http://127.0.0.1:1/"},
    "no JSON": {"body": b"<html>"},
    "no text": {"body": b"\xff\xfe\x00"},
    "nothing": {"body": b""},
    "a list": {"body": b"[]"},
    "no keys": {"body": b'{"keys": []}'},
    "keys that are none": {"body": b'{"keys": 7}'},
    "deep nesting": {"body": b"[" * 100_000},
    "too much": {"body": b" " * (LARGEST + 1)},
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_an_issuer_that_fails_is_503_for_keys_that_are_not_known(
    tokens: Tokens, by: Issuer, clock: Clock, fault: str
) -> None:
    for name, value in FAULTS[fault].items():
        setattr(by, name, value)
    for _ in range(3):
        with pytest.raises(IssuerAway) as raised:
            await tokens.find(by.token())
    assert by.asked == 1
    assert raised.value.retry_after == COOLDOWN_S
    by.status, by.body, by.location = 200, None, ""
    clock.now += COOLDOWN_S
    assert await tokens.find(by.token())


async def test_an_issuer_that_is_gone_is_503(clock: Clock) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        tokens = Tokens("i", AUDIENCE, IssuerKeys(f"http://127.0.0.1:{nobody.getsockname()[1]}/", clock))
        with pytest.raises(IssuerAway):
            await tokens.find(Issuer().token())
        await tokens.aclose()


@pytest.mark.parametrize("fault", ["an error", "no keys", "too much"])
async def test_known_keys_go_on_while_the_issuer_is_away_but_not_for_ever(
    tokens: Tokens, by: Issuer, clock: Clock, fault: str
) -> None:
    await tokens.find(by.token())
    for name, value in FAULTS[fault].items():
        setattr(by, name, value)
    clock.now += REFRESH_S
    await tokens.find(by.token())
    await _until(lambda: by.asked == 2)
    assert await tokens.find(by.token())
    with pytest.raises(IssuerAway):  # whether it has this key cannot be known
        await _eventually_away(tokens, by.token(None, "RS256", {"kid": "two"}))
    clock.now += KEEP_S
    with pytest.raises(IssuerAway):
        await tokens.find(by.token())


async def test_whoever_stops_waiting_for_the_issuer_stops_nobody_else(tokens: Tokens, by: Issuer) -> None:
    by.gate.clear()
    gone, stays = (asyncio.create_task(tokens.find(by.token())) for _ in range(2))
    await _until(lambda: by.asked)
    gone.cancel()
    by.gate.set()
    assert await stays
    with pytest.raises(asyncio.CancelledError):
        await gone


async def test_a_stop_does_not_wait_for_the_issuer(by: Issuer) -> None:
    by.gate.clear()
    tokens = Tokens(by.name, AUDIENCE, IssuerKeys(by.url))
    waiting = asyncio.create_task(tokens.find(by.token()))
    await _until(lambda: by.asked)
    await tokens.aclose()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def _until(what: Any) -> None:
    async with asyncio.timeout(20):
        while not what():  # noqa: ASYNC110 - it happens in another thread
            await asyncio.sleep(0.005)


async def _eventually_refused(tokens: Tokens, token: str) -> None:
    """Until the fetch in the background is through."""
    async with asyncio.timeout(20):
        while await tokens.find(token):  # noqa: ASYNC110 - nobody tells of it
            await asyncio.sleep(0.005)


async def _eventually_away(tokens: Tokens, token: str) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                await tokens.find(token)
            except Unauthenticated:
                await asyncio.sleep(0.005)
