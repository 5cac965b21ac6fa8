"""What a JSON body may be: not deep, not ambiguous, and nothing that other parsers read in another way (RFC 8259).

Whether it fits a schema is the routes' business, and so is saying where it is no JSON at all.
"""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

from deskterior.errors import Invalid

MAX_DEPTH = 32
"""The contract's bodies are one object deep."""
MAX_DIGITS = 400
"""Of one number: more than a double has, and far fewer than take long to read."""

# A string as a whole, closed or not, or one bracket; possessive, so that no input is looked at twice.
_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)|[\[{]|[\]}]', re.DOTALL)


def check_json(body: bytes) -> None:
    """Refuse what no client means to send.

    Raises:
        Invalid: naming what is wrong.
    """
    if json.detect_encoding(body) not in {"utf-8", "utf-8-sig"}:
        raise _wrong("must be JSON in UTF-8")
    if _deeper_than(body, MAX_DEPTH):
        raise _wrong(f"nests deeper than {MAX_DEPTH} levels, which is the greatest depth that is read")
    try:
        json.loads(
            body,
            object_pairs_hook=_once,
            parse_constant=_no_number,
            parse_int=_number,
            parse_float=_number,
        )
    except UnicodeDecodeError:
        raise _wrong("must be JSON in UTF-8") from None
    except json.JSONDecodeError:
        return


def _deeper_than(body: bytes, most: int) -> bool:
    if body.count(b"[") + body.count(b"{") <= most:
        return False
    depth = 0
    for token in _TOKENS.finditer(body):
        if (first := body[token.start()]) in b"[{":
            depth += 1
            if depth > most:
                return True
        elif first in b"]}":
            depth -= 1
    return False


def _once(pairs: list[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            raise _wrong(f"has the field {name[:50]!r} twice")
        seen.add(name)


def _number(text: str) -> None:
    if len(text) > MAX_DIGITS:
        raise _wrong(f"has a number of more than {MAX_DIGITS} digits")


def _no_number(name: str) -> NoReturn:
    raise _wrong(f"has {name}, which is no number of JSON")


def _wrong(message: str) -> Invalid:
    return Invalid(f"The body {message}", errors=[{"field": "body", "message": message}])
