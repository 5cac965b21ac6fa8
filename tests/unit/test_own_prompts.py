"""The prompts for our own model: the style always, the description as far as the text encoder reads."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deskterior.makeover.prompts import PromptsError
from deskterior.makeover.prompts.own import MAX_TOKENS, OwnPrompts, tokens
from deskterior.schemas import Concept, Description

PROMPTS = OwnPrompts.load()
LONG = "A wide oak desk beneath a window, seen from standing height, with a monitor on the left. " * 20


def told(prompt: str) -> Description:
    return Description(prompt=prompt, keywords=["기계식 키보드"], tags=["따뜻한"], mood="차분한 오후")


@pytest.mark.parametrize("concept", Concept)
def test_each_concept_has_a_style_of_its_own_that_leaves_room_to_describe(concept: Concept) -> None:
    style = PROMPTS.render(concept, told(""))
    assert style
    assert not style.endswith(",")
    assert tokens(style) < MAX_TOKENS - 25
    assert len({PROMPTS.render(one, told("")) for one in Concept}) == len(Concept)


def test_a_long_description_is_cut_between_words_and_the_style_stays() -> None:
    prompt = PROMPTS.render(Concept.OIL, told(LONG))
    style = PROMPTS.render(Concept.OIL, told(""))
    assert prompt.startswith(style)
    rest = prompt.removeprefix(style).lstrip(", ")
    assert LONG.startswith(rest)
    assert LONG[len(rest)] in " ,."
    assert len(rest.split()) > 20


def test_what_is_korean_is_left_out() -> None:
    assert PROMPTS.render(Concept.OIL, told("나무 책상 위에 모니터와 키보드가 있다")) == PROMPTS.render(
        Concept.OIL, told("")
    )
    assert "차분한" not in PROMPTS.render(Concept.OIL, told(LONG))
    assert "a desk with a 'LED 스탠드'" in PROMPTS.render(
        Concept.OIL, told("a desk with a 'LED 스탠드' and much more on it")
    )


@given(st.text(max_size=2000), st.sampled_from(Concept))
def test_no_description_makes_a_prompt_too_long_or_loses_the_style(text: str, concept: Concept) -> None:
    prompt = PROMPTS.render(concept, told(text))
    assert prompt.startswith(PROMPTS.render(concept, told("")))
    assert tokens(prompt) <= MAX_TOKENS
    prompt.encode()


def test_dollars_and_placeholders_in_a_description_are_text() -> None:
    assert "$style costs $5" in PROMPTS.render(Concept.BASIC, told("$style costs $5"))


def test_a_changed_text_changes_the_version(tmp_path: Path) -> None:
    for concept in Concept:
        (tmp_path / "x").mkdir(exist_ok=True)
        (tmp_path / "x" / f"{concept.value}.md").write_text(f"{concept} of a desk, $description")
    first = OwnPrompts.load("x", tmp_path)
    (tmp_path / "x" / "OIL.md").write_text("oil, $description")
    assert OwnPrompts.load("x", tmp_path).version != first.version
    (tmp_path / "x" / "OIL.md").write_text("oil, $descriptoin")
    with pytest.raises(PromptsError, match="OIL"):
        OwnPrompts.load("x", tmp_path)
