"""`GET /naver/v1/search/shop.json` with its documented parameters and error codes, and the product pictures."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import cast

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandbox.drawing.product_card import product_card
from sandbox.exchange import Delivery, Outcome, Reply, exchange, json_reply, waiting_headers
from sandbox.faults import Fault
from sandbox.naver.catalogue import Product, Sort, bold, products, search
from sandbox.state import Sandbox

_KST = timezone(timedelta(hours=9))
_PARAMETERS = frozenset({"query", "display", "start", "sort", "filter", "exclude"})
_EXCLUDABLE = frozenset({"used", "rental", "cbshop"})
_MAX_QUERY = 1000
_JSON = "application/json;charset=utf-8"


class _Refused(Exception):
    """A refusal in Naver's shape."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.reply = _error(status, code, message)


def naver_app(sandbox: Sandbox) -> Starlette:
    app = Starlette(
        routes=[
            Route("/v1/search/shop.json", _Search(sandbox).answer, methods=["GET"]),
            Route("/images/{product_id}.jpg", _image, methods=["GET"]),
        ],
        exception_handlers={_Refused: _refused, HTTPException: _no_route},
    )
    app.state.sandbox = sandbox
    return app


class _Search:
    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        limit = sandbox.options.naver_per_second
        self._rate = None if limit is None else RateLimit(limit)

    async def answer(self, request: Request) -> Response:
        for header in ("x-naver-client-id", "x-naver-client-secret"):
            if not request.headers.get(header, "").strip():
                raise _Refused(401, "024", f"Authentication failed: {header} is missing (인증에 실패했습니다.)")
        if self._rate is not None and not self._rate.take():
            raise _Refused(429, "012", "Rate limit exceeded (속도 제한을 초과했습니다.)")
        given = _parameters(request)
        query = given["query"]
        only = frozenset({given["filter"]} if "filter" in given else ())
        exclude = frozenset(given["exclude"].split(":") if "exclude" in given else ())
        sort = cast(Sort, given.get("sort", "sim"))
        display, start = _whole(given, "display", 10, 100, "SE02"), _whole(given, "start", 1, 1000, "SE03")
        base = f"{request.url.scheme}://{request.url.netloc}"

        async def work(fault: Fault | None) -> Outcome:
            kind = fault.kind if fault else None
            found = [] if kind == "empty" else search(query, exclude=exclude, only=only, sort=sort)
            shown = found[start - 1 : start - 1 + display]
            items = [_item(product, query, base) for product in shown]
            if kind == "missing-fields":
                items = [_with_holes(item, i) for i, item in enumerate(items)]
            answer = {
                "lastBuildDate": datetime.now(_KST).strftime("%a, %d %b %Y %H:%M:%S %z"),
                "total": len(found),
                "start": start,
                "display": len(items),
                "items": items,
            }
            reply = json_reply(answer)
            return Outcome(Reply(200, reply.body, _JSON))

        return await exchange(
            request,
            self._sandbox,
            where="naver.shop",
            text=query,
            latency=self._sandbox.options.latency.naver,
            work=work,
            refuse=_fault_reply,
        )


class RateLimit:
    """Lets `limit` calls through within any second."""

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._recent: deque[float] = deque()

    def take(self) -> bool:
        """Whether this call is let through."""
        now = self._clock()
        while self._recent and now - self._recent[0] >= 1:
            self._recent.popleft()
        if len(self._recent) >= self._limit:
            return False
        self._recent.append(now)
        return True


