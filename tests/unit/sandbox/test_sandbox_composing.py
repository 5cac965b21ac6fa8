"""What the stand-in says conforms to the schema that it was asked for."""

from __future__ import annotations

import re
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.drawing.styles import Style, detect
from sandbox.naver.catalogue import search
from sandbox.openai.composing import KEYWORDS, describe, fill
from sandbox.openai.errors import ApiError
from sandbox.openai.patterns import matching
from sandbox.openai.strict_schema import FORMATS, check_strict

DESK = describe("a desk", [b"photo"])


def closed(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def bounds(kind: str) -> st.SearchStrategy[dict[str, Any]]:
    low, high = st.integers(-50, 50), st.integers(51, 200)
    return st.fixed_dictionaries({"type": st.just(kind)}, optional={"minimum": low, "maximum": high})


leaves = st.one_of(
    st.just({"type": "string"}),
    st.just({"type": "boolean"}),
    st.just({"type": ["string", "null"]}),
    st.just({"type": "string", "enum": ["가", "나"]}),
    st.just({"type": "integer", "exclusiveMinimum": 3, "exclusiveMaximum": 5}),
    st.just({"type": "number", "multipleOf": 0.25, "minimum": 0.3}),
    st.just({"type": "integer", "multipleOf": 7, "minimum": 8}),
    st.sampled_from([{"type": "string", "format": f} for f in sorted(FORMATS)]),
    st.sampled_from(
        [{"type": "string", "pattern": p} for p in (r"^#[0-9a-f]{6}$", r"^\d{4}-\d{2}$", r"^(a|b)+c?[^x]$")]
    ),
    bounds("integer"),
    bounds("number"),
)
names = st.sampled_from(["prompt", "keywords", "tags", "mood", "score", "colour", "items", "desc", "nested"])
schemas = st.recursive(
    leaves,
    lambda below: st.one_of(
        st.dictionaries(names, below, max_size=4).map(closed),
        st.builds(
            lambda items, least, more: {"type": "array", "items": items, "minItems": least, "maxItems": least + more},
            below,
            st.integers(0, 4),
            st.integers(0, 4),
        ),
        st.lists(below, min_size=1, max_size=3).map(lambda branches: {"anyOf": branches}),
    ),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(names, schemas, max_size=5).map(closed))
def test_the_answer_conforms_to_any_strict_schema(schema: dict[str, Any]) -> None:
    check_strict("Any", schema)
    jsonschema.validate(fill(schema, DESK), schema, jsonschema.Draft202012Validator)


def test_known_fields_are_filled_with_the_description() -> None:
    texts = {"type": "string"}
    lists = {"type": "array", "items": texts}
    answer = fill(closed({"prompt": texts, "keywords": lists, "tags": lists, "mood": texts}), DESK)
    assert answer == {
        "prompt": DESK.prompt,
        "keywords": list(DESK.keywords),
        "tags": list(DESK.tags),
        "mood": DESK.mood,
    }


def test_a_recursive_schema_ends() -> None:
    node = closed({"name": {"type": "string"}, "children": {"type": "array", "items": {"$ref": "#/$defs/node"}}})
    schema = closed({"root": {"$ref": "#/$defs/node"}}) | {"$defs": {"node": node}}
    jsonschema.validate(fill(schema, DESK), schema)


@pytest.mark.parametrize(
    "schema",
    [
        closed({"a": {"$ref": "#"}}),
        closed({"a": {"type": "array", "items": {"type": "integer"}, "minItems": 10**9}}),
        closed({"keywords": {"type": "array", "items": {"type": "string"}, "minItems": 10**9}}),
        {"type": "object", "properties": [1]},
        {"type": {"a": 1}},
        {"type": "integer", "minimum": "x"},
    ],
)
def test_a_schema_that_cannot_be_answered_is_a_named_error(schema: dict[str, Any]) -> None:
    with pytest.raises(ApiError):
        fill(schema, DESK)


@given(st.text(max_size=200))
def test_every_keyword_it_names_is_in_the_catalogue(text: str) -> None:
    keywords = describe(text, [text.encode("utf-8", "replace")]).keywords
    assert len(set(keywords)) == len(keywords) >= 3


@pytest.mark.parametrize("keyword", KEYWORDS)
def test_each_keyword_finds_products_that_are_new(keyword: str) -> None:
    exclude = frozenset({"used", "rental", "cbshop"})
    assert len(search(keyword, exclude=exclude, only=frozenset(), sort="sim")) >= 2


@pytest.mark.parametrize("style", list(Style))
def test_the_description_keeps_the_style_it_was_asked_for(style: Style) -> None:
    heading = {Style.MSPAINT: "Paint"}.get(style, style.value.title())
    assert detect(describe(f"Plan a makeover.\n{heading}: of this desk", [b"x"]).prompt) is style


@pytest.mark.parametrize(
    "pattern",
    [r"^[가-힣]{2,5}$", r"^\w+@\w+\.com$", r"^(?:red|blue)\s\d$", r"^[^\d\s]x?$", r"a.b", r"^\d{3,}$", r"^desk \.$"],
)
def test_a_made_string_matches_its_pattern(pattern: str) -> None:
    assert re.search(pattern, matching(pattern, ("따뜻한 분위기", "desk")))
