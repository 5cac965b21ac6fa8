"""Addresses that lead inside, in every spelling: `addresses.toml`, as attacks.

Names that are spelled oddly but are names are looked up; the world's directory then answers as the C library does.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from tests.attacks.attack import FORBIDDEN, Attack

_LISTS = tomllib.loads(Path(__file__).with_name("addresses.toml").read_text("utf-8"))


@dataclass(frozen=True)
class Address(Attack):
    urls: tuple[str, ...]
    """Each is tried as it stands, and as the target of a redirect."""


def _listed(kind: str) -> list[Address]:
    return [Address(one["name"], one["tries"], FORBIDDEN, tuple(one["urls"])) for one in _LISTS[kind]]


ADDRESSES = _listed("address")
PORTS = _listed("port")
