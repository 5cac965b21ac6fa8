"""A running sandbox with the real clients for it, and what the tests ask it."""

from __future__ import annotations

import base64
import io
from typing import Any

import httpx
from openai import OpenAI
from openai.types import ImagesResponse
from PIL import Image
from pydantic import BaseModel
from starlette.applications import Starlette

from sandbox.drawing.scene import scene
from sandbox.state import Latency, Options, Sandbox
from tests.photographs import encoded

FAST = Options(latency=Latency.parse("0"))
PHOTO = encoded(scene("desk").resize((320, 320)))
DATA_URL = "data:image/jpeg;base64," + base64.b64encode(PHOTO).decode()
NEW = "gpt-image-2.6-sunburst"
NAVER = {"X-Naver-Client-Id": "id", "X-Naver-Client-Secret": "secret"}
SEARCH = "/naver/v1/search/shop.json"


class Desk(BaseModel):
    prompt: str
    keywords: list[str]
    tags: list[str]
    mood: str


class Stand:
    """A running sandbox with clients for it."""

    def __init__(self, url: str, app: Starlette) -> None:
        self.url = url
        self.state: Sandbox = app.state.sandbox
        self.http = httpx.Client(base_url=url, trust_env=False, timeout=20)
        self.openai = OpenAI(api_key="sk-test", base_url=f"{url}/openai/v1", max_retries=0, timeout=20)

    def fails(self, where: str, kind: str, **more: object) -> None:
        answer = self.http.post("/faults", json={"where": where, "kind": kind, **more})
        assert answer.status_code == 201, answer.text

    def post(self, path: str, body: object) -> httpx.Response:
        return self.http.post(f"/openai/v1{path}", json=body, headers={"Authorization": "Bearer sk-test"})

    def close(self) -> None:
        self.http.close()
        self.openai.close()


def look(text: str = "Cartoon: plan a makeover") -> list[Any]:
    parts = [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": DATA_URL, "detail": "high"}}]
    return [{"role": "system", "content": "You are a stylist."}, {"role": "user", "content": parts}]


def exact(model: type[BaseModel], raw: object) -> None:
    """The raw JSON is of the SDK's type, strictly, and has no field that the SDK does not know."""
    whole = model.model_validate(raw, strict=False)
    _no_extras(whole, model.__name__)


def _no_extras(value: object, where: str) -> None:
    if isinstance(value, BaseModel):
        assert not value.model_extra, f"{where}: {value.model_extra}"
        for name in type(value).model_fields:
            _no_extras(getattr(value, name), f"{where}.{name}")
    elif isinstance(value, list):
        for i, item in enumerate(value):
            _no_extras(item, f"{where}[{i}]")


def opened(text: str | None) -> Image.Image:
    image = Image.open(io.BytesIO(base64.b64decode(text or "", validate=True)))
    image.load()
    return image


def draw(stand: Stand, **more: Any) -> ImagesResponse:
    """A small edit; `more` goes to the SDK."""
    answer: ImagesResponse = stand.openai.images.edit(
        model=NEW, image=("a.jpg", PHOTO, "image/jpeg"), prompt="Oil: desk", size="256x256", **more
    )
    return answer
