"""Tells the backend: signs a message and makes one attempt to deliver it.

What a message says is `callback_messages.py`. Trying again, as long as `CALLBACK_MAX_AGE_S` says and across restarts,
is the business of `jobs/`.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import random
from dataclasses import dataclass
from datetime import UTC, datetime
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpx
import structlog
from pydantic import BaseModel, ValidationError
from standardwebhooks import Webhook

from deskterior.callback_messages import FlatMessage
from deskterior.config import Settings, SettingsError
from deskterior.retry_after import retry_after_s
from deskterior.telemetry import traces
from deskterior.telemetry.calls import OK, Call, outside_call

log = structlog.get_logger(__name__)

MAX_PAUSE_S = 3600.0
_FIRST_PAUSE_S = 2.0
_MAX_ANSWER = 64 * 1024
"""Bytes of an answer that are read: enough for its error code."""


@dataclass(frozen=True)
class Delivered:
    """The backend has it."""


@dataclass(frozen=True)
class TryAgain:
    """It has not, or not yet. `reason` is public; `after` is the least pause (s) that the backend asked for."""

    reason: str
    after: float | None = None


Outcome = Delivered | TryAgain


def next_pause(attempts: int, rng: random.Random) -> float:
    """Seconds until the next attempt after `attempts` failed: full jitter under a doubling limit, at most an hour."""
    return rng.uniform(0, min(MAX_PAUSE_S, _FIRST_PAUSE_S * 2 ** min(attempts, 20)))


class Signer:
    """Signs by the Standard Webhooks specification.

    A secret with the prefix `whsec_`, or in base64 of the specified size (24 to 64 bytes), is what the specification
    means. Of any other text receivers differ: its libraries decode even that as base64, hand-written code takes it as
    it is. The header then carries both signatures, which the specification allows for.
    """

    def __init__(self, secret: str) -> None:
        """Raises SettingsError for a secret that cannot be one."""
        try:
            self._keys = [Webhook(key) for key in _keys(secret)]
        except (binascii.Error, ValueError):
            raise SettingsError(
                "CALLBACK_SECRET: after whsec_ there must be base64, such as `openssl rand -base64 32` makes"
            ) from None

    def headers(self, message_id: str, body: bytes, now: datetime) -> dict[str, str]:
        """The three headers for exactly these bytes. `now` is aware and in UTC."""
        text = body.decode()
        return {
            "webhook-id": message_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": " ".join(key.sign(message_id, now, text) for key in self._keys),
        }


def _keys(secret: str) -> list[bytes]:
    if secret.startswith("whsec_"):
        encoded = secret.removeprefix("whsec_")
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
        if not key:
            raise ValueError("empty")
        return [key]
    try:
        as_libraries_do = base64.b64decode(secret + "==")
    except ValueError:
        as_libraries_do = b""
    if 24 <= len(as_libraries_do) <= 64 and base64.b64encode(as_libraries_do).decode() == secret:
        return [as_libraries_do]
    return [key for key in (as_libraries_do, secret.encode()) if key]


class _Answer(BaseModel):
    code: str


class CallbackSender:
    """Posts messages to `CALLBACK_URL` over one shared client."""

    def __init__(self, settings: Settings) -> None:
        """Raises SettingsError for a `CALLBACK_SECRET` that cannot be one."""
        secret = settings.callback_secret.get_secret_value().strip()
        self._signer = Signer(secret) if secret else None
        self._url = settings.callback_url
        self._flat = settings.callback_format == "flat"
        self._timeout_s = settings.callback_timeout_s
        # Redirects are not followed: they would take the message, and its signature, to an address nobody chose.
        self._client = httpx.AsyncClient(
            timeout=settings.callback_timeout_s,
            follow_redirects=False,
            headers={"Content-Type": "application/json", "Accept-Encoding": "identity", "User-Agent": "deskterior"},
            # Each message stands for itself: a cookie kept would tie all later ones to the session of the first.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        )

    @property
    def enabled(self) -> bool:
        """Whether there is anybody to tell."""
        return bool(self._url)

    async def aclose(self) -> None:
        await self._client.aclose()

    async def attempt(self, message_id: str, body: bytes) -> Outcome:
        """Post once. `message_id` stays the same from try to try, so that the backend knows a repetition.

        Any 2xx is delivered. For the flat format so is a 404 with the code PRODUCT_NOT_FOUND if the message has no
        products: the backend has taken note, and only misses what we said is not there. Everything else is to be tried
        again; nothing is raised.
        """
        headers = self._signer.headers(message_id, body, datetime.now(UTC)) if self._signer else {}
        with outside_call("backend", "callback") as call:
            outcome = await self._attempt(message_id, body, {**headers, **traces.headers()}, call)
            if isinstance(outcome, TryAgain) and call.outcome == OK:
                call.outcome = "unreachable"
        return outcome

    async def _attempt(self, message_id: str, body: bytes, headers: dict[str, str], call: Call) -> Outcome:
        response: httpx.Response | None = None
        try:
            # httpx limits each read; this limits them all together.
            async with (
                asyncio.timeout(self._timeout_s),
                self._client.stream("POST", self._url, content=body, headers=headers) as response,
            ):
                call.answered(response.status_code)
                answer = await _read(response)
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            if response is not None and response.is_success:
                return Delivered()  # it said so; only the rest of its answer was lost
            log.info("callback.failed", message_id=message_id, error=repr(error))
            return TryAgain(_why(error, self._timeout_s))
        if response.is_success or (self._flat and response.status_code == 404 and _nothing_missed(body, answer)):
            call.outcome = OK
            return Delivered()
        return TryAgain(_refusal(response), retry_after_s(response.headers.get("retry-after"), MAX_PAUSE_S))


async def _read(response: httpx.Response) -> bytes:
    """The first bytes of an answer, undecoded: a small compressed answer can be a very large one."""
    answer = bytearray()
    async for chunk in response.aiter_raw():
        answer += chunk
        if len(answer) >= _MAX_ANSWER:
            break
    return bytes(answer[:_MAX_ANSWER])


def _nothing_missed(body: bytes, answer: bytes) -> bool:
    """Whether the backend misses products in a message that has none."""
    try:
        if _Answer.model_validate_json(answer).code != "PRODUCT_NOT_FOUND":
            return False
        return not FlatMessage.model_validate_json(body).products
    except ValidationError:
        return False


def _why(error: Exception, timeout_s: float) -> str:
    match error:
        case TimeoutError() | httpx.TimeoutException():
            return f"the backend did not answer within {timeout_s:g} s"
        case httpx.ConnectError() if "CERTIFICATE" in str(error):
            return "the backend's TLS certificate cannot be verified"
        case httpx.ConnectError():
            return "the backend could not be reached"
        case httpx.RemoteProtocolError() | httpx.ReadError() | httpx.WriteError():
            return "the backend cut the connection, or answered something that is not HTTP"
        case _:
            return f"the message could not be sent ({type(error).__name__})"


def _refusal(response: httpx.Response) -> str:
    if response.is_redirect:
        return f"the backend answered {response.status_code}: set CALLBACK_URL to the address it redirects to"
    return f"the backend answered {response.status_code}"
