"""OpenAI's client, shared by the vision and the image model, and the one mapping from its errors to ours.

The SDK never retries here: what may be sent again is decided where it is known what was paid. Redirects are not
followed, so that neither the key nor a paid request goes to an address that nobody configured.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
import openai
from openai import AsyncOpenAI

from deskterior.errors import ProviderError, ProviderFailed, ProviderRefused, ProviderTimeout
from deskterior.retry_after import DAY_S, retry_after_s
from deskterior.schemas import CostItem
from deskterior.telemetry.calls import OPENAI, outside_call

PROVIDER = OPENAI
CONNECT_S = 5.0
# A connection is kept for each picture that may be drawn at once and more; beyond, calls wait for one.
LIMITS = httpx2.Limits(max_connections=512, max_keepalive_connections=64)

_REFUSALS = {"content_policy_violation", "moderation_blocked", "content_filter", "safety_violation"}
_NO_CREDIT = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"}
_BAD_PHOTO = {"invalid_image", "invalid_image_format", "invalid_image_url", "image_parse_error", "image_too_large"}
_SAFETY = re.compile(r"safety system|content policy|content management policy", re.IGNORECASE)
_PLAIN = re.compile(r"[A-Za-z0-9_.\[\]-]{1,64}")
_NOT_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)


def openai_client(*, api_key: str, base_url: str, timeout_s: float) -> AsyncOpenAI:
    """The one client of this process. `timeout_s` bounds each read; the calls bound the whole themselves."""
    return AsyncOpenAI(
        api_key=api_key,
        base_url=base_url,
        max_retries=0,
        timeout=openai.Timeout(timeout_s, connect=CONNECT_S, pool=CONNECT_S),
        http_client=openai.DefaultAsyncHttpxClient(follow_redirects=False, limits=LIMITS),
    )


@asynccontextmanager
async def openai_call(timeout_s: float, *, setting: str, unknown_cost: CostItem) -> AsyncIterator[None]:
    """Bound a call and raise its failures as ours.

    `setting` names the model's setting for the sentence of an unknown model. `unknown_cost` is what the call counts as
    when it broke off after the request was sent: it may have been billed.

    Raises:
        ProviderTimeout, ProviderRefused, ProviderFailed
    """
    with outside_call(PROVIDER, unknown_cost.model):
        async with _bounded(timeout_s, setting, unknown_cost):
            yield


@asynccontextmanager
async def _bounded(timeout_s: float, setting: str, unknown_cost: CostItem) -> AsyncIterator[None]:
    try:
        # The SDK's own timeout is for each read: an answer that drips for hours would never meet it.
        async with asyncio.timeout(timeout_s):
            yield
    except TimeoutError as error:
        raise _late(unknown_cost) from error
    except openai.APIStatusError as error:
        raise _status(error, setting, unknown_cost) from error
    except openai.APIConnectionError as error:
        raise _connection(error, unknown_cost) from error
    except openai.OpenAIError as error:
        raise ProviderFailed(
            "OpenAI's client failed", provider=PROVIDER, internal=type(error).__name__, cost=unknown_cost
        ) from error
    except httpx2.HTTPError as error:
        raise _connection(error, unknown_cost) from error
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        # The SDK builds its objects unchecked: an answer of another shape fails in it in any of these ways.
        raise ProviderFailed(
            "OpenAI answered with something that is not the JSON it promises",
            provider=PROVIDER,
            internal=type(error).__name__,
            cost=unknown_cost,
        ) from error


def _late(cost: CostItem) -> ProviderTimeout:
    return ProviderTimeout("OpenAI did not answer in time", provider=PROVIDER, cost=cost)


def _connection(error: Exception, cost: CostItem) -> ProviderError:
    cause = error if isinstance(error, httpx2.HTTPError) else error.__cause__
    internal = type(cause).__name__
    if isinstance(cause, _NOT_SENT):
        return ProviderFailed("OpenAI could not be reached", provider=PROVIDER, internal=internal, safe_to_retry=True)
    if isinstance(cause, (httpx2.TimeoutException, TimeoutError)):
        return _late(cost)
    return ProviderFailed(
        "The connection to OpenAI broke before the answer was complete", provider=PROVIDER, internal=internal, cost=cost
    )


def _status(error: openai.APIStatusError, setting: str, cost: CostItem) -> ProviderError:
    """An error status. None is billed, but a gateway's own (502, 504) may hide a call that went on behind it."""
    status, code = error.status_code, _plain(error.code) or _plain(error.type)
    internal = f"status {status} code {code} request {_plain(error.request_id)}"
    after = _wait_s(error.response.headers)

    def failed(detail: str, *, safe: bool = False, cost: CostItem | None = None) -> ProviderFailed:
        return ProviderFailed(
            detail, provider=PROVIDER, internal=internal, retry_after=after, safe_to_retry=safe, cost=cost
        )

    if _is_refusal(error):
        return ProviderRefused(
            "OpenAI refused this photo or style by its content policy", provider=PROVIDER, internal=internal
        )
    if code in _NO_CREDIT or _plain(error.type) in _NO_CREDIT:
        return failed("OpenAI's account has no credit left, or its spending limit is reached: check its billing")
    if code in _BAD_PHOTO:
        return failed("OpenAI could not read the photo")
    if status == 401:
        return failed("OpenAI refused the key: check OPENAI_API_KEY")
    if status == 403:
        return failed("OpenAI does not let this key use the model: check the key's project, and the server's country")
    if status == 404:
        return failed(f"OpenAI has no such model or path: check {setting} and OPENAI_BASE_URL")
    if status == 408 or status == 504:
        return _late(cost)
    if status == 413:
        return failed("The photo is too large for OpenAI")
    if status == 429:
        return failed("OpenAI limits the rate of calls", safe=True)
    if status == 503:
        return failed("OpenAI is overloaded", safe=True)
    if status >= 500:
        return failed(f"OpenAI failed with status {status}", cost=cost if status == 502 else None)
    if 300 <= status < 400:
        return failed("OpenAI's address answered with a redirect: check OPENAI_BASE_URL")
    named = f" ({_plain(error.param)})" if _plain(error.param) else ""
    return failed(f"OpenAI did not accept the request{named}, status {status}")


def _is_refusal(error: openai.APIStatusError) -> bool:
    if error.status_code not in {400, 403, 422, 451}:
        return False
    return error.code in _REFUSALS or error.type in _REFUSALS or bool(_SAFETY.search(error.message))


def _plain(value: object) -> str:
    """A code or a parameter's name, when it looks like one: nothing else of an upstream body goes further."""
    return value if isinstance(value, str) and _PLAIN.fullmatch(value) else ""


def _wait_s(headers: httpx2.Headers) -> float | None:
    """Seconds that OpenAI asks us to wait, a day at most: by its own header in milliseconds, else by the standard's."""
    ms = retry_after_s(headers.get("retry-after-ms"), DAY_S * 1000)
    return retry_after_s(headers.get("retry-after")) if ms is None else ms / 1000
