"""Which models there are, what each can do and what it costs. The names are the SDK's own lists."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import get_args

from openai.types import ChatModel, ImageModel

from sandbox.openai.errors import ApiError, invalid_value, model_not_found

CHAT_MODELS: frozenset[str] = frozenset(get_args(ChatModel))
IMAGE_MODELS: frozenset[str] = frozenset(get_args(ImageModel)) - {"dall-e-2"}
RETIRED = {
    "dall-e-3": date(2026, 5, 12),
    "gpt-image-1": date(2026, 10, 23),
    "gpt-4-turbo": date(2026, 10, 23),
    "gpt-4o-2024-05-13": date(2026, 10, 23),
    "gpt-4o": date(2027, 1, 14),
    "gpt-4o-2024-08-06": date(2027, 1, 14),
    "gpt-4o-2024-11-20": date(2027, 1, 14),
    "gpt-4o-mini": date(2027, 1, 14),
    "gpt-4o-mini-2024-07-18": date(2027, 1, 14),
}
_SNAPSHOT = {
    "gpt-4o": "gpt-4o-2024-08-06",
    "gpt-4o-mini": "gpt-4o-mini-2024-07-18",
    "gpt-4.1": "gpt-4.1-2025-04-14",
    "gpt-4.1-mini": "gpt-4.1-mini-2025-04-14",
}
_BLIND = ("gpt-3.5", "gpt-4-0", "gpt-4-32k", "gpt-4-1106", "o1-mini", "o1-preview", "o3-mini", "gpt-audio", "codex")
_LOOSE = ("gpt-3.5", "gpt-4-", "o1-mini", "o1-preview", "gpt-4o-2024-05-13")


@dataclass(frozen=True)
class ChatTraits:
    """What a chat model takes. Token limits are of one answer and of the whole context."""

    model: str
    vision: bool
    structured: bool
    reasoning: bool
    max_completion_tokens: int
    context_tokens: int
    usd_in: float
    usd_out: float
    """Dollars for a million tokens."""

    @property
    def snapshot(self) -> str:
        """The dated name that an answer carries."""
        return _SNAPSHOT.get(self.model, self.model)


def chat_traits(model: str, *, retired: str) -> ChatTraits:
    """Raises ApiError for a model that is unknown, shut down (with `retired="refuse"`) or no chat model."""
    if model in IMAGE_MODELS:
        raise ApiError("This is not a chat model: it has no chat completions.", status=404, param="model")
    _available(model, CHAT_MODELS, retired)
    reasoning = model.startswith(("o1", "o3", "o4", "gpt-5", "gpt-6"))
    usd_in, usd_out = _chat_price(model)
    return ChatTraits(
        model,
        vision=not (model.startswith(_BLIND) or model == "gpt-4"),
        structured=not (model.startswith(_LOOSE) or model == "gpt-4"),
        reasoning=reasoning,
        max_completion_tokens=_completion_limit(model),
        context_tokens=_context(model),
        usd_in=usd_in,
        usd_out=usd_out,
    )


def _completion_limit(model: str) -> int:
    if model.startswith(("gpt-4o-2024-05-13", "gpt-4-", "gpt-3.5")) or model == "gpt-4":
        return 4096
    if model.startswith("gpt-4o"):
        return 16_384
    return 32_768 if model.startswith("gpt-4.1") else 128_000


def _context(model: str) -> int:
    if model.startswith("gpt-4.1"):
        return 1_047_576
    return 128_000 if model.startswith("gpt-4o") else 400_000


def _chat_price(model: str) -> tuple[float, float]:
    for prefix, price in (
        ("gpt-4o-mini", (0.15, 0.60)),
        ("gpt-4o-2024-05-13", (5.0, 15.0)),
        ("gpt-4o", (2.5, 10.0)),
        ("gpt-4.1-mini", (0.4, 1.6)),
        ("gpt-4.1-nano", (0.1, 0.4)),
        ("gpt-4.1", (2.0, 8.0)),
        ("gpt-5.4-mini", (0.75, 4.5)),
        ("gpt-5.4", (2.5, 15.0)),
        ("gpt-6-luna", (0.1, 0.5)),
        ("gpt-6-sol", (2.0, 10.0)),
        ("gpt-6.1-sol", (2.0, 10.0)),
    ):
        if model.startswith(prefix):
            return price
    return 10.0, 50.0  # the dearest


def image_model(model: str, *, retired: str) -> str:
    """The model's name. Raises ApiError for one that is unknown, shut down (and refused so) or draws nothing."""
    if model in CHAT_MODELS:
        raise invalid_value("model", model, sorted(IMAGE_MODELS))
    _available(model, IMAGE_MODELS, retired)
    return model


def _available(model: str, known: frozenset[str], retired: str) -> None:
    shut_down = retired == "refuse" and model in RETIRED and RETIRED[model] <= datetime.now(UTC).date()
    if model not in known or shut_down:
        raise model_not_found(model)


def listing(model: str) -> dict[str, object]:
    """The model as `GET /models` tells of it."""
    shutdown = RETIRED.get(model)
    return {
        "id": model,
        "object": "model",
        "created": 1_715_367_049,
        "owned_by": "system",
        "shutdown_date": shutdown.isoformat() if shutdown else None,
    }
