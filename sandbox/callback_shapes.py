"""The bodies that a backend accepts, nested and flat, field by field. After the wire contract."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

Shape = Literal["status", "nested", "flat"]
_HTML = re.compile(r"</?[a-zA-Z]|&(?:[a-z]{2,8}|#\d{1,6});")


def _no_html(text: str) -> str:
    if _HTML.search(text):
        raise ValueError("holds HTML")
    return text


def _address(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise ValueError("is no http(s) address")
    return text


Address = Annotated[str, AfterValidator(_address)]
PlainText = Annotated[str, AfterValidator(_no_html)]
Short = Annotated[str, Field(max_length=255)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class TaskStatus(_Strict):
    initial_image_url: str
    classify: bool


class Detail(_Strict):
    title: Annotated[PlainText, Field(min_length=1)]
    price: Annotated[str, Field(pattern=r"^[0-9]+$")]
    mall: str
    link: Address
    image: str
    main_category: str
    sub_category: str


class Product(_Strict):
    keyword: str
    details: Annotated[list[Detail], Field(min_length=1)]


class NestedResult(_Strict):
    initial_image_url: str
    processed_image_url: Address
    products: list[Product]


class FieldError(_Strict):
    field: str
    message: str


class Problem(_Strict):
    type: Annotated[str, Field(pattern=r"^/problems/[a-z0-9-]+$")]
    title: str
    status: Annotated[int, Field(ge=400, le=599)]
    detail: str
    request_id: str | None
    errors: list[FieldError] | None = None


class NestedFailure(_Strict):
    initial_image_url: str
    processed_image_url: None
    products: None
    error: Problem


class FlatProduct(_Strict):
    name: Annotated[PlainText, Field(min_length=1, max_length=255)]
    price: Annotated[int, Field(ge=0, lt=2**31)]
    purchase_place: Short
    purchase_url: Short
    image_path: Short
    main_category: Annotated[str, Field(max_length=30)]
    sub_category: Annotated[str, Field(max_length=30)]
    center_x: int | None
    center_y: int | None
    product_code: Annotated[str, Field(min_length=1, max_length=45)]


class FlatResult(_Strict):
    initial_image_url: str
    processed_image_url: Address
    products: list[FlatProduct]

    @model_validator(mode="after")
    def _distinct(self) -> FlatResult:
        codes = [product.product_code for product in self.products]
        if len(codes) != len(set(codes)):
            raise ValueError("two products have one product_code")
        return self


class FlatFailure(_Strict):
    initial_image_url: str
    processed_image_url: None
    products: Annotated[list[Any], Field(max_length=0)] | None = None
    error: Problem | None = None


_BY_SHAPE: dict[Shape, tuple[type[BaseModel], type[BaseModel]]] = {
    "nested": (NestedResult, NestedFailure),
    "flat": (FlatResult, FlatFailure),
}


class WrongShape(ValueError):
    """`errors` are lines of place and rule."""

    def __init__(self, errors: list[str]) -> None:
        super().__init__("; ".join(errors))
        self.errors = errors


def shape_of(body: object, wanted: Literal["nested", "flat"] | None) -> Shape:
    """Which shape the body has.

    Raises:
        WrongShape: none, or another than the wanted one.
    """
    if not isinstance(body, dict):
        raise WrongShape(["the body is no JSON object"])
    if "classify" in body:
        _check(TaskStatus, body)
        return "status"
    shape = wanted or _looks(body)
    done, failed = _BY_SHAPE[shape]
    _check(done if body.get("processed_image_url") is not None else failed, body)
    return shape


def _looks(body: dict[str, Any]) -> Literal["nested", "flat"]:
    products = body.get("products")
    first = products[0] if isinstance(products, list) and products else None
    return "flat" if isinstance(first, dict) and "details" not in first else "nested"


def _check(model: type[BaseModel], body: object) -> None:
    try:
        model.model_validate(body)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False, include_context=False)
        raise WrongShape([f"{'.'.join(map(str, e['loc'])) or 'body'}: {e['msg']}" for e in found]) from None
