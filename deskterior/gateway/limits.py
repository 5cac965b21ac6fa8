"""How many requests a minute a caller may make, and what the answers say of it.

A key counts for itself, wherever it is used; an address for those who show no key, for those who show a wrong one, and
for links to pictures. Money and waiting tasks are limited where tasks are made, in the same transaction.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa
from limits import RateLimitItemPerMinute
from limits.aio.strategies import SlidingWindowCounterRateLimiter

from deskterior.errors import RateLimited
from deskterior.gateway.caller import Caller
from deskterior.gateway.limits_settings import RATES, LimitSettings, RateName
from deskterior.gateway.limits_storage import InProcess, OnPostgres, SharedWhileItAnswers, SlidingWindows
from deskterior.makeover.spending import UNLIMITED, Allowance
from deskterior.telemetry import metrics

Headers = list[tuple[bytes, bytes]]

PAID_PATHS = frozenset({"/v1/prompt", "/v1/generate", "/v2/generate"})
NEVER_LIMITED = frozenset({"/health", "/healthcheck", "/health/machine", "/healthz", "/livez", "/readyz", "/metrics"})
MOST_FULL = 10_000
"""Limits remembered as reached: until then nobody needs to be asked."""


@dataclass(frozen=True)
class Limit:
    """So many a minute; 0 is no limit. `name` tells its counts from others', `sentence` tells the client what it is."""

    name: str
    per_minute: int
    sentence: str
    mend: str

    @property
    def item(self) -> RateLimitItemPerMinute:
        return RateLimitItemPerMinute(self.per_minute, namespace=self.name)

    def reached(self, wait_s: float) -> RateLimited:
        metrics.RATE_LIMITED.labels(self.name).inc()
        wait_s = max(1, math.ceil(wait_s))
        error = RateLimited(f"{self.sentence}. Wait {wait_s} s, or {self.mend}", retry_after=wait_s)
        error.headers = tuple(_headers(self.per_minute, 0, wait_s))
        return error


