"""An attack as data: what is tried, and how the wire must answer."""

from __future__ import annotations

from dataclasses import dataclass

FORBIDDEN = "422 photo-url-forbidden"
UNREACHABLE = "422 photo-unreachable"
UNREADABLE = "422 photo-unreadable"
TOO_LARGE = "413 photo-too-large"
UNSUPPORTED = "415 photo-type-unsupported"
ACCEPTED = "200"
"""A photo, if an odd one; or an attack that has no effect on it."""


@dataclass(frozen=True)
class Attack:
    """`name` is the test's; `tries` is one line of SECURITY.md, and `answer` the status and slug beside it."""

    name: str
    tries: str
    answer: str
