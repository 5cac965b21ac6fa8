"""Text from outside (a model's answer, a shop's titles) made safe to keep: one clean line, valid UTF-8, no markup."""

from __future__ import annotations

import html
import re
import unicodedata
from urllib.parse import urlsplit

_TAG = re.compile(r"</?[A-Za-z][^<>]*>|<!--.*?-->|</?b?$")
# Control characters, lone surrogates (they break UTF-8 later), and unassigned and private ones.
_UNWANTED = {"Cc", "Cs", "Cn", "Co"}
# Zero-width and direction-changing characters: invisible, and able to make a text read as another.
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
_ROUNDS = 3  # a title may be escaped twice
_LOOKED_AT = 8
"""Characters for each one wanted: a megabyte of blanks, looked through one by one, would hold everybody else up."""
MAX_URL = 2048


def one_line(value: object, limit: int) -> str:
    """The text in NFC on one line, cut at a word boundary to `limit` characters; empty for what is not text.

    What lies far behind its beginning is not looked at.
    """
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        return ""
    text = _INVISIBLE.sub("", unicodedata.normalize("NFC", str(value)[: _LOOKED_AT * limit]))
    text = "".join(" " if unicodedata.category(c) in _UNWANTED else c for c in text)
    return cut(" ".join(text.split()), limit)


def without_markup(value: object, limit: int) -> str:
    """As `one_line`, with tags taken out and entities turned into the characters that they stand for."""
    text = one_line(value, limit * 4)
    for _ in range(_ROUNDS):
        plain = html.unescape(_TAG.sub("", text))
        if plain == text:
            break
        text = plain
    return one_line(_TAG.sub("", text), limit)


def cut(text: str, limit: int) -> str:
    """The first `limit` characters at most, ended at a word boundary where there is one in the last fifth."""
    if len(text) <= limit:
        return text
    head = text[:limit]
    if text[limit].isspace():
        return head.rstrip()
    space = max(head.rfind(" "), head.rfind("\n"))
    return (head[:space] if space >= limit * 4 // 5 else head).rstrip()


def web_address(value: object) -> str:
    """The value when it is an http(s) address that a page may link to, otherwise empty."""
    if not isinstance(value, str):
        return ""
    url = value.strip()
    if not url or len(url) > MAX_URL:
        return ""
    if _INVISIBLE.search(url) or any(c.isspace() or unicodedata.category(c) in _UNWANTED for c in url):
        return ""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return url if parts.scheme.lower() in {"http", "https"} and parts.hostname else ""
