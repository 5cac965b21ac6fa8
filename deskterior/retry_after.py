"""How long somebody outside asks us to wait: `Retry-After` (RFC 9110, 10.2.3), in seconds or as a date."""

from __future__ import annotations

import time
from datetime import UTC
from email.utils import parsedate_to_datetime

DAY_S = 86_400.0


def retry_after_s(value: str | None, most: float = DAY_S) -> float | None:
    """Seconds from now, `most` at most; None where nothing was said, or nothing that makes sense."""
    text = (value or "").strip()
    try:
        seconds = float(text)
    except ValueError:
        return _until(text, most)
    return min(seconds, most) if seconds >= 0 else None  # NaN is not


def _until(text: str, most: float) -> float | None:
    try:
        moment = parsedate_to_datetime(text)
        seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(0.0, seconds), most)
