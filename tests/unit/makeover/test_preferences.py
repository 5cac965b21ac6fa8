"""What `Prefer` asks for (RFC 7240), however it is written."""

from __future__ import annotations

import pytest

from deskterior.config import Settings
from deskterior.routers.generate import Preferences

SETTINGS = Settings.model_validate({"wait_default_s": 120, "wait_max_s": 300})


@pytest.mark.parametrize(
    ("headers", "seconds", "applied"),
    [
        ([], 120, ""),
        (["respond-async"], 0, "respond-async"),
        (["Respond-Async"], 0, "respond-async"),
        (["wait=10"], 10, "wait=10"),
        (["wait = 10"], 10, "wait=10"),
        (['wait="10"'], 10, "wait=10"),
        (["wait=0"], 0, "wait=0"),
        (["wait=100000"], 300, "wait=300"),
        (["respond-async, wait=10"], 10, "respond-async, wait=10"),
        (["respond-async", "wait=10"], 10, "respond-async, wait=10"),
        (["wait=5; foo=bar, respond-async; x"], 5, "respond-async, wait=5"),
        (["wait=5, wait=50"], 5, "wait=5"),
        (["handling=lenient, return=minimal"], 120, ""),
        (["wait=-1"], 120, ""),
        (["wait=soon"], 120, ""),
        (["wait=1.5"], 120, ""),
        (["wait=١٠"], 120, ""),
        (["wait"], 120, ""),
        ([",,;;==,"], 120, ""),
        (['foo="wait=1'], 120, ""),
    ],
)
def test_a_preference_is_read_however_it_is_written(headers: list[str], seconds: float, applied: str) -> None:
    preferences = Preferences.of(headers)

    assert preferences.seconds(SETTINGS) == seconds
    assert preferences.applied(SETTINGS) == applied


def test_the_default_wait_is_capped_too() -> None:
    settings = Settings.model_validate({"wait_default_s": 120, "wait_max_s": 30})

    assert Preferences().seconds(settings) == 30