class Limits:
    """Asked by the gateway. `clock` is seconds that only grow: nobody is to wait for a clock that was set back."""

    def __init__(
        self, settings: LimitSettings, counts: SlidingWindows, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._counts = counts
        self._window = SlidingWindowCounterRateLimiter(counts)
        self._clock = clock
        self._full: dict[str, float] = {}  # until when, by key of the counts
        failures = settings.rate("address_failures_per_minute")
        self._failures = Limit(
            "failures", failures, f"One address may show {failures} wrong keys a minute", "mend the key that is shown"
        )

    @classmethod
    def open(cls, settings: LimitSettings, database_url: str) -> Limits:
        """Counts in Postgres where the jobs are there, else in this process."""
        url = sa.make_url(database_url)
        if url.get_backend_name() == "postgresql":
            return cls(settings, SharedWhileItAnswers(OnPostgres(url)))
        return cls(settings, InProcess())

    @classmethod
    def none(cls) -> Limits:
        """No limit at all."""
        return cls(LimitSettings.model_validate(dict.fromkeys(RATES, 0)), InProcess())

    async def aclose(self) -> None:
        await self._counts.aclose()

    async def wrong_key(self, address: str) -> None:
        """Count a wrong key. Raises RateLimited in place of the 401 when there have been too many.

        Right ones pass all the while: others may share the address, and nobody comes upon 256 bits by trying.
        """
        if self._failures.per_minute:
            self._refuse_if_full(self._failures, address)
            await self._hit(self._failures, address)

    async def count(self, caller: Caller, address: str, method: str, path: str) -> Headers:
        """Count a request against every limit that concerns it; the headers that tell how the tightest one stands.

        Raises:
            RateLimited: one of them is reached.
        """
        if path in NEVER_LIMITED:
            return []
        told: tuple[float, Headers] | None = None
        for limit, who in self._of(caller, address, method, path):
            if not limit.per_minute:
                continue
            self._refuse_if_full(limit, who)
            remaining, headers = await self._hit(limit, who)
            if told is None or remaining / limit.per_minute < told[0]:
                told = remaining / limit.per_minute, headers
        return told[1] if told else []

    async def count_order(self, caller: Caller, address: str) -> None:
        """Count a makeover that a request for something else starts. Raises RateLimited."""
        limit, who = self._orders(caller, address)
        if limit.per_minute:
            self._refuse_if_full(limit, who)
            await self._hit(limit, who)

    async def _hit(self, limit: Limit, who: str) -> tuple[int, Headers]:
        """Count one against a limit; what is left of it. Raises RateLimited when it is reached."""
        passed = await self._window.hit(limit.item, who)
        reset, remaining = await self._window.get_window_stats(limit.item, who)
        wait_s = reset - time.time()  # the strategy has just added it
        if passed:
            return remaining, _headers(limit.per_minute, remaining, wait_s)
        self._full[limit.item.key_for(who)] = self._clock() + wait_s
        if len(self._full) > MOST_FULL:
            del self._full[next(iter(self._full))]
        raise limit.reached(wait_s)

    def _refuse_if_full(self, limit: Limit, who: str) -> None:
        """Nothing passes before the reset, so a flood of refused ones asks nobody. Raises RateLimited."""
        if not self._full or (until := self._full.get(key := limit.item.key_for(who))) is None:
            return
        if (left := until - self._clock()) > 0:
            raise limit.reached(left)
        del self._full[key]

    def _of(self, caller: Caller, address: str, method: str, path: str) -> list[tuple[Limit, str]]:
        """The limits that concern a request, each with whom it is counted for."""
        rate = self._settings.rate
        if path.startswith("/files/"):
            files = rate("address_files_per_minute")
            mend = "have ADDRESS_FILES_PER_MINUTE raised"
            return [(Limit("files", files, f"One address may ask for {files} pictures a minute", mend), address)]
        kind, who, subject = _subject(caller, address)
        own = caller.limits.requests_per_minute
        name: RateName = "key_requests_per_minute" if caller.name else "address_requests_per_minute"
        requests = rate(name) if own is None else own
        mend = "have the limit of the key raised" if caller.name else "show a key"
        sentence = f"{subject} may make {requests} requests a minute"
        limits = [(Limit(f"{kind}-requests", requests, sentence, mend), who)]
        if method == "POST" and (path in PAID_PATHS or (path.startswith("/tasks/") and path.endswith("/retry"))):
            limits.append(self._orders(caller, address))
        return limits

    def _orders(self, caller: Caller, address: str) -> tuple[Limit, str]:
        """The limit on what costs money, with whom it is counted for."""
        kind, who, subject = _subject(caller, address)
        paid = self._settings.rate("key_generates_per_minute")
        sentence = f"{subject} may ask for {paid} makeovers, prompts and retries a minute"
        return Limit(f"{kind}-generates", paid, sentence, "have KEY_GENERATES_PER_MINUTE raised"), who


def _subject(caller: Caller, address: str) -> tuple[str, str, str]:
    """What is counted: a key or an address; which; and in words."""
    if caller.name:
        return "key", caller.name, f"The key {caller.name}"
    return "address", address, "One address without a key"


def allowance(caller: Caller, settings: LimitSettings) -> Allowance:
    """What a caller may use of money and places, by its key's own limits or those of all keys.

    A key's own 0 is nothing at all; a setting's 0 is no limit.
    """
    if not caller.name:
        return UNLIMITED
    usd, waiting = caller.limits.usd_per_day, caller.limits.tasks_waiting
    return Allowance(
        usd_per_day=(settings.key_usd_per_day or None) if usd is None else usd,
        tasks_waiting=(settings.key_tasks_waiting or None) if waiting is None else waiting,
    )


def _headers(limit: int, remaining: int, reset_s: float) -> Headers:
    """The three fields of the drafts before the eighth: what gateways send and client libraries read.

    The newest draft has `RateLimit` and `RateLimit-Policy` in their place, as structured fields that hardly any client
    reads yet. The reset is in seconds from now, as in `Retry-After`.
    """
    values = {"limit": limit, "remaining": max(0, remaining), "reset": max(0, math.ceil(reset_s))}
    return [(f"ratelimit-{name}".encode(), str(value).encode()) for name, value in values.items()]
