"""Which callback bodies the stand-in for the backend takes."""

from __future__ import annotations

import copy
from typing import Any, Literal

import pytest

from sandbox.callback_shapes import WrongShape, shape_of

URL = "https://example.com/x.jpg"
PROBLEM = {"type": "/problems/provider-failed", "title": "t", "status": 502, "detail": "d", "request_id": None}
DETAIL = {
    "title": "앱코 무선 마우스",
    "price": "21990",
    "mall": "네이버",
    "link": URL,
    "image": URL,
    "main_category": "마우스",
    "sub_category": "무선마우스",
}
NESTED: dict[str, Any] = {
    "initial_image_url": "as it came",
    "processed_image_url": URL,
    "products": [{"keyword": "마우스", "details": [DETAIL]}],
}
FLAT_PRODUCT = {
    "name": "앱코 무선 마우스",
    "price": 21990,
    "purchase_place": "네이버",
    "purchase_url": URL,
    "image_path": URL,
    "main_category": "마우스",
    "sub_category": "무선마우스",
    "center_x": None,
    "center_y": 3,
    "product_code": "123",
}
FLAT: dict[str, Any] = NESTED | {"products": [FLAT_PRODUCT]}
FAILED: dict[str, Any] = {
    "initial_image_url": "x",
    "processed_image_url": None,
    "products": None,
    "error": PROBLEM,
}


@pytest.mark.parametrize(
    ("body", "wanted", "shape"),
    [
        ({"initial_image_url": "", "classify": False}, "nested", "status"),
        ({"initial_image_url": "", "classify": True}, "flat", "status"),
        (NESTED, None, "nested"),
        (NESTED, "nested", "nested"),
        (NESTED | {"products": []}, None, "nested"),
        (FLAT, None, "flat"),
        (FLAT | {"products": []}, "flat", "flat"),
        (FAILED, "nested", "nested"),
        (FAILED, "flat", "flat"),
        ({"initial_image_url": "x", "processed_image_url": None, "products": []}, "flat", "flat"),
    ],
)
def test_the_shapes_of_the_contract_are_taken(
    body: dict[str, Any], wanted: Literal["nested", "flat"] | None, shape: str
) -> None:
    assert shape_of(body, wanted) == shape


def nested(**changes: object) -> dict[str, Any]:
    body = copy.deepcopy(NESTED)
    body["products"][0]["details"][0] |= changes
    return body


def flat(**changes: object) -> dict[str, Any]:
    return FLAT | {"products": [FLAT_PRODUCT | changes]}


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        (None, None),
        ([], None),
        ({}, None),
        ({"initial_image_url": "x", "classify": "true"}, None),
        ({"initial_image_url": "x", "classify": True, "concept": "OIL"}, None),
        ({"initial_image_url": None, "classify": True}, None),
        (NESTED | {"extra": 1}, None),
        (NESTED | {"processed_image_url": "file:///x"}, None),
        (NESTED | {"error": None}, None),
        (NESTED | {"products": None}, None),
        (NESTED | {"products": [{"keyword": "마우스", "details": []}]}, None),
        (nested(title="앱코 <b>마우스</b>"), None),
        (nested(title="A &amp; B"), None),
        (nested(title=""), None),
        (nested(price=21990), None),
        (nested(price="21,990"), None),
        (nested(price=""), None),
        (nested(main_category=None), None),
        (nested(link="/relative"), None),
        (NESTED, "flat"),
        (FLAT, "nested"),
        (FAILED | {"error": None}, "nested"),
        ({"initial_image_url": "x", "processed_image_url": None, "products": None}, "nested"),
        (FAILED | {"products": []}, "nested"),
        (FAILED | {"error": PROBLEM | {"type": "about:blank"}}, "nested"),
        (flat(price="21990"), None),
        (flat(price=True), None),
        (flat(price=2**31), None),
        (flat(price=-1), None),
        (flat(name="가" * 256), None),
        (flat(purchase_url="https://" + "x" * 250), None),
        (flat(main_category="가" * 31), None),
        (flat(sub_category="가" * 31), None),
        (flat(product_code="1" * 46), None),
        (flat(product_code=""), None),
        (flat(center_x="3"), None),
        (FLAT | {"products": [FLAT_PRODUCT, FLAT_PRODUCT | {"name": "other"}]}, None),
    ],
)
def test_anything_else_is_refused(body: object, wanted: Literal["nested", "flat"] | None) -> None:
    with pytest.raises(WrongShape) as refused:
        shape_of(body, wanted)
    assert refused.value.errors
