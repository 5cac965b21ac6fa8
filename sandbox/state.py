"""What one running sandbox holds and how it was set up; its parts share this and nothing else."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal, Self

from sandbox.faults import FaultPlan
from sandbox.ledger import Ledger


@dataclass(frozen=True)
class Latency:
    """Seconds that a call takes at least, by service."""

    chat: float = 0.3
    images: float = 0.5
    naver: float = 0.05
    backend: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Self:
        """`0` for all of them, or `chat=1,images=8` for some. Raises ValueError on anything else."""
        if "=" not in text:
            return cls(**dict.fromkeys(cls.names(), _seconds(text)))
        pairs = [part.partition("=") for part in text.split(",")]
        if unknown := [name for name, _, _ in pairs if name.strip() not in cls.names()]:
            raise ValueError(f"no such latency: {unknown[0]!r}; there are {', '.join(cls.names())}")
        return cls(**{name.strip(): _seconds(value) for name, _, value in pairs})

    @classmethod
    def names(cls) -> list[str]:
        return [f.name for f in fields(cls)]


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < 3600:
        raise ValueError(f"not a number of seconds: {text!r}")
    return seconds


@dataclass(frozen=True)
class Options:
    """How strict and how fast this sandbox is."""

    latency: Latency = Latency()
    openai_key: str | None = None
    """The only key accepted; any when None."""
    retired: Literal["serve", "refuse"] = "serve"
    """Models that OpenAI has shut down: other endpoints still serve them; OpenAI's own refuses."""
    naver_per_second: int | None = None
    """Searches accepted within a second; beyond it 429."""
    callback_secret: str | None = None
    """With it, every callback must be signed."""
    callback_format: Literal["nested", "flat"] | None = None
    """The one shape accepted; either when None. `flat` answers a failed makeover with 404, as the Java one does."""
    ledger_file: Path | None = None


@dataclass(frozen=True)
class Received:
    """A callback as it came in, whatever was answered."""

    n: int
    at: str
    headers: dict[str, str]
    body: object
    raw: str
    shape: Literal["status", "nested", "flat"] | None
    signature: Literal["unsigned", "verified", "invalid", "unchecked"]
    duplicate: bool
    """Its `webhook-id` was accepted before."""
    status: int


@dataclass
class Sandbox:
    """The live state. Lists are bounded, so that a long load run does not grow it."""

    options: Options
    faults: FaultPlan
    ledger: Ledger
    requests: deque[dict[str, object]] = field(default_factory=lambda: deque(maxlen=10_000))
    callbacks: deque[Received] = field(default_factory=lambda: deque(maxlen=1000))
    files: OrderedDict[str, tuple[str, bytes]] = field(default_factory=OrderedDict)
    """Pictures answered by address: name -> (media type, bytes)."""
