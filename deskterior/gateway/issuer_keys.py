"""The public keys of a token's issuer (JWKS): fetched when they are needed, and kept.

A stranger can put any key id into a token. So unknown ones make us ask the issuer at most every `COOLDOWN_S`, however
many there are, and all wait for the same answer.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable

import httpx
import jwt
import structlog

from deskterior.errors import IssuerAway

log = structlog.get_logger(__name__)

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Signatures alone. With a shared secret (HS256) the issuer's public key could be made to be that secret."""
REFRESH_S = 600.0
"""Keys older than that are asked for again, so that one that the issuer takes back goes."""
KEEP_S = 24 * 3600.0
"""For so long they do while the issuer is away."""
COOLDOWN_S = 30.0
"""Between two fetches that strangers can cause."""
TIMEOUT_S = 5.0
LARGEST = 256 * 1024
MOST_KEYS = 100


class NoKeys(Exception):
    """The issuer gave no usable keys; the text says why."""


class IssuerKeys:
    """`aclose` when done. `clock` is seconds that only grow."""

    def __init__(self, url: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._url = url
        self._clock = clock
        # Not by way of a proxy or to another address: whoever answers decides who comes in.
        self._client = httpx.AsyncClient(timeout=TIMEOUT_S, follow_redirects=False, trust_env=False)
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched_at = self._asked_at = float("-inf")
        self._fetching: asyncio.Task[None] | None = None

    async def find(self, kid: str) -> jwt.PyJWK | None:
        """The key of an id; None when the issuer has none of it.

        Raises:
            IssuerAway: it cannot be asked, and the key is not known from before, or from too long before.
        """
        now = self._clock()
        if kid in self._keys and now - self._fetched_at < KEEP_S:
            if now - self._fetched_at >= REFRESH_S and self._may_ask():
                self._ask()  # nobody waits for it
            return self._keys[kid]
        if self._fetching or self._may_ask():
            await asyncio.shield(self._ask())
        now = self._clock()
        if now - self._fetched_at < KEEP_S and kid in self._keys:
            return self._keys[kid]
        if self._fetched_at < self._asked_at:  # the last try failed
            wait = max(1.0, self._asked_at + COOLDOWN_S - now)
            raise IssuerAway("The issuer of tokens does not answer; API keys work as ever", retry_after=wait)
        return None

    async def aclose(self) -> None:
        if self._fetching:
            self._fetching.cancel()
            await asyncio.gather(self._fetching, return_exceptions=True)
        await self._client.aclose()

    def _may_ask(self) -> bool:
        return self._clock() - self._asked_at >= COOLDOWN_S

    def _ask(self) -> asyncio.Task[None]:
        """The fetch that is under way, or a new one."""
        if self._fetching is None:
            self._asked_at = self._clock()
            self._fetching = asyncio.create_task(self._fetch(), name="issuer-keys")
        return self._fetching

    async def _fetch(self) -> None:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                keys = _usable(await self._download())
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait are told that the issuer is away
            reason = str(error) if isinstance(error, NoKeys) else type(error).__name__
            log.error(  # noqa: TRY400 - the reason says it all
                "issuer_keys.unusable", reason=reason, keys_kept=len(self._keys)
            )
        else:
            self._keys, self._fetched_at = keys, self._clock()
            log.info("issuer_keys.read", keys=len(keys))
        finally:
            self._fetching = None

    async def _download(self) -> bytes:
        body = bytearray()
        async with self._client.stream("GET", self._url, headers={"Accept-Encoding": "identity"}) as answer:
            if answer.status_code != 200:
                raise NoKeys(f"the issuer answered {answer.status_code}")
            async for chunk in answer.aiter_raw():
                body += chunk
                if len(body) > LARGEST:
                    raise NoKeys(f"the issuer's answer is over {LARGEST} bytes")
        return bytes(body)


def _usable(body: bytes) -> dict[str, jwt.PyJWK]:
    """The keys of a JWKS that can check a signature, by id. Raises NoKeys."""
    try:
        found = json.loads(body)["keys"]
        assert isinstance(found, list)
    except (ValueError, RecursionError, KeyError, TypeError, AssertionError):
        raise NoKeys("the issuer's answer is no JWKS") from None
    keys: dict[str, jwt.PyJWK] = {}
    for item in found[:MOST_KEYS]:
        if not isinstance(item, dict) or "d" in item or item.get("use", "sig") != "sig":
            continue
        try:
            key = jwt.PyJWK(item)
        except Exception:  # noqa: BLE001, S112 - whatever cannot be made a key is none
            continue
        if isinstance(key.key_id, str) and key.algorithm_name in ALGORITHMS:
            keys.setdefault(key.key_id, key)
    if not keys:
        raise NoKeys("none of the issuer's keys can be used")
    return keys