def _parameters(request: Request) -> dict[str, str]:
    given: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name not in _PARAMETERS or name in given:
            raise _Refused(400, "SE01", f"Incorrect query request: {name!r} (잘못된 쿼리요청입니다.)")
        given[name] = value
    if not given.get("query", "").strip() or len(given["query"]) > _MAX_QUERY:
        raise _Refused(400, "SE01", "Incorrect query request: query (잘못된 쿼리요청입니다.)")
    if "\ufffd" in given["query"]:
        raise _Refused(400, "SE06", "Malformed encoding (잘못된 형식의 인코딩입니다.)")
    if given.get("sort", "sim") not in {"sim", "date", "asc", "dsc"}:
        raise _Refused(400, "SE04", "Invalid sort value (부적절한 sort 값입니다.)")
    if given.get("filter", "naverpay") != "naverpay":
        raise _Refused(400, "SE01", "Incorrect query request: filter (잘못된 쿼리요청입니다.)")
    if not set(given.get("exclude", "used").split(":")) <= _EXCLUDABLE:
        raise _Refused(400, "SE01", "Incorrect query request: exclude (잘못된 쿼리요청입니다.)")
    return given


def _whole(given: dict[str, str], name: str, default: int, most: int, code: str) -> int:
    text = given.get(name, str(default))
    if not (text.isascii() and text.isdecimal() and len(text) <= 6 and 1 <= int(text) <= most):
        raise _Refused(400, code, f"Invalid {name} value (부적절한 {name} 값입니다.)")
    return int(text)


def _item(product: Product, query: str, base: str) -> dict[str, str]:
    catalogue = product.type in {1, 4, 7, 10}
    return {
        "title": bold(product.title, query),
        "link": f"https://search.shopping.naver.com/catalog/{product.product_id}"
        if catalogue
        else f"https://smartstore.naver.com/main/products/{product.product_id}",
        "image": f"{base}/naver/images/{product.product_id}.jpg",
        "lprice": product.lprice,
        "hprice": product.hprice,
        "mallName": product.mall,
        "productId": product.product_id,
        "productType": str(product.type),
        "brand": product.brand,
        "maker": product.maker,
        "category1": product.category1,
        "category2": product.category2,
        "category3": product.category3,
        "category4": product.category4,
    }


def _with_holes(item: dict[str, str], i: int) -> dict[str, str]:
    """An item as careless shops send them: no price, no picture, no categories, or not even its title."""
    holes = ("lprice",), ("image",), ("category2", "category3", "category4"), ("title", "link")
    return {key: "" if key in holes[i % 4] else value for key, value in item.items()}


async def _image(request: Request) -> Response:
    sandbox: Sandbox = request.app.state.sandbox
    wanted = request.path_params["product_id"]
    product = next((p for p in products() if p.product_id == wanted), None)
    if product is None:
        raise HTTPException(404)

    async def work(fault: Fault | None) -> Outcome:
        data = await asyncio.to_thread(product_card, product.product_id, product.category3, product.lprice)
        if fault is not None and fault.kind in {"bad-image", "empty"}:
            data = data[: len(data) // 3] if fault.kind == "bad-image" else b""
        return Outcome(Reply(200, data, "image/jpeg"))

    return await exchange(
        request, sandbox, where="naver.images", text=wanted, latency=0, work=work, refuse=_fault_reply
    )


def _error(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> Reply:
    reply = json_reply({"errorMessage": message, "errorCode": code}, status)
    return Reply(status, reply.body, _JSON, headers or {})


def _fault_reply(fault: Fault) -> Reply:
    headers = {name: value for name, value in waiting_headers(fault).items() if name == "retry-after"}
    if fault.kind in {"rate-limit", "quota"}:
        # Naver says no `Retry-After` by itself.
        headers = headers if fault.retry_after is not None else {}
        code, message = ("012", "Rate limit exceeded") if fault.kind == "rate-limit" else ("010", "Quota exceeded")
        return _error(fault.status or 429, fault.code or code, fault.message or message, headers)
    status = fault.status or 500
    code, message = ("SE99", "System Error") if status >= 500 else ("SE01", "Incorrect query request")
    return _error(status, fault.code or code, fault.message or message, headers)


async def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, _Refused)  # noqa: S101  (Starlette's signature is wider than what it calls with)
    return Delivery(error.reply)


async def _no_route(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    if status == 405:
        return Delivery(_error(405, "MF02", "Method not allowed"))
    return Delivery(_error(status, "SE05", f"Invalid search api: {request.url.path} (존재하지 않는 검색 api 입니다.)"))
