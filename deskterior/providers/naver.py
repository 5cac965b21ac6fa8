"""Naver's shopping search: all keywords at once, within its rate limit, with a cache of what was found.

Looking is free, so one more try after a 429 is, too. Whatever goes wrong with a keyword is a line in `Found.problems`,
without a secret or a word of Naver's answer; the others are served.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable

import httpx

from deskterior.providers import Found
from deskterior.providers.naver_items import Item, item_of
from deskterior.providers.outside_text import one_line
from deskterior.providers.rate_window import RateWindow
from deskterior.retry_after import retry_after_s
from deskterior.schemas import Product, ProductDetail
from deskterior.telemetry.calls import outside_call

MAX_KEYWORDS = 10
MAX_KEYWORD_LENGTH = 50
MAX_BODY = 4 * 1024 * 1024
MAX_WAIT_S = 5.0
CACHED_KEYWORDS = 2_000

_PATH = "/v1/search/shop.json"
_EXCLUDE = "used:rental:cbshop"
_CONNECT_S = 3.0


class _KeywordFailed(Exception):
    """One keyword could not be searched; the text says why and how to mend it."""


class NaverSearch:
    """A `ProductSearch`. `per_keyword` products a keyword at most; none is shown under two keywords.

    `timeout_s` bounds each call, waiting for its turn within `per_second` not included. `cache_s` is how long what a
    keyword found is kept, 0 for not at all; failures and empty results are asked for again.
    """

    def __init__(
        self,
        *,
        base_url: str,
        client_id: str,
        client_secret: str,
        timeout_s: float,
        per_second: float,
        cache_s: float,
        per_keyword: int,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._url = base_url + _PATH
        self._timeout_s = timeout_s
        self._cache_s = cache_s
        self._per_keyword = per_keyword
        self._clock = clock
        self._sleep = sleep
        self._rate = RateWindow(per_second, clock=clock, sleep=sleep)
        self._cache: OrderedDict[str, tuple[float, list[Item]]] = OrderedDict()
        self._client = httpx.AsyncClient(
            headers={"X-Naver-Client-Id": client_id, "X-Naver-Client-Secret": client_secret},
            timeout=httpx.Timeout(timeout_s, connect=min(_CONNECT_S, timeout_s)),
            limits=httpx.Limits(max_connections=64, max_keepalive_connections=16),
            follow_redirects=False,
        )

    async def aclose(self) -> None:
        await self._client.aclose()

    async def find(self, keywords: list[str]) -> Found:
        """Search all keywords at once, the first ten distinct ones. Raises nothing."""
        wanted = distinct(keywords)
        results = await asyncio.gather(*(self._search(keyword) for keyword in wanted))
        products, shown = [], set[str]()
        failed: dict[str, list[str]] = {}
        for keyword, result in zip(wanted, results, strict=True):
            if isinstance(result, str):
                failed.setdefault(result, []).append(keyword)
            elif details := self._unseen(result, shown):
                products.append(Product(keyword=keyword, details=details))
        return Found(products, [f"Naver: {why} ({', '.join(names)})" for why, names in failed.items()])

    def _unseen(self, items: list[Item], shown: set[str]) -> list[ProductDetail]:
        """The first products that no keyword before has shown, by Naver's id and by link."""
        details: list[ProductDetail] = []
        for item in items:
            marks = {f"link {item.product.link}"} | ({f"id {item.product_id}"} if item.product_id else set())
            if len(details) < self._per_keyword and not marks & shown:
                shown |= marks
                details.append(item.product)
        return details

    async def _search(self, keyword: str) -> list[Item] | str:
        """What a keyword found, from the cache when it is fresh; or why it could not be searched."""
        until, items = self._cache.get(keyword, (0.0, []))
        if items and self._clock() < until:
            return items
        try:
            items = await self._ask(keyword)
        except _KeywordFailed as failure:
            return str(failure)
        if items and self._cache_s:
            self._cache[keyword] = (self._clock() + self._cache_s, items)
            self._cache.move_to_end(keyword)
            if len(self._cache) > CACHED_KEYWORDS:
                self._cache.popitem(last=False)
        return items

    async def _ask(self, keyword: str) -> list[Item]:
        status, after, body = await self._get(keyword)
        if status == 429 and after <= MAX_WAIT_S:
            await self._sleep(after)
            status, after, body = await self._get(keyword)
        if status != 200:
            raise _KeywordFailed(_sentence(status))
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise _KeywordFailed("it answered with something that is not JSON") from error
        raw_items = answer.get("items") if isinstance(answer, dict) else None
        if not isinstance(raw_items, list):
            raise _KeywordFailed("it answered without a list of items")
        return [item for raw in raw_items if (item := item_of(raw))]

    async def _get(self, keyword: str) -> tuple[int, float, bytes]:
        """Status, seconds to wait by `Retry-After` (1 without), and body of one call."""
        await self._rate.wait()
        # More than is shown: some items are dropped, and some were shown under another keyword.
        params: dict[str, str | int] = {
            "query": keyword,
            "display": min(100, max(20, self._per_keyword * 5)),
            "start": 1,
            "sort": "sim",
            "exclude": _EXCLUDE,
        }
        with outside_call("naver", "shop") as call:
            status, after, body = await self._send(params)
            call.answered(status)
        return status, after, body

    async def _send(self, params: dict[str, str | int]) -> tuple[int, float, bytes]:
        try:
            async with asyncio.timeout(self._timeout_s), self._client.stream("GET", self._url, params=params) as answer:
                body = bytearray()
                async for chunk in answer.aiter_bytes():
                    body += chunk
                    if len(body) > MAX_BODY:
                        raise _KeywordFailed("its answer is too large")
                after = retry_after_s(answer.headers.get("retry-after"))
                return answer.status_code, 1.0 if after is None else after, bytes(body)
        except (TimeoutError, httpx.TimeoutException) as error:
            raise _KeywordFailed("it did not answer in time") from error
        except httpx.ConnectError as error:
            raise _KeywordFailed("it could not be reached") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise _KeywordFailed("the connection broke, or its answer is no HTTP") from error


def distinct(keywords: Iterable[str]) -> list[str]:
    """Clean keywords, without those that differ in case or spaces alone; the first ten."""
    kept: dict[str, str] = {}
    for keyword in keywords:
        if text := one_line(keyword, MAX_KEYWORD_LENGTH):
            kept.setdefault(text.casefold().replace(" ", ""), text)
    return list(kept.values())[:MAX_KEYWORDS]


def _sentence(status: int) -> str:
    if status == 401:
        return "it refused the application's id or secret, check NAVER_CLIENT_ID and NAVER_CLIENT_SECRET"
    if status == 403:
        return "the application may not use the search, add it to the application of NAVER_CLIENT_ID"
    if status in {404, 410}:
        return "there is no shopping search at its address, check NAVER_BASE_URL or serve CATALOGUE_CSV"
    if status == 429:
        return "its limit of calls, by second or by day, is reached"
    if 300 <= status < 400:
        return "its address answered with a redirect, check NAVER_BASE_URL"
    return f"it answered with status {status}"
