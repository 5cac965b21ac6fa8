"""What the backend is told, as the bytes of a message: pure functions of what happened, in either format.

Signing and sending them is `callbacks.py`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qs, urlsplit

import structlog
from pydantic import BaseModel, Field

from deskterior.schemas import Problem, Product, ProductDetail, PromptResponse, TaskStatus, Wire

log = structlog.get_logger(__name__)

Format = Literal["nested", "flat"]
OwnCode = Callable[[str], str | None]
"""The code that the team's own table gives to the product of a purchase address, if it is in there."""

# The columns of the backend's tables, in Java's characters (UTF-16 units).
_MAX_TEXT = 255
_MAX_CATEGORY = 30
_MAX_INT = 2**31 - 1


@dataclass(frozen=True)
class Failure:
    """A generate that ended without a picture."""

    initial_image_url: str
    error: Problem


class NestedMessage(Wire):
    """The default format: `PromptResponse`, or what stands in its place after a failure."""

    initial_image_url: str
    processed_image_url: str | None
    products: list[Product] | None
    error: Problem | None = Field(default=None, exclude_if=lambda error: error is None)


class FlatProduct(Wire):
    name: str
    price: int
    purchase_place: str
    purchase_url: str
    image_path: str
    main_category: str
    sub_category: str
    center_x: int | None = None
    center_y: int | None = None
    product_code: str


class FlatMessage(Wire):
    """What the deployed Java backend parses; it knows a failure by the missing picture."""

    initial_image_url: str
    processed_image_url: str | None
    products: list[FlatProduct] | None


def desk_found(status: TaskStatus) -> bytes:
    """The message after a desk was found; the same in both formats."""
    return _body(status)


def no_code(_: str) -> None:
    """An `OwnCode` where there is no table."""


def generate_ended(result: PromptResponse | Failure, form: Format, own_code: OwnCode = no_code) -> bytes:
    """The message after a generate ended, well or not, as the bytes to send."""
    return _body(flat(result, own_code) if form == "flat" else nested(result))


def nested(result: PromptResponse | Failure) -> NestedMessage:
    if isinstance(result, Failure):
        return NestedMessage(
            initial_image_url=result.initial_image_url, processed_image_url=None, products=None, error=result.error
        )
    return NestedMessage(
        initial_image_url=result.initial_image_url,
        processed_image_url=result.processed_image_url,
        products=result.products,
    )


def flat(result: PromptResponse | Failure, own_code: OwnCode = no_code) -> FlatMessage:
    """Texts are cut to the backend's limits. A product with an address or a price that does not fit is left out, since
    neither can be cut and stay true; of two with one code the first stays."""
    if isinstance(result, Failure):
        return FlatMessage(initial_image_url=result.initial_image_url, processed_image_url=None, products=None)
    if java_length(result.processed_image_url) > _MAX_TEXT:
        log.warning("callback.picture_address_too_long", length=java_length(result.processed_image_url))
    products: dict[str, FlatProduct] = {}
    for detail in (detail for product in result.products for detail in product.details):
        code = own_code(detail.link) or product_code(detail)
        if reason := _unfit(detail):
            log.warning("callback.product_left_out", product_code=code, reason=reason)
            continue
        products.setdefault(
            code,
            FlatProduct(
                name=cut(detail.title, _MAX_TEXT),
                price=int(detail.price),
                purchase_place=cut(detail.mall, _MAX_TEXT),
                purchase_url=detail.link,
                image_path=detail.image,
                main_category=cut(detail.main_category, _MAX_CATEGORY),
                sub_category=cut(detail.sub_category, _MAX_CATEGORY),
                product_code=code,
            ),
        )
    return FlatMessage(
        initial_image_url=result.initial_image_url,
        processed_image_url=result.processed_image_url,
        products=list(products.values()),
    )


def product_code(detail: ProductDetail) -> str:
    """A code of at most 45 characters, always the same for one product: Naver's own number, else a digest of its link.

    Lower case and digits only, as the backend's database does not tell cases apart.
    """
    try:
        parts = urlsplit(detail.link)
        host = parts.hostname or ""
        given = parse_qs(parts.query).get("id", [""])[0] or parts.path
    except ValueError:
        host = given = ""
    if host in {"search.shopping.naver.com", "msearch.shopping.naver.com"}:
        number = re.fullmatch(r"(?:.*/(?:product|catalog)/)?([0-9]{1,38})/?", given)
        if number:
            return f"naver-{number[1]}"
    return f"link-{hashlib.sha256(detail.link.encode()).hexdigest()[:32]}"


def java_length(text: str) -> int:
    """The length as Java counts it: UTF-16 units, of which an emoji has two."""
    return len(text.encode("utf-16-le")) // 2


def cut(text: str, limit: int) -> str:
    """`text` in at most `limit` of Java's characters, never through the middle of one."""
    if java_length(text) <= limit:
        return text
    # The database takes names that differ in trailing spaces for the same name.
    return text.encode("utf-16-le")[: 2 * limit].decode("utf-16-le", "ignore").rstrip()


def _unfit(detail: ProductDetail) -> str | None:
    if java_length(detail.link) > _MAX_TEXT:
        return "its link is longer than the backend can store"
    if java_length(detail.image) > _MAX_TEXT:
        return "its picture's address is longer than the backend can store"
    # Looked at as text first: int() of thousands of digits is slow, and an error beyond 4300.
    digits = detail.price.lstrip("0")
    if len(digits) > len(str(_MAX_INT)) or int(digits or "0") > _MAX_INT:
        return "its price is more than a Java int"
    return None


def _body(message: BaseModel) -> bytes:
    return message.model_dump_json().encode()
