"""How long the backend is left alone between two attempts to tell it."""

import random

import pytest

from deskterior.callbacks import TryAgain
from deskterior.makeover.delivery import pause_before_next


def test_a_backend_that_asks_for_no_pause_is_still_given_growing_ones() -> None:
    rng = random.Random(1)
    mean = [sum(pause_before_next(TryAgain("503", after=0.0), n, rng) for _ in range(200)) / 200 for n in (1, 4, 8)]
    assert 0.5 < mean[0] < mean[1] < mean[2]


@pytest.mark.parametrize("after", [120.0, 3600.0])
def test_a_backend_that_asks_for_a_pause_gets_at_least_that(after: float) -> None:
    assert pause_before_next(TryAgain("429", after=after), 1, random.Random(1)) >= after
