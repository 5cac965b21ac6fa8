"""The wire contract as pydantic models: what goes in and out over HTTP, field by field."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue

PhotoUrl = Annotated[
    str,
    Field(
        min_length=1,
        max_length=4096,
        description="Address of the photo, http or https. It is echoed byte for byte.",
        examples=["https://example.com/desk.jpg"],
    ),
]


def _integral(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[int, Field(strict=True), BeforeValidator(_integral)]
"""What JSON Schema calls an integer: 5.0 is one; "5" and true are none."""

_MOUSE: JsonValue = {
    "title": "앱코 무소음 무선 마우스",
    "price": "21990",
    "mall": "네이버",
    "link": "https://search.shopping.naver.com/catalog/1",
    "image": "https://shopping-phinf.pstatic.net/main_1/1.jpg",
    "main_category": "마우스",
    "sub_category": "유선마우스",
}
"""A product as the documentation shows one."""


def _example(**fields: JsonValue) -> ConfigDict:
    """What the documentation shows of a model.

    `app` makes it the `examples` of OpenAPI 3.1, a word on which `bentoml build` 1.4.39 dies.
    """
    return ConfigDict(json_schema_extra={"example": fields})


class Concept(StrEnum):
    """The style that a desk is made over in."""

    BASIC = "BASIC"
    CARTOON = "CARTOON"
    SIMPLE = "SIMPLE"
    OIL = "OIL"
    MSPAINT = "MSPAINT"


class Wire(BaseModel):
    """Base of all that crosses the wire. Unknown fields of a request are let through: old servers meet new clients."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class ClassifyRequest(Wire):
    model_config = _example(initial_image_url="https://example.com/desk.jpg", concept="OIL")

    initial_image_url: PhotoUrl
    concept: Concept | None = None
    """The style for the makeover that may follow."""


class TaskStatus(Wire):
    model_config = _example(initial_image_url="https://example.com/desk.jpg", classify=True)

    initial_image_url: str
    classify: bool = Field(description="Whether the photo shows a desk.")


class GenerateRequest(Wire):
    model_config = _example(image_url="https://example.com/desk.jpg", concept="CARTOON")

    image_url: PhotoUrl
    concept: Concept = Concept.BASIC


class Description(Wire):
    """What the vision model says of a desk."""

    model_config = _example(
        prompt="The same desk with a walnut top, warm lamp light and a plant beside the monitor",
        keywords=["마우스", "모니터 조명"],
        tags=["warm", "minimal"],
        mood="calm",
    )

    prompt: str
    keywords: list[str]
    tags: list[str]
    mood: str


class ProductDetail(Wire):
    title: str
    price: str = Field(pattern=r"^[0-9]+$", description="In won, digits alone.")
    mall: str
    link: str
    image: str
    main_category: str
    sub_category: str


class Product(Wire):
    keyword: str
    details: list[ProductDetail]


class PromptResponse(Wire):
    model_config = _example(
        initial_image_url="https://example.com/desk.jpg",
        processed_image_url="https://example.com/files/results/1.png",
        products=[{"keyword": "마우스", "details": [_MOUSE]}],
    )

    initial_image_url: str
    processed_image_url: str
    products: list[Product]


class FieldError(Wire):
    field: str
    message: str


class Problem(Wire):
    """An error (RFC 9457, `application/problem+json`)."""

    model_config = _example(
        type="/problems/photo-unreachable",
        title="The photo could not be fetched",
        status=422,
        detail="The photo's host answered 404 where 200 was expected",
        request_id="5be7465c18c74e859e3e514e7fc2ed3a",
    )

    type: str = Field(examples=["/problems/photo-unreadable"])
    title: str
    status: int
    detail: str
    request_id: str | None = None
    errors: list[FieldError] | None = Field(default=None, exclude_if=lambda errors: errors is None)


class CostItem(Wire):
    what: str
    model: str
    units: dict[str, float]
    usd: float


class Cost(Wire):
    currency: Literal["USD"] = "USD"
    total: float = 0.0
    items: list[CostItem] = []


class CallbackState(Wire):
    status: Literal["none", "pending", "delivered", "failed"] = "none"
    attempts: int = 0
    last_error: str | None = None


TaskState = Literal["queued", "running", "succeeded", "failed", "cancelled"]
Stage = Literal["describe", "render", "shop", "publish", "notify"]


class Task(Wire):
    id: str
    kind: Literal["v1", "v2"]
    status: TaskState
    stage: Stage | None = None
    progress: float = Field(ge=0, le=1)
    initial_image_url: str
    concept: Concept
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    attempts: int = 0
    result: PromptResponse | None = None
    error: Problem | None = None
    cost: Cost = Cost()
    callback: CallbackState = CallbackState()
    prompt_version: str | None = None
    """Which version of the prompts described and drew it."""
    warnings: list[str] = []
    """What went less well than it should, though the task went on: products that could not be searched, say."""


class TaskPage(Wire):
    tasks: list[Task]
    next_cursor: str | None = None


class UploadRequest(Wire):
    content_type: Literal["image/jpeg", "image/png", "image/webp", "image/heic"]
    size: Whole = Field(gt=0, description="Bytes.")


class Upload(Wire):
    upload_url: str
    method: Literal["PUT"] = "PUT"
    headers: dict[str, str]
    image_url: str
    expires_at: datetime


class Health(Wire):
    status: Literal["healthy", "unhealthy"]
    checks: dict[str, str]


class ModelCard(Wire):
    """A model that is served."""

    name: str
    version: str
    digest: str
    resolution: int = Field(description="Side of the square that the model sees, in pixels.")
    threshold: float = Field(description="Score from which a photo is a desk.")
    metrics: dict[str, JsonValue] = Field(description="Out-of-fold figures of its training report, as it names them.")


class DrawingVersion(Wire):
    """A checkpoint of the drawing model that is installed."""

    version: str
    active: bool
    digest: str
    family: str
    """The diffusers pipeline that draws with it."""
    loras: list[str]
    """Concepts that have an adapter of their own."""
    problem: str = Field(description="Why it cannot be used; empty when it can.")


class DrawingModel(Wire):
    """Our own drawing model, which `/v2/generate` draws with; `versions` is empty where none is installed."""

    device: str
    versions: list[DrawingVersion]
    problem: str = Field(default="", description="Why nothing can be told of it; empty when something is.")


class Provider(Wire):
    """An outside service, and whether a stand-in answers for it."""

    address: str
    model: str | None = None
    sandbox: bool


class Limits(Wire):
    photo_max_bytes: int
    photo_max_pixels: int
    body_max_bytes: int
    body_max_depth: int = Field(description="How deep its JSON may nest.")
    header_max_bytes: int = Field(description="Of the address and all headers together.")
    max_concurrency: int
    key_requests_per_minute: int = Field(description="By one key that has no limit of its own; 0 is no limit.")
    key_generates_per_minute: int = Field(description="Of them, makeovers, prompts and retries; 0 is no limit.")
    address_requests_per_minute: int = Field(description="Without a key, by one address; 0 is no limit.")
    key_tasks_waiting: int = Field(description="Tasks of one key that may wait for a place; 0 is no limit.")


class Info(Wire):
    version: str
    env: Literal["development", "production"]
    device: str = Field(description="What the classifier runs on.", examples=["cpu", "cuda:0 NVIDIA L4"])
    model: ModelCard
    drawing: DrawingModel | None = None
    providers: dict[str, Provider]
    limits: Limits
