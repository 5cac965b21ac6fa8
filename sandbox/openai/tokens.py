"""Counting tokens and dollars. Text is cut in a way of our own, near enough; pictures by the real rules."""

from __future__ import annotations

import math
import re

_PIECES = re.compile(r"[A-Za-z]{1,6}| ?\d{1,3}|\s+|[^\sA-Za-z\d]{1,2}")
_OUTPUT = {"low": 272, "medium": 1056, "high": 4160, "xhigh": 6240, "max": 8320}
"""Output tokens of a square picture of 1024; other sizes in proportion to their pixels."""


def pieces(text: str) -> list[str]:
    """The text's tokens; joined they are the text again."""
    return _PIECES.findall(text)


def count(text: str) -> int:
    return len(pieces(text))


def vision_tokens(width: int, height: int, detail: str, *, base: int = 85, tile: int = 170) -> int:
    """Input tokens of a picture for GPT-4o: fit into 2048, shortest side to 768, 512-pixel tiles."""
    if detail == "low":
        return base
    scale = min(1.0, 2048 / max(width, height))
    width, height = round(width * scale), round(height * scale)
    scale = min(1.0, 768 / min(width, height)) if min(width, height) else 1.0
    tiles = math.ceil(width * scale / 512) * math.ceil(height * scale / 512)
    return base + tile * max(1, tiles)


def edit_input_tokens(width: int, height: int) -> int:
    """Input tokens of a picture for GPT Image: shortest side to 512, tiles of 512."""
    scale = 512 / max(1, min(width, height))
    tiles = math.ceil(width * scale / 512) * math.ceil(height * scale / 512)
    return 65 + 129 * max(1, tiles)


def picture_tokens(width: int, height: int, quality: str) -> int:
    """Output tokens of one drawn picture."""
    return round(_OUTPUT[quality] * width * height / 1024**2)


def picture_usd(model: str, text_in: int, image_in: int, image_out: int) -> float:
    """Price of a GPT Image call from its tokens."""
    text, seen, drawn = _RATES.get(model.removesuffix("-2026-04-21"), _NEWEST)
    return round((text_in * text + image_in * seen + image_out * drawn) / 1e6, 6)


_NEWEST = (5.0, 8.0, 30.0)
_RATES = {
    "gpt-image-1": (5.0, 10.0, 40.0),
    "gpt-image-1-mini": (2.0, 2.5, 8.0),
    "gpt-image-1.5": (5.0, 8.0, 32.0),
    "chatgpt-image-latest": (5.0, 8.0, 32.0),
}


def dalle3_usd(size: str, quality: str) -> float:
    """Price of one DALL·E 3 picture."""
    square = size == "1024x1024"
    if quality == "hd":
        return 0.08 if square else 0.12
    return 0.04 if square else 0.08
