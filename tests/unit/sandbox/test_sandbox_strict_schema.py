"""The schemas that structured outputs take, and those that they refuse."""

from __future__ import annotations

from typing import Any

import pytest
from openai.lib._pydantic import to_strict_json_schema
from pydantic import BaseModel, Field

from sandbox.openai.errors import ApiError
from sandbox.openai.strict_schema import check_strict


def closed(**properties: object) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


class Node(BaseModel):
    name: str
    children: list[Node]


class Kept(BaseModel):
    prompt: str = Field(description="what to draw")
    keywords: list[str] = Field(min_length=3, max_length=8)
    score: float | None
    node: Node


def test_what_the_sdk_makes_of_a_pydantic_model_is_taken() -> None:
    check_strict("Kept", to_strict_json_schema(Kept))


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ({"type": "array", "items": {"type": "string"}}, "at its root"),
        ({"anyOf": [closed()]}, "at its root"),
        ({"type": "object", "properties": {}, "required": []}, "additionalProperties"),
        (closed(a={"type": "string"}) | {"additionalProperties": True}, "additionalProperties"),
        (closed(a={"type": "string"}) | {"additionalProperties": {"type": "string"}}, "additionalProperties"),
        (closed(a={"type": "string"}) | {"required": []}, "Missing 'a'"),
        (closed(a={"type": "string"}) | {"required": ["a", "b"]}, "extra required key 'b'"),
        (closed(a={"type": "string"}) | {"required": ["a", ["b"]]}, "array of names"),
        (closed(a={"type": "string", "format": ["date"]}), "not a supported format"),
        (closed(a={"type": {"$ref": "#"}}), "is not a type"),
        (closed(a={"type": "string", "minLength": 1}), "('properties', 'a'), 'minLength' is not permitted"),
        (closed(a={"type": "string", "maxLength": 9}), "'maxLength' is not permitted"),
        (closed(a={"type": "string", "default": "x"}), "'default' is not permitted"),
        (closed(a={"type": "string", "format": "uri"}), "'uri' is not a supported format"),
        (closed(a={"type": "string", "pattern": "("}), "regular expression"),
        (closed(a={"type": "string", "minimum": 1}), "'minimum' is not permitted"),
        (closed(a={"type": "integer", "minimum": "1"}), "must be a number"),
        (closed(a={"type": "array", "items": {"type": "string"}, "uniqueItems": True}), "'uniqueItems'"),
        (closed(a={"type": "array", "items": {"type": "string"}, "minItems": -1}), "'minItems'"),
        (closed(a={"type": "array"}), "missing items"),
        (closed(a={"allOf": [{"type": "string"}]}), "must have a 'type'"),
        (closed(a={"oneOf": [{"type": "string"}]}), "must have a 'type'"),
        (closed(a={"type": "string", "not": {}}), "'not' is not permitted"),
        (closed(a={"type": "text"}), "'text' is not a type"),
        (closed(a={}), "must have a 'type'"),
        (closed(a=True), "must be an object"),
        (closed(a={"type": "string", "enum": []}), "'enum'"),
        (closed(a={"anyOf": []}), "'anyOf'"),
        (closed(a={"$ref": "#/$defs/nowhere"}), "points nowhere"),
        (closed(a={"$ref": "#/$defs/b", "description": "x"}) | {"$defs": {"b": {"type": "string"}}}, "beside it"),
        (closed(a={"$ref": "#/$defs/b"}) | {"$defs": {"b": {"type": "object"}}}, "additionalProperties"),
        (closed(a={"type": "string", "enum": [str(i) for i in range(1001)]}), "enum values"),
        (closed(**{f"p{i}": {"type": "string"} for i in range(5001)}), "object properties"),
        (closed(**{"x" * 120_001: {"type": "string"}}), "characters"),
    ],
)
def test_what_the_guide_does_not_list_is_refused(schema: dict[str, Any], told: str) -> None:
    with pytest.raises(ApiError) as refused:
        check_strict("Desk", schema)
    assert told in refused.value.message
    assert refused.value.message.startswith("Invalid schema for response_format 'Desk'")
    assert refused.value.param == "response_format"


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = closed(below=schema)
    return schema


def test_ten_levels_of_objects_are_taken_and_eleven_are_not() -> None:
    check_strict("Deep", nested(10))
    with pytest.raises(ApiError, match="deeper"):
        check_strict("Deep", nested(11))


def test_a_schema_of_absurd_depth_is_refused_and_breaks_nothing() -> None:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(900):
        schema = {"type": "array", "items": schema}
    with pytest.raises(ApiError, match="deeper"):
        check_strict("Deep", closed(a=schema))
