"""The catalogue behind the stand-in for Naver: read from a CSV of made-up products, searched by keyword."""

from __future__ import annotations

import csv
import html
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

_CSV = Path(__file__).with_name("catalogue.csv")
Sort = Literal["sim", "date", "asc", "dsc"]


@dataclass(frozen=True)
class Product:
    """One row. `type` is Naver's 1 to 12: three each of new, used, discontinued and announced."""

    product_id: str
    title: str
    lprice: str
    hprice: str
    mall: str
    type: int
    brand: str
    maker: str
    category1: str
    category2: str
    category3: str
    category4: str
    search: str
    terms: frozenset[str]
    """`used`, `rental`, `cbshop` (bought abroad), `naverpay`."""
    listed: str

    @property
    def haystack(self) -> str:
        texts = (self.title, self.search, self.brand, self.category3, self.category4)
        return " ".join(texts).casefold()


@cache
def products() -> tuple[Product, ...]:
    with _CSV.open(encoding="utf-8", newline="") as rows:
        return tuple(_product(row) for row in csv.DictReader(rows))


def _product(row: dict[str, str]) -> Product:
    terms = frozenset(term for term in row.pop("terms").split(":") if term)
    kind = int(row.pop("type"))
    return Product(type=kind, terms=terms, **row)


def search(query: str, *, exclude: frozenset[str], only: frozenset[str], sort: Sort) -> list[Product]:
    """Products with every word of the query, else with its last one (in Korean the noun); none is an empty list."""
    words = query.casefold().split()
    found = _holding(words) or _holding(words[-1:])
    found = [p for p in found if not p.terms & exclude and only <= p.terms]
    match sort:
        case "date":
            return sorted(found, key=lambda p: p.listed, reverse=True)
        case "asc":
            return sorted(found, key=lambda p: int(p.lprice))
        case "dsc":
            return sorted(found, key=lambda p: -int(p.lprice))
        case "sim":
            return sorted(found, key=lambda p: -_nearness(p, words))


def _nearness(product: Product, words: list[str]) -> int:
    """A word in the category says more than one in the title: what is a desk, before what stands on one."""
    category = f"{product.category3} {product.category4}".casefold()
    return sum(3 * (word in category) + 2 * (word in product.title.casefold()) for word in words)


def _holding(words: list[str]) -> list[Product]:
    return [p for p in products() if words and all(word in p.haystack for word in words)]


def bold(title: str, query: str) -> str:
    """The title as HTML, the words of the query within `<b>`."""
    words = sorted(set(query.split()), key=len, reverse=True)
    pieces = re.split(f"({'|'.join(map(re.escape, words))})", title, flags=re.IGNORECASE)
    return "".join(f"<b>{html.escape(p)}</b>" if i % 2 else html.escape(p) for i, p in enumerate(pieces))
