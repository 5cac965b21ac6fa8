"""The team's own products: a CSV table read once at start, searched by the keywords that the vision model gives.

Columns: name, price, purchase_place, purchase_url, image_path, main_category, sub_category, and if wanted product_code
and keywords (several, separated by `|`). Whether a keyword is served from here or by Naver is shop.py's choice.
"""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from deskterior.config import SettingsError
from deskterior.providers.outside_text import one_line, web_address
from deskterior.schemas import ProductDetail

REQUIRED = ("name", "price", "purchase_place", "purchase_url", "image_path", "main_category", "sub_category")
OPTIONAL = ("product_code", "keywords")
MAX_CODE = 45

_LIMITS = {"name": 255, "purchase_place": 255, "main_category": 100, "sub_category": 100}
_PRICE = re.compile(r"0*([1-9][0-9]{0,11})")
_WORD = re.compile(r"[0-9a-z가-힣]+")


@dataclass(frozen=True)
class _Row:
    product: ProductDetail
    code: str | None
    aliases: frozenset[str]
    """The keywords column and both categories, joined and folded: an exact match."""
    words: tuple[str, ...]
    """The name's words, folded."""


class Catalogue:
    """The products in the table's order."""

    def __init__(self, rows: list[_Row]) -> None:
        self._rows = rows
        self._codes = {row.product.link: row.code for row in rows if row.code}

    def __len__(self) -> int:
        return len(self._rows)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the table.

        Raises:
            SettingsError: naming file, line and column of what is wrong.
        """
        where = f"CATALOGUE_CSV: {path.name}"
        reader = csv.DictReader(io.StringIO(_text(path, where), newline=""), strict=True)
        rows: list[_Row] = []
        lines_of_codes: dict[str, int] = {}
        line = 1
        try:
            _check_header(reader.fieldnames, where)
            line = reader.line_num + 1
            for cells in reader:
                row = _row(cells, f"{where}, line {line}")
                if row.code and (first := lines_of_codes.setdefault(row.code.casefold(), line)) != line:
                    raise SettingsError(f"{where}, line {line}, column product_code: {row.code} is line {first}'s too")
                rows.append(row)
                line = reader.line_num + 1
        except csv.Error as error:
            raise SettingsError(f"{where}, line {line}: {error}") from error
        if not rows:
            raise SettingsError(f"{where}: it holds no product")
        return cls(rows)

    def find(self, keyword: str, limit: int, *, loosely: bool = False) -> list[ProductDetail]:
        """Products that are what the keyword names, best first.

        A Korean compound is named by its end (무선마우스 is a mouse, 마우스패드 is not): a word of the name has to end
        with the keyword's last word, and the keyword's other words have to be in the name or the categories.
        `loosely` takes what merely contains the keyword's last word as well; nothing unrelated is returned.
        """
        scored = [(score, row.product) for row in self._rows if (score := _score(row, keyword, loosely=loosely))]
        scored.sort(key=lambda pair: -pair[0])  # stable: the table's order within a score
        return [product for _, product in scored[:limit]]

    def product_code(self, link: str) -> str | None:
        """The table's code of the product with this purchase address, if it has one: an `OwnCode` for the callback."""
        return self._codes.get(link)


def _score(row: _Row, keyword: str, *, loosely: bool) -> int:
    """3 for a category or a keyword of the table, 2 for what the name says it is, 1 for a loose fit, 0 for none."""
    words = _words(keyword)
    whole = "".join(words)
    if not whole:
        return 0
    if whole in row.aliases:
        return 3
    head, texts = words[-1], (*row.words, *row.aliases)
    modified = all(any(word in text for text in texts) for word in words[:-1])
    if (_is_a(row, head) and modified) or _is_a(row, whole):
        return 2
    return 1 if loosely and len(head) > 1 and any(head in text for text in texts) else 0


def _is_a(row: _Row, head: str) -> bool:
    """Whether the product is what `head` names, and not a thing for it or a part of it."""

    def ends(text: str) -> bool:
        return text.endswith(head) if len(head) > 1 else text == head

    if any(ends(alias) for alias in row.aliases):
        return True
    # 마우스 is no 마우스패드: a category that begins with the word and goes on names another thing.
    if any(alias.startswith(head) for alias in row.aliases):
        return False
    # 책상 is no 원목 책상 선반: the category stands after the word in the name.
    places = [place for place, word in enumerate(row.words) if ends(word)]
    later = row.words[places[-1] + 1 :] if places else ()
    return bool(places) and not any(word.endswith(alias) for word in later for alias in row.aliases)


def _words(text: str) -> list[str]:
    return _WORD.findall(unicodedata.normalize("NFC", text).casefold())


def _joined(text: str) -> str:
    return "".join(_words(text))


def _text(path: Path, where: str) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SettingsError(f"{where}: cannot be read: {error.strerror}") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        try:
            data.decode("cp949")
        except UnicodeDecodeError:
            raise SettingsError(f"{where}, line {line}: it is not UTF-8") from error
        raise SettingsError(f"{where}: it is in CP949, not UTF-8: save it in Excel as 'CSV UTF-8'") from error


def _check_header(header: object, where: str) -> None:
    names = list(header) if isinstance(header, (list, tuple)) else []
    if missing := [name for name in REQUIRED if name not in names]:
        separator = " The columns have to be separated by commas." if len(names) == 1 else ""
        raise SettingsError(f"{where}, line 1: no column {', '.join(missing)}.{separator}")
    if twice := [name for name in (*REQUIRED, *OPTIONAL) if names.count(name) > 1]:
        raise SettingsError(f"{where}, line 1: column {twice[0]} is there twice")


def _row(cells: dict[str | None, object], where: str) -> _Row:
    if None in cells:
        raise SettingsError(f"{where}: more cells than the header has columns; a comma in a text needs quotes")
    if short := [name for name in REQUIRED if cells.get(name) is None]:
        raise SettingsError(f"{where}, column {short[0]}: the line ends before it")
    text = {name: str(cells.get(name) or "").strip() for name in (*REQUIRED, *OPTIONAL)}
    for name, limit in _LIMITS.items():
        if not text[name] or one_line(text[name], limit) != " ".join(unicodedata.normalize("NFC", text[name]).split()):
            raise SettingsError(f"{where}, column {name}: it is empty, longer than {limit} or has control characters")
    price = _PRICE.fullmatch(text["price"].replace(",", ""))
    if not price:
        raise SettingsError(f"{where}, column price: it is not a number of whole won above zero")
    for name in ("purchase_url", "image_path"):
        if not web_address(text[name]):
            raise SettingsError(f"{where}, column {name}: it is not an http(s) address")
    if len(text["product_code"]) > MAX_CODE:
        raise SettingsError(f"{where}, column product_code: it is longer than {MAX_CODE} characters")
    product = ProductDetail(
        title=one_line(text["name"], 255),
        price=price[1],
        mall=one_line(text["purchase_place"], 255),
        link=text["purchase_url"],
        image=text["image_path"],
        main_category=one_line(text["main_category"], 100),
        sub_category=one_line(text["sub_category"], 100),
    )
    given = [*text["keywords"].split("|"), product.main_category, product.sub_category]
    aliases = frozenset(alias for alias in map(_joined, given) if alias)
    return _Row(product, text["product_code"] or None, aliases, tuple(_words(product.title)))
