"""The ledger of paid calls: each noted when its work starts and again when it ends, so a kill between the two shows.

With a file it is also kept as JSON lines, written through at once; the last line of a number is its state.
"""

from __future__ import annotations

import json
import threading
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

What = Literal["chat", "images.generations", "images.edits"]


@dataclass(frozen=True)
class Entry:
    """One paid call. `usd` and `usage` come with its end; `answered` means that the whole answer was sent."""

    n: int
    what: What
    model: str
    digest: str
    started: str
    ended: str | None = None
    answered: bool = False
    client_gone: bool = False
    usd: float | None = None
    usage: dict[str, int] | None = None
    fault: str | None = None
    task_id: str | None = None
    client_request_id: str | None = None
    idempotency_key: str | None = None


class Ledger:
    """Paid calls in the order they started. Safe to use from any thread."""

    def __init__(self, file: Path | None = None) -> None:
        self._lock = threading.Lock()
        self._entries: dict[int, Entry] = {}
        self._file = file
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._entries = _read(file)
            _end_line(file)

    def start(
        self,
        what: What,
        model: str,
        digest: str,
        *,
        fault: str | None = None,
        task_id: str | None = None,
        client_request_id: str | None = None,
        idempotency_key: str | None = None,
    ) -> Entry:
        """Note that the work of a paid call begins. `digest` is of the prompt and the pictures."""
        with self._lock:
            entry = Entry(
                max(self._entries, default=0) + 1,
                what,
                model,
                digest,
                _now(),
                fault=fault,
                task_id=task_id,
                client_request_id=client_request_id,
                idempotency_key=idempotency_key,
            )
            self._put(entry)
            return entry

    def bill(self, n: int, usd: float, usage: dict[str, int]) -> None:
        """Note what the finished work costs; that it was answered is told by `end`."""
        self._change(n, usd=usd, usage=usage)

    def end(self, n: int, *, answered: bool, client_gone: bool) -> None:
        """Note that the call is over."""
        self._change(n, ended=_now(), answered=answered, client_gone=client_gone)

    def entries(self) -> list[Entry]:
        with self._lock:
            return list(self._entries.values())

    def clear(self) -> None:
        """Forget every call; a file is emptied too. What is still running is not noted any more."""
        with self._lock:
            self._entries.clear()
            if self._file is not None:
                self._file.write_bytes(b"")

    def _change(self, n: int, **changes: object) -> None:
        with self._lock:
            if n in self._entries:
                self._put(replace(self._entries[n], **changes))  # type: ignore[arg-type]

    def _put(self, entry: Entry) -> None:
        self._entries[entry.n] = entry
        if self._file is not None:
            # Opened, written and closed at once: nothing of a noted call stays in this process's memory.
            with self._file.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(asdict(entry), ensure_ascii=False) + "\n")


def _read(file: Path) -> dict[int, Entry]:
    entries: dict[int, Entry] = {}
    if file.exists():
        for line in file.read_text(encoding="utf-8").split("\n"):
            try:
                entry = Entry(**json.loads(line))
            except (ValueError, TypeError):
                continue  # a line that was being written when the process was killed
            entries[entry.n] = entry
    return entries


def _end_line(file: Path) -> None:
    """Close a line that a kill cut off, so that the next one stands by itself."""
    if file.exists() and file.stat().st_size and not file.read_bytes().endswith(b"\n"):
        with file.open("ab") as lines:
            lines.write(b"\n")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
