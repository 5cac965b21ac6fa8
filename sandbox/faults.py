"""Faults on demand: what goes wrong, where, how often. `exchange` acts them out; the services give the error shapes."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Where = Literal[
    "openai",
    "openai.chat",
    "openai.images",
    "openai.images.generations",
    "openai.images.edits",
    "openai.models",
    "openai.files",
    "naver",
    "naver.shop",
    "naver.images",
    "backend",
]
Kind = Literal[
    # refused before any work, and not billed
    "status",
    "rate-limit",
    "quota",
    "html",
    "content-policy",
    # the work is done and billed, and its answer is late, broken or lost
    "delay",
    "hang",
    "cut",
    "reset",
    "slow-drip",
    "malformed-json",
    "empty",
    # a sound answer that says the wrong thing
    "refusal",
    "length",
    "content-filter",
    "malformed-content",
    "schema-violation",
    "bad-image",
    "missing-fields",
]
REFUSALS: frozenset[Kind] = frozenset({"status", "rate-limit", "quota", "html", "content-policy"})
_ONLY: dict[Kind, tuple[str, ...]] = {
    "content-policy": ("openai",),
    "refusal": ("openai.chat",),
    "length": ("openai.chat",),
    "content-filter": ("openai.chat",),
    "malformed-content": ("openai.chat",),
    "schema-violation": ("openai.chat",),
    "bad-image": ("openai.images", "openai.files", "naver.images"),
    "missing-fields": ("naver",),
    "quota": ("openai", "naver"),
}


class Fault(BaseModel):
    """One thing that goes wrong. `where` also covers what lies below it: `openai` is every OpenAI endpoint."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    where: Where
    kind: Kind
    status: Annotated[int, Field(ge=200, le=599)] | None = None
    """HTTP status of `status` (500 when not given) and `html` (502)."""
    code: str | None = None
    """The service's own error code, in its own error shape."""
    message: str | None = None
    retry_after: Annotated[float, Field(ge=0)] | None = None
    """Seconds, for `Retry-After` (and OpenAI's `retry-after-ms`); `rate-limit` says 1 when not given."""
    seconds: Annotated[float, Field(ge=0)] | None = None
    """`delay` and `slow-drip`: how long (5 when not given). `hang`: it answers after all by then (else never)."""
    times: Annotated[int, Field(ge=1)] | None = 1
    """How many calls it hits; null is every one."""
    after: Annotated[int, Field(ge=0)] = 0
    """How many matching calls pass unharmed first."""
    match: str | None = None
    """Hits only calls whose prompt, query or body holds this text."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        allowed = _ONLY.get(self.kind)
        if allowed and not any(_covers(a, self.where) or _covers(self.where, a) for a in allowed):
            raise ValueError(f"kind {self.kind} happens only at {' or '.join(allowed)}")
        return self

    def pause(self) -> float:
        """Seconds of `delay` and `slow-drip`."""
        return 5.0 if self.seconds is None else self.seconds


@dataclass
class _Planned:
    id: int
    fault: Fault
    seen: int = 0
    hits: int = 0


class FaultPlan:
    """The faults to come, in the order they were asked for. Safe to use from any thread."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self._lock = threading.Lock()
        self._planned: list[_Planned] = []
        self._ids = 0
        for fault in faults:
            self.add(fault)

    def add(self, fault: Fault) -> int:
        """Plan a fault; returns its id."""
        with self._lock:
            self._ids += 1
            self._planned.append(_Planned(self._ids, fault))
            return self._ids

    def take(self, where: Where, text: str = "") -> Fault | None:
        """The fault that hits this call, if any: the first planned one that covers it and is not used up."""
        with self._lock:
            for planned in self._planned:
                fault = planned.fault
                if not _covers(fault.where, where) or not _possible(fault.kind, where):
                    continue
                if fault.match is not None and fault.match not in text:
                    continue
                if fault.times is not None and planned.hits >= fault.times:
                    continue
                planned.seen += 1
                if planned.seen > fault.after:
                    planned.hits += 1
                    return fault
        return None

    def listing(self) -> list[dict[str, object]]:
        """Every planned fault with `id` and `hits`, used-up ones too."""
        with self._lock:
            return [{"id": p.id, "hits": p.hits, **p.fault.model_dump(exclude_none=True)} for p in self._planned]

    def clear(self, fault_id: int | None = None) -> int:
        """Forget one fault, or all; returns how many went."""
        with self._lock:
            kept = [p for p in self._planned if fault_id is not None and p.id != fault_id]
            gone = len(self._planned) - len(kept)
            self._planned = kept
            return gone


def _covers(wide: str, narrow: str) -> bool:
    return wide == narrow or narrow.startswith(f"{wide}.")


def _possible(kind: Kind, where: Where) -> bool:
    return kind not in _ONLY or any(_covers(allowed, where) for allowed in _ONLY[kind])
