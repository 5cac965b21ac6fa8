"""Make, list and revoke API keys: `python -m deskterior.keys make --name backend --scopes classify,generate`.

A key is shown once, when it is made. What `API_KEYS` holds of it is a salted hash; the gateway reads that.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import re
import stat
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

from pydantic import SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from deskterior.config import ROOT
from deskterior.gateway.caller import SCOPES, Scope
from deskterior.gateway.keys import Entry, KeysError, Limits, explain, key_id, read, write

_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}


class Refused(Exception):
    """What was asked for cannot be done; the text says why."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; gives the exit status."""
    asked = _parser().parse_args(arguments)
    try:
        match asked.command:
            case "make":
                _make(asked)
            case "list":
                _list(asked)
            case _:
                _revoke(asked)
    except ValidationError as error:
        return _failed(explain(error))
    except (Refused, KeysError) as error:
        return _failed(str(error))
    except OSError as error:
        return _failed(f"{error.filename or 'the file'}: {error.strerror or error}")
    return 0


def _make(asked: argparse.Namespace) -> None:
    limits = Limits(
        requests_per_minute=asked.requests_per_minute, usd_per_day=asked.usd_per_day, tasks_waiting=asked.tasks_waiting
    )
    key, entry = Entry.make(asked.name, _scopes(asked.scopes), limits, _expiry(asked.expires))
    path = _path(asked.file)
    if path:
        with _locked(path):
            entries = _entries(path) if path.exists() else []
            _replace(path, [*entries, entry])
        _say(f"The key {entry.id} of {entry.name} is in {path}. This is the only time that it is shown:")
        print(key)
    else:
        _say("The key, shown this once:")
        print(key)
        _say("API_KEYS, or one more entry of its list:")
        print(write([entry]), end="")


def _list(asked: argparse.Namespace) -> None:
    path = _path(asked.file)
    entries = _entries(path) if path else read(_setting() or "[]")
    if not entries:
        _say(f"There are no keys in {path or 'API_KEYS'}.")
        return
    now = datetime.now(UTC)
    rows = [("id", "name", "scopes", "limits", "made", "expires")]
    for entry in sorted(entries, key=lambda entry: (entry.name, entry.created_at or now)):
        limits = [f"{name}={value:g}" for name, value in entry.limits.model_dump(exclude_none=True).items()]
        expires = f"{entry.expires_at:%Y-%m-%d %H:%M}" if entry.expires_at else "never"
        if entry.expires_at and entry.expires_at <= now:
            expires += " (expired)"
        made = f"{entry.created_at:%Y-%m-%d}" if entry.created_at else "-"
        rows.append((entry.id, entry.name, ",".join(entry.scopes), ",".join(limits) or "-", made, expires))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _revoke(asked: argparse.Namespace) -> None:
    path = _path(asked.file)
    if path is None:
        raise Refused("API_KEYS is no file: take the entry with this id out of the setting, and start the service anew")
    wanted = key_id(asked.id) or asked.id  # a key that was found somewhere may be given whole
    with _locked(path):
        entries = _entries(path)
        left = [entry for entry in entries if entry.id != wanted]
        if len(left) == len(entries):
            raise Refused(f"there is no key with this id in {path}; `list` shows those that are")
        _replace(path, left)
    _say(f"Revoked {wanted}. A service that reads {path} refuses it within a second or two.")


class _Setting(BaseSettings):
    """`API_KEYS` alone: the rest of the settings need not be there to make a key."""

    model_config = SettingsConfigDict(env_file=ROOT / ".env", extra="ignore", env_ignore_empty=True)

    api_keys: SecretStr = SecretStr("")


def _setting() -> str:
    return _Setting().api_keys.get_secret_value().strip()


def _path(file: Path | None) -> Path | None:
    """The file to work on: what was said, or what API_KEYS says. A link stays, and what it leads to is changed."""
    if file is None and (setting := _setting()).startswith("@"):
        file = ROOT / setting[1:]
    return file.resolve() if file else None


def _entries(path: Path) -> list[Entry]:
    try:
        return read(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError:
        raise KeysError(f"{path} is no text in UTF-8") from None
    except KeysError as error:
        raise KeysError(f"{path} {error}") from None


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Alone among those who change files in this folder."""
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _replace(path: Path, entries: Sequence[Entry]) -> None:
    """Write the file at one stroke: a service may read it at any moment. A new one is for its owner's eyes alone."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            if path.exists():
                # Who could read it must go on to: a service that cannot keeps the keys that it has, the revoked too.
                was = path.stat()
                os.fchown(file.fileno(), was.st_uid, was.st_gid)
                os.fchmod(file.fileno(), stat.S_IMODE(was.st_mode))
            file.write(write(entries))
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _scopes(text: str) -> list[Scope]:
    names = [part.strip() for part in text.split(",") if part.strip()]
    wrong = [name for name in names if name not in SCOPES]
    if wrong or not names:
        what = f"{wrong[0]!r} is none" if wrong else "there is none"
        raise Refused(f"scopes: {what}; take some of {', '.join(sorted(SCOPES))}, by commas")
    return cast(list[Scope], names)


def _expiry(text: str | None) -> datetime | None:
    """`90d`, `12h`, or a date; None is never."""
    if text is None:
        return None
    now = datetime.now(UTC).replace(microsecond=0)
    try:
        if match := re.fullmatch(r"([0-9]{1,6})([mhdw])", text):
            moment = now + int(match[1]) * _UNITS[match[2]]
        else:
            moment = datetime.fromisoformat(text)
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise Refused(f"expires: {text!r} is neither like 90d, 12h or 2w, nor a date like 2027-01-31") from None
    if moment <= now:
        raise Refused("expires: this lies in the past")
    return moment.astimezone(UTC)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m deskterior.keys", description="Make, list and revoke API keys.")
    where = argparse.ArgumentParser(add_help=False)
    where.add_argument("--file", type=Path, help="the keys' file; what API_KEYS=@... says when left out")
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("make", parents=[where], help="make a key, and show it once")
    make.add_argument("--name", required=True, help="whose it is; tasks belong to the name, and two keys may have one")
    make.add_argument("--scopes", required=True, help=f"by commas, some of {', '.join(sorted(SCOPES))}")
    make.add_argument("--expires", help="90d, 12h, 2w or a date (UTC); never when left out")
    make.add_argument("--requests-per-minute", type=int, metavar="N")
    make.add_argument("--usd-per-day", type=float, metavar="USD", help="what its makeovers of a day (UTC) may cost")
    make.add_argument("--tasks-waiting", type=int, metavar="N", help="tasks that may wait for a place at once")
    commands.add_parser("list", parents=[where], help="show the keys: never what they are, only whose")
    revoke = commands.add_parser("revoke", parents=[where], help="take a key back")
    revoke.add_argument("id", help="as `list` shows it, or the key itself")
    return parser


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _failed(text: str) -> int:
    _say(f"deskterior.keys: {text}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
