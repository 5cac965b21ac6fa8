"""API keys: what one looks like, what is kept of it, and the list of those that are good (`API_KEYS`).

Where the list lies and when it is read again is left to the keyring.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from deskterior.gateway.caller import Caller, KeyLimits, Scope

PREFIX = "dskt"
"""So that scanners of secrets can know a key: `dskt_[0-9a-f]{12}_[0-9a-f]{64}`."""
KEY = re.compile(rf"{PREFIX}_([0-9a-f]{{12}})_[0-9a-f]{{64}}")
MOST_KEYS = 10_000

Id = Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
"""No colon: names with one are made for the owners of tokens."""


class KeysError(ValueError):
    """A list of keys that cannot be used; the text says which entry and why, and holds no hash."""


class Limits(BaseModel):
    """What one key may use; what is left out is as for anybody."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    requests_per_minute: int | None = Field(default=None, ge=1, le=10_000_000)
    usd_per_day: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    tasks_waiting: int | None = Field(default=None, ge=0)


class Entry(BaseModel):
    """One key, as `API_KEYS` holds it.

    `hash` is SHA-256 over `salt` and the key's text, all in hexadecimal. A slow hash would protect words that people
    choose; nobody tries 2^256 keys at any speed, and each request pays for it. The salt keeps equal keys unlike.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    id: Id
    name: Name
    salt: str = Field(pattern=r"^[0-9a-f]{32}$")
    hash: str = Field(pattern=r"^[0-9a-f]{64}$")
    scopes: tuple[Scope, ...] = Field(min_length=1)
    limits: Limits = Limits()
    created_at: AwareDatetime | None = None
    expires_at: AwareDatetime | None = None

    @classmethod
    def make(
        cls, name: str, scopes: Sequence[Scope], limits: Limits | None = None, expires_at: datetime | None = None
    ) -> tuple[str, Self]:
        """A new key and its entry. The key is nowhere else. Raises ValidationError."""
        key_id = secrets.token_hex(6)
        key = f"{PREFIX}_{key_id}_{secrets.token_hex(32)}"
        salt = secrets.token_hex(16)
        entry = cls(
            id=key_id,
            name=name,
            salt=salt,
            hash=_hash(salt, key),
            scopes=tuple(dict.fromkeys(scopes)),
            limits=limits or Limits(),
            created_at=datetime.now(UTC).replace(microsecond=0),
            expires_at=expires_at,
        )
        return key, entry


class Keys:
    """The keys that are good. `clock` is Unix seconds."""

    def __init__(self, entries: Iterable[Entry] = (), clock: Callable[[], float] = time.time) -> None:
        self._known = {entry.id: _Known(entry) for entry in entries}
        self._nobody = _Known(Entry.make("nobody", ["classify"])[1])
        self._clock = clock

    def __len__(self) -> int:
        return len(self._known)

    def find(self, text: str) -> Caller | None:
        """Whose key this is; None for one that is unknown, wrong or out of date.

        One hash is computed whether the id is known or not, and compared in constant time.
        """
        if (match := KEY.fullmatch(text)) is None:
            return None
        known = self._known.get(match[1], self._nobody)
        same = hmac.compare_digest(_hash(known.salt, text), known.hash)
        if not same or known is self._nobody or self._clock() >= known.expires_at:
            return None
        return known.caller


class _Known:
    """An entry, as it is asked for with every request."""

    def __init__(self, entry: Entry) -> None:
        self.salt, self.hash = entry.salt, entry.hash
        self.expires_at = entry.expires_at.timestamp() if entry.expires_at else float("inf")
        self.caller = Caller(entry.name, frozenset(entry.scopes), KeyLimits(**entry.limits.model_dump()))


def key_id(text: str) -> str | None:
    """The id that a key's text begins with, for the log; None where it is no key."""
    match = KEY.fullmatch(text)
    return match[1] if match else None


def read(text: str) -> list[Entry]:
    """The entries of a list in JSON. Raises KeysError."""
    try:
        items = json.loads(text)
    except (ValueError, RecursionError):
        raise KeysError(
            "is no JSON. It takes the list that `python -m deskterior.keys make` prints, or @ and the path of a file "
            "with one"
        ) from None
    if not isinstance(items, list):
        raise KeysError("must be a list of entries: [{...}, {...}]")
    if len(items) > MOST_KEYS:
        raise KeysError(f"has {len(items)} entries, and {MOST_KEYS} is the most")
    entries: dict[str, Entry] = {}
    for number, item in enumerate(items, 1):
        try:
            entry = Entry.model_validate_json(json.dumps(item))
        except ValidationError as error:
            raise KeysError(f"entry {number}{_named(item)}: {explain(error)}") from None
        if entry.id in entries:
            raise KeysError(f"entry {number}{_named(item)}: another entry has this id")
        entries[entry.id] = entry
    return list(entries.values())


def write(entries: Sequence[Entry]) -> str:
    """The list in JSON, in one line an entry; `read` reads it."""
    lines = [entry.model_dump_json(exclude_defaults=True) for entry in entries]
    return "[" + ",\n ".join(lines) + "]\n" if lines else "[]\n"


def explain(error: ValidationError) -> str:
    """What is wrong with an entry, by field, without any value."""
    found = []
    for item in error.errors(include_input=False, include_url=False, include_context=False):
        where = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            found.append("has a field that no entry has")  # whatever was put there by mistake is not shown
        else:
            found.append(f"{where}: {_SAYS.get(where, item['msg'])}" if where else item["msg"])
    return "; ".join(found)


_SAYS = {
    "id": "must be 12 hexadecimal digits, in small letters",
    "name": "must be 1 to 64 letters, digits, dots, dashes or underscores, and begin with a letter or digit",
    "salt": "must be 32 hexadecimal digits, in small letters",
    "hash": "must be 64 hexadecimal digits, in small letters",
}


def _named(item: object) -> str:
    """The id of a wrong entry, if that is right: nothing else of it is shown, since anything may stand anywhere."""
    found = item.get("id") if isinstance(item, dict) else None
    return f" (id {found})" if isinstance(found, str) and re.fullmatch("[0-9a-f]{12}", found) else ""


def _hash(salt: str, key: str) -> str:
    return hashlib.sha256(bytes.fromhex(salt) + key.encode()).hexdigest()
