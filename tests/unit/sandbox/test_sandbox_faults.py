"""Which call a planned fault hits."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from sandbox.faults import Fault, FaultPlan


def test_a_fault_hits_as_often_as_it_says_and_then_no_more() -> None:
    plan = FaultPlan([Fault(where="openai.chat", kind="status", times=2)])
    assert [plan.take("openai.chat") is not None for _ in range(4)] == [True, True, False, False]


def test_without_a_number_of_times_it_hits_once_and_with_null_always() -> None:
    plan = FaultPlan([Fault(where="naver", kind="status"), Fault(where="naver", kind="quota", times=None)])
    assert [fault.kind for _ in range(4) if (fault := plan.take("naver.shop"))] == ["status", "quota", "quota", "quota"]


def test_it_lets_the_first_calls_pass_when_told_so() -> None:
    plan = FaultPlan([Fault(where="backend", kind="cut", after=2)])
    assert [plan.take("backend") is not None for _ in range(4)] == [False, False, True, False]


def test_a_wide_place_covers_what_lies_below_and_nothing_beside() -> None:
    plan = FaultPlan([Fault(where="openai.images", kind="status", times=None)])
    assert plan.take("openai.images.edits")
    assert plan.take("openai.images.generations")
    assert plan.take("openai.chat") is None
    assert plan.take("naver.images") is None


def test_it_hits_only_what_matches() -> None:
    plan = FaultPlan([Fault(where="naver", kind="empty", match="마우스", times=None)])
    assert plan.take("naver.shop", "키보드") is None
    assert plan.take("naver.shop", "무선 마우스")


def test_a_fault_never_hits_where_it_cannot_happen() -> None:
    plan = FaultPlan([Fault(where="openai", kind="refusal")])
    assert plan.take("openai.images.edits") is None
    assert plan.take("openai.chat")


@pytest.mark.parametrize(
    "asked",
    [
        {"where": "openai.chat"},
        {"where": "openai.audio", "kind": "status"},
        {"where": "naver", "kind": "explode"},
        {"where": "naver", "kind": "refusal"},
        {"where": "backend", "kind": "status", "status": 99},
        {"where": "backend", "kind": "status", "times": 0},
        {"where": "backend", "kind": "status", "typo": 1},
        {"where": "backend", "kind": "delay", "seconds": -1},
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(asked: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Fault.model_validate(asked)


def test_the_listing_tells_how_often_each_hit_and_one_can_be_removed() -> None:
    plan = FaultPlan()
    first, second = plan.add(Fault(where="naver", kind="cut")), plan.add(Fault(where="backend", kind="cut"))
    plan.take("naver.shop")
    assert [(row["id"], row["hits"]) for row in plan.listing()] == [(first, 1), (second, 0)]
    assert plan.clear(first) == 1
    assert [row["id"] for row in plan.listing()] == [second]
    assert plan.clear() == 1
    assert plan.take("backend") is None
