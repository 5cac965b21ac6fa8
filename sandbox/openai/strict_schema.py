"""The part of JSON Schema that structured outputs take with `strict: true`, and the refusal of all the rest.

After OpenAI's guide "Structured Outputs", section "Supported schemas": every object closed, every property required,
few keywords, and limits on size.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from sandbox.openai.errors import ApiError

Schema = dict[str, Any]
_TYPES = frozenset({"string", "number", "boolean", "integer", "object", "array", "null"})
_COMMON = frozenset({"type", "title", "description", "enum", "const", "anyOf", "$ref", "$defs", "definitions"})
_BY_TYPE = {
    "string": frozenset({"pattern", "format"}),
    "number": frozenset({"multipleOf", "maximum", "exclusiveMaximum", "minimum", "exclusiveMinimum"}),
    "integer": frozenset({"multipleOf", "maximum", "exclusiveMaximum", "minimum", "exclusiveMinimum"}),
    "array": frozenset({"items", "minItems", "maxItems"}),
    "object": frozenset({"properties", "required", "additionalProperties"}),
}
FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"})
_MAX_DEPTH = 10
_MAX_PROPERTIES = 5000
_MAX_ENUM = 1000
_MAX_TEXT = 120_000
_MAX_LEVELS = 100  # of JSON, far beyond what ten nested objects need; keeps the walk from exhausting the stack


def check_strict(name: str, root: Schema) -> None:
    """Raises ApiError naming the place and the rule, as the real service does."""
    _Walk(name, root).run()


def resolve(root: Schema, ref: object) -> Schema | None:
    """What a local `$ref` points to; None when it points nowhere."""
    if not isinstance(ref, str) or not ref.startswith("#"):
        return None
    here: object = root
    for step in ref[1:].strip("/").split("/") if ref != "#" else []:
        here = here.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(here, dict) else None
    return here if isinstance(here, dict) else None


class _Walk:
    def __init__(self, name: str, root: Schema) -> None:
        self._name = name
        self._root = root
        self._properties = 0
        self._enums = 0
        self._text = 0

    def run(self) -> None:
        if self._root.get("type") != "object" or "anyOf" in self._root:
            raise self._wrong((), "schema must be of type 'object', without 'anyOf', at its root")
        self._schema({k: v for k, v in self._root.items() if k != "$schema"}, (), 0)
        for count, most, what in (
            (self._properties, _MAX_PROPERTIES, "object properties"),
            (self._enums, _MAX_ENUM, "enum values"),
            (self._text, _MAX_TEXT, "characters in names and enum values"),
        ):
            if count > most:
                raise self._wrong((), f"schema has {count} {what}, more than {most}")

    def _wrong(self, path: tuple[str, ...], why: str) -> ApiError:
        context = "(" + ", ".join(f"'{step}'" for step in path) + ("," if len(path) == 1 else "") + ")"
        return ApiError(
            f"Invalid schema for response_format '{self._name}': In context={context}, {why}.", param="response_format"
        )

    def _schema(self, schema: object, path: tuple[str, ...], depth: int) -> None:
        if not isinstance(schema, dict):
            raise self._wrong(path, "schema must be an object")
        if len(path) > _MAX_LEVELS or depth > _MAX_DEPTH:
            raise self._wrong(path[:6], f"schema is nested deeper than {_MAX_DEPTH} levels")
        if "$ref" in schema:
            if others := sorted(set(schema) - {"$ref", "$defs", "definitions"}):
                raise self._wrong(path, f"$ref cannot have the keywords {others} beside it")
            if resolve(self._root, schema["$ref"]) is None:
                raise self._wrong(path, f"reference {schema['$ref']!r} points nowhere in this schema")
        else:
            self._keywords(schema, path)
        for keyword, below in _definitions(schema):
            self._text += len(below[0])
            self._schema(below[1], (*path, keyword, below[0]), 0)
        self._values(schema, path)
        if "properties" in schema or "object" in _types(schema):
            self._object(schema, path, depth)
        if "array" in _types(schema):
            if "items" not in schema:
                raise self._wrong(path, "array schema missing items")
            self._schema(schema["items"], (*path, "items"), depth)
        for i, branch in enumerate(self._branches(schema, path)):
            self._schema(branch, (*path, "anyOf", str(i)), depth)

    def _keywords(self, schema: Schema, path: tuple[str, ...]) -> None:
        types = _types(schema)
        if not types and "anyOf" not in schema:
            raise self._wrong(path, "schema must have a 'type' key")
        if unknown := [t for t in types if t not in _TYPES]:
            raise self._wrong(path, f"{unknown[0]!r} is not a type")
        allowed = _COMMON.union(*(_BY_TYPE.get(t, frozenset()) for t in types))
        for keyword in schema:
            if keyword not in allowed:
                raise self._wrong(path, f"'{keyword}' is not permitted")
        if "format" in schema and str(schema["format"]) not in FORMATS:
            raise self._wrong(path, f"{schema['format']!r} is not a supported format")
        for keyword, value in schema.items():
            if keyword in {"minItems", "maxItems"} and not _whole(value):
                raise self._wrong(path, f"'{keyword}' must be a whole number of 0 or more")
            if keyword in _BY_TYPE["number"] and (isinstance(value, bool) or not isinstance(value, int | float)):
                raise self._wrong(path, f"'{keyword}' must be a number")
        if "pattern" in schema and not _compiles(schema["pattern"]):
            raise self._wrong(path, "'pattern' is not a regular expression")

    def _values(self, schema: Schema, path: tuple[str, ...]) -> None:
        values = schema.get("enum", [])
        if not isinstance(values, list) or ("enum" in schema and not values):
            raise self._wrong(path, "'enum' must be an array with values")
        self._enums += len(values)
        self._text += sum(len(value) for value in [*values, schema.get("const")] if isinstance(value, str))

    def _object(self, schema: Schema, path: tuple[str, ...], depth: int) -> None:
        if schema.get("additionalProperties") is not False:
            raise self._wrong(path, "'additionalProperties' is required to be supplied and to be false")
        properties, required = schema.get("properties", {}), schema.get("required", [])
        if not isinstance(properties, dict) or not _texts(required):
            raise self._wrong(path, "'properties' must be an object and 'required' an array of names")
        if missing := [key for key in properties if key not in required]:
            raise self._wrong(path, f"'required' must hold every key in properties. Missing '{missing[0]}'")
        if extra := [key for key in required if key not in properties]:
            raise self._wrong(path, f"extra required key '{extra[0]}' supplied")
        self._properties += len(properties)
        for key, value in properties.items():
            self._text += len(key)
            self._schema(value, (*path, "properties", key), depth + 1)

    def _branches(self, schema: Schema, path: tuple[str, ...]) -> list[object]:
        branches = schema.get("anyOf", [])
        if not isinstance(branches, list) or ("anyOf" in schema and not branches):
            raise self._wrong(path, "'anyOf' must be an array with schemas")
        return branches


def _types(schema: Schema) -> list[str]:
    types = schema.get("type", [])
    return [str(t) for t in types] if isinstance(types, list) else [str(types)]


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _compiles(pattern: object) -> bool:
    try:
        return isinstance(pattern, str) and bool(re.compile(pattern))
    except re.error:
        return False


def _definitions(schema: Schema) -> Iterator[tuple[str, tuple[str, object]]]:
    for keyword in ("$defs", "definitions"):
        found = schema.get(keyword)
        if isinstance(found, dict):
            for name, below in found.items():
                yield keyword, (name, below)
