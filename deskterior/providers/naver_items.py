"""One item of Naver's shopping search as a product of ours, or nothing: fields may be null, missing or wrong."""

from __future__ import annotations

import re
from dataclasses import dataclass

from deskterior.providers.outside_text import web_address, without_markup
from deskterior.schemas import ProductDetail

_TITLE_LENGTH, _NAME_LENGTH = 255, 100
_PRICE = re.compile(r"0*([1-9][0-9]{0,11})")
# Naver's own listings, which gather several malls, carry this name.
_NAVER = "네이버"
_OTHER = "기타"


@dataclass(frozen=True)
class Item:
    product: ProductDetail
    product_id: str
    """Naver's; empty when it told none."""


def item_of(raw: object) -> Item | None:
    """The product, or None when it lacks a title, a price or a link: without those nobody can buy it."""
    if not isinstance(raw, dict):
        return None
    title = without_markup(raw.get("title"), _TITLE_LENGTH)
    price = _price(raw.get("lprice"))
    link = web_address(raw.get("link"))
    if not (title and price and link):
        return None
    main, sub = _categories(raw)
    product = ProductDetail(
        title=title,
        price=price,
        mall=without_markup(raw.get("mallName"), _NAME_LENGTH) or _NAVER,
        link=link,
        image=web_address(raw.get("image")),
        main_category=main,
        sub_category=sub,
    )
    return Item(product, without_markup(raw.get("productId"), _NAME_LENGTH))


def _price(value: object) -> str:
    """The lowest price in won as digits; empty for none, zero, or what is no whole number."""
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        return ""
    digits = _PRICE.fullmatch(str(value).strip().replace(",", ""))
    return digits[1] if digits else ""


def _categories(raw: dict[object, object]) -> tuple[str, str]:
    """Main and sub category: the last two of category2 to 4 that are there. One alone stands below category1."""
    top, *lower = (without_markup(raw.get(f"category{level}"), _NAME_LENGTH) for level in (1, 2, 3, 4))
    named = [name for name in lower if name]
    if len(named) >= 2:
        return named[-2], named[-1]
    if named:
        return top or named[0], named[0]
    return top or _OTHER, top or _OTHER
