"""What the stand-in for the vision model says: a plausible description of a desk, in whatever schema was asked for.

The same photo and the same words give the same answer.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from sandbox.drawing.styles import Style, detect
from sandbox.openai.errors import ApiError
from sandbox.openai.patterns import matching
from sandbox.openai.strict_schema import Schema, resolve

KEYWORDS = (
    "마우스", "키보드", "모니터", "데스크 조명", "책상", "의자", "데스크매트", "화분", "모니터암", "스피커", "정리함",
    "탁상시계", "헤드셋", "노트북 거치대", "액자", "러그", "머그컵", "캘린더", "멀티탭", "웹캠",
)  # fmt: skip
_TAGS = {
    Style.BASIC: ("따뜻한 조명", "우드톤", "홈오피스", "데스크테리어"),
    Style.CARTOON: ("카툰", "선명한 색감", "굵은 윤곽선", "데스크테리어"),
    Style.SIMPLE: ("미니멀", "화이트톤", "여백", "데스크테리어"),
    Style.OIL: ("유화", "붓터치", "클래식", "데스크테리어"),
    Style.MSPAINT: ("그림판", "레트로", "원색", "데스크테리어"),
}
_MOODS = {
    Style.BASIC: "따뜻하고 아늑한 분위기",
    Style.CARTOON: "밝고 유쾌한 분위기",
    Style.SIMPLE: "깔끔하고 차분한 분위기",
    Style.OIL: "깊이 있고 고전적인 분위기",
    Style.MSPAINT: "장난스럽고 복고적인 분위기",
}
_LEADS = {
    Style.BASIC: "A warm, inviting photograph of",
    Style.CARTOON: "A cartoon illustration with bold outlines of",
    Style.SIMPLE: "A minimal, uncluttered and bright picture of",
    Style.OIL: "An oil painting with visible brush strokes of",
    Style.MSPAINT: "A naive MS Paint drawing in a few flat colours of",
}
_SCENES = ("a wooden desk by the window", "a tidy white desk against a plain wall", "a corner desk with a monitor")
_EXTRAS = ("a small potted plant", "a warm desk lamp", "a soft desk mat", "a slim monitor arm", "a ceramic mug")
_BY_FORMAT = {
    "date-time": "2026-01-01T09:00:00Z",
    "time": "09:00:00Z",
    "date": "2026-01-01",
    "duration": "P1D",
    "email": "desk@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uuid": "00000000-0000-4000-8000-000000000000",
}
_MAX_ITEMS = 5
_MAX_VALUES = 20_000
_MAX_DEPTH = 60


@dataclass(frozen=True)
class Description:
    """What is said of one desk."""

    prompt: str
    keywords: tuple[str, ...]
    tags: tuple[str, ...]
    mood: str

    def sentence(self) -> str:
        return f"{self.prompt} {self.mood}. {', '.join(self.keywords)}."


def describe(text: str, pictures: Sequence[bytes]) -> Description:
    """Look at the words and the pictures; `text` gives the style, the digest of all of it the rest."""
    style = detect(text)
    digest = hashlib.sha256(text.encode() if not pictures else b"".join(pictures)).digest()
    first = digest[0] % len(KEYWORDS)
    keywords = tuple(KEYWORDS[(first + i * 7) % len(KEYWORDS)] for i in range(_MAX_ITEMS))
    scene, extra = _SCENES[digest[1] % len(_SCENES)], _EXTRAS[digest[2] % len(_EXTRAS)]
    prompt = f"{_LEADS[style]} {scene}, seen from the same angle, with {extra} and {_EXTRAS[(digest[2] + 2) % 5]}."
    return Description(prompt, keywords, _TAGS[style], _MOODS[style])


def fill(root: Schema, description: Description) -> Any:
    """A value that conforms to the schema: known field names get the description, the others something of their type.

    Raises ApiError for a schema that has no end, or no answer of a sane size.
    """
    try:
        return _Composer(root, description).value(root, "", 0)
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError, OverflowError):
        # Only without `strict`: a strict schema was checked before.
        raise ApiError("Invalid schema for response_format: it cannot be followed.", param="response_format") from None


class _Composer:
    def __init__(self, root: Schema, description: Description) -> None:
        self._root = root
        self._description = description
        self._values = 0

    def value(self, schema: Schema, name: str, depth: int) -> Any:
        self._values += 1
        if self._values > _MAX_VALUES or depth > _MAX_DEPTH:
            raise ApiError("The schema asks for more than one answer can hold.", param="response_format")
        if "$ref" in schema:
            return self.value(resolve(self._root, schema["$ref"]) or {}, name, depth + 1)
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return schema["enum"][0]
        if schema.get("anyOf"):
            return self.value(self._branch(schema["anyOf"], depth), name, depth + 1)
        types = schema.get("type", "string")
        kind = types if isinstance(types, str) else next((t for t in types if t != "null"), "null")
        make = cast(
            "Callable[[Schema, str, int], Any] | None",
            {"object": self._object, "array": self._array, "string": self._string}.get(kind),
        )
        if make is not None:
            return make(schema, name, depth)
        if kind in {"number", "integer"}:
            return _number(schema, kind)
        return {"boolean": True, "null": None}[kind]

    def _branch(self, branches: list[Schema], depth: int) -> Schema:
        """The first branch that says something; once deep, one that ends: a recursive schema must stop somewhere."""
        said = [branch for branch in branches if branch.get("type") != "null"] or branches
        if depth > 8:
            ends = [b for b in branches if b.get("type") not in {"object", "array"} and "$ref" not in b]
            return (ends or branches)[0]
        return said[0]

    def _object(self, schema: Schema, _name: str, depth: int) -> dict[str, Any]:
        return {key: self.value(below, key, depth + 1) for key, below in schema.get("properties", {}).items()}

    def _array(self, schema: Schema, name: str, depth: int) -> list[Any]:
        least, most = schema.get("minItems", 0), schema.get("maxItems", math.inf)
        items = schema.get("items", {"type": "string"})
        if least > _MAX_VALUES:
            raise ApiError("The schema asks for more than one answer can hold.", param="response_format")
        known = self._list(name) if _plain(items) else None
        if known is not None:
            said = list(known[: int(min(most, len(known)))])
            return said + [f"{known[i % len(known)]} {i}" for i in range(len(said), least)]
        wanted = least if depth > 8 else max(least, min(2, most))
        return [self.value(items, name, depth + 1) for _ in range(int(wanted))]

    def _list(self, name: str) -> tuple[str, ...] | None:
        low = name.lower()
        if "keyword" in low or "product" in low or "item" in low:
            return self._description.keywords
        return self._description.tags if "tag" in low or "style" in low else None

    def _string(self, schema: Schema, name: str, _depth: int) -> str:
        low = name.lower()
        if "pattern" in schema:
            candidates = (self._description.mood, *self._description.keywords, self._description.prompt)
            return matching(schema["pattern"], candidates)
        if "format" in schema:
            return _BY_FORMAT.get(schema["format"], "desk")
        if "prompt" in low or "description" in low or "scene" in low:
            return self._description.prompt
        if "mood" in low or "atmosphere" in low:
            return self._description.mood
        if "keyword" in low:
            return self._description.keywords[0]
        return self._description.tags[0] if "tag" in low or "style" in low else f"책상 {name}".strip()


def _plain(items: Schema) -> bool:
    return items.get("type") == "string" and not {"enum", "const", "pattern", "format"} & set(items)


def _number(schema: Schema, kind: str) -> float:
    """A number within the bounds, as near to 1 as they let it be."""
    step = schema.get("multipleOf", 1 if kind == "integer" else None)
    if kind == "integer" and step is not None:
        step = max(1, int(step)) if float(step).is_integer() else 1
    grain = step or 1e-3
    low, high = schema.get("minimum", -math.inf), schema.get("maximum", math.inf)
    low = max(low, schema["exclusiveMinimum"] + grain) if "exclusiveMinimum" in schema else low
    high = min(high, schema["exclusiveMaximum"] - grain) if "exclusiveMaximum" in schema else high
    value = min(max(1, low), high)
    if step:
        value = math.ceil(value / step) * step
        value = value - step if value > high else value
    return int(value) if kind == "integer" else float(value)
