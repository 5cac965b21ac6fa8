"""A string that a regular expression matches: the shortest that it allows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import import_module
from typing import Any

_parser: Any = import_module("re._parser")
_BY_CATEGORY = {"CATEGORY_DIGIT": "0", "CATEGORY_WORD": "a", "CATEGORY_SPACE": " "}
_MOST_REPEATS = 1000
_REPEATS = {"MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"}


def matching(pattern: str, candidates: Sequence[str]) -> str:
    """The first candidate that matches, else one made from the pattern.

    What cannot be made (look-around, back references) comes out as the nearest try: the schema asked for too much.
    """
    try:
        found = re.compile(pattern)
    except re.error:
        return candidates[0]
    for candidate in candidates:
        if found.search(candidate):
            return candidate
    return _sequence(_parser.parse(pattern))


def _sequence(parsed: Any) -> str:
    return "".join(_piece(str(kind), argument) for kind, argument in parsed)


def _piece(kind: str, argument: Any) -> str:
    if kind == "LITERAL":
        return chr(argument)
    if kind == "NOT_LITERAL":
        return "a" if argument != ord("a") else "b"
    if kind == "ANY":
        return "a"
    if kind in _REPEATS:
        return _sequence(argument[2]) * min(int(argument[0]), _MOST_REPEATS)
    if kind == "SUBPATTERN":
        return _sequence(argument[3])
    if kind == "BRANCH":
        return _sequence(argument[1][0])
    return _one_of(argument) if kind == "IN" else ""


def _one_of(choices: Any) -> str:
    kinds = [(str(kind), argument) for kind, argument in choices]
    if kinds and kinds[0][0] == "NEGATE":
        shut = re.compile("[^" + "".join(_as_class(k, a) for k, a in kinds[1:]) + "]")
        return next((c for c in "a0 -가" if shut.match(c)), "?")
    kind, argument = kinds[0]
    if kind == "RANGE":
        return chr(argument[0])
    return chr(argument) if kind == "LITERAL" else _BY_CATEGORY.get(str(argument), "a")


def _as_class(kind: str, argument: Any) -> str:
    if kind == "RANGE":
        return f"{re.escape(chr(argument[0]))}-{re.escape(chr(argument[1]))}"
    if kind == "LITERAL":
        return re.escape(chr(argument))
    return {"CATEGORY_DIGIT": r"\d", "CATEGORY_WORD": r"\w", "CATEGORY_SPACE": r"\s"}.get(str(argument), "")
