"""The real providers against the strict sandbox: nothing that it refuses is sent, and no fault costs twice."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from PIL import Image

from deskterior.config import Settings
from deskterior.errors import ProviderError, ProviderFailed, ProviderRefused, ProviderTimeout
from deskterior.makeover.prompts import Prompts
from deskterior.providers.models import known_models
from deskterior.providers.selection import Providers, providers
from deskterior.schemas import Concept
from sandbox.app import create_app
from sandbox.faults import Fault, Kind
from sandbox.ledger import Entry
from sandbox.serving import running
from sandbox.state import Latency, Options, Sandbox

PROMPTS = Prompts.load()
LATE: dict[Kind, float] = {"hang": 60.0, "slow-drip": 60.0}
"""Faults that only a time limit ends, and how long they last."""


def photo(size: tuple[int, int] = (400, 300)) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise(size, 60).convert("RGB").save(buffer, "JPEG")
    return buffer.getvalue()


@asynccontextmanager
async def opened(
    *faults: Fault, accepts_per_second: int | None = None, **values: Any
) -> AsyncIterator[tuple[Providers, Sandbox]]:
    app = create_app(Options(latency=Latency.parse("0"), naver_per_second=accepts_per_second), faults)
    async with running(app) as url:
        settings = Settings(_env_file=None, sandbox_url=url, **values)
        own = providers(settings, PROMPTS)
        try:
            yield own, app.state.sandbox
        finally:
            await own.aclose()


def billed(sandbox: Sandbox) -> list[Entry]:
    return [entry for entry in sandbox.ledger.entries() if entry.usd is not None]


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize("concept", list(Concept))
async def test_a_photo_becomes_a_description_a_picture_and_products(concept: Concept) -> None:
    async with opened() as (own, sandbox):
        described = await own.vision.describe(photo(), concept)
        prompt = PROMPTS.render(concept, described.description)
        drawn = await own.image.draw(prompt, photo(), concept)
        found = await own.search.find(described.description.keywords)
    with Image.open(io.BytesIO(drawn.image)) as image:
        assert image.width > image.height, "the picture has not the photo's shape"
    assert found.products
    assert found.problems == []
    for product in found.products:
        for detail in product.details:
            assert detail.price.isdigit()
            assert "<" not in detail.title
            assert "[중고]" not in detail.title
            assert None not in detail.model_dump().values()
    assert [entry.usd for entry in billed(sandbox)] == [
        pytest.approx(described.cost.usd, rel=0.01),
        pytest.approx(drawn.cost.usd, rel=0.01),
    ]


@pytest.mark.parametrize("model", [entry.name for entry in known_models().image])
async def test_every_listed_image_model_draws(model: str) -> None:
    async with opened(image_model=model, image_quality="low") as (own, sandbox):
        drawn = await own.image.draw("A desk in oil.", photo((300, 400)), Concept.OIL)
        (entry,) = billed(sandbox)
    assert entry.model == model
    assert drawn.cost.usd == pytest.approx(entry.usd, rel=0.01)


@pytest.mark.parametrize("model", ["gpt-image-2.6-flare", "gpt-image-1-mini", "dall-e-3"])
@pytest.mark.parametrize(("quality", "size"), [("hd", "1792x1024"), ("standard", "1024x1536"), ("max", "auto")])
async def test_a_wish_in_another_familys_words_is_one_that_the_model_takes(model: str, quality: str, size: str) -> None:
    async with opened(image_model=model, image_quality=quality, image_size=size) as (own, sandbox):
        await own.image.draw("A desk in oil.", photo((300, 400)), Concept.OIL)
        assert len(billed(sandbox)) == 1


@pytest.mark.parametrize(
    "model", [e.name for e in known_models().vision if e.name not in {"gpt-4o-2024-05-13"}]
)  # the first GPT-4o had no structured outputs
async def test_every_listed_vision_model_describes(model: str) -> None:
    async with opened(vision_model=model) as (own, _):
        described = await own.vision.describe(photo(), Concept.SIMPLE)
    assert described.description.keywords
    assert described.cost.model == model


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("refusal", ProviderRefused),
        ("content-policy", ProviderRefused),
        ("content-filter", ProviderRefused),
        ("length", ProviderFailed),
        ("malformed-content", ProviderFailed),
        ("schema-violation", ProviderFailed),
        ("empty", ProviderFailed),
        ("malformed-json", ProviderFailed),
        ("html", ProviderFailed),
        ("status", ProviderFailed),
        ("quota", ProviderFailed),
        ("cut", ProviderFailed),
        ("reset", ProviderFailed),
        ("hang", ProviderTimeout),
        ("slow-drip", ProviderTimeout),
    ],
)
async def test_a_fault_of_the_vision_model_has_its_name_and_is_billed_once(
    kind: Kind, error: type[ProviderError]
) -> None:
    fault = Fault(where="openai.chat", kind=kind, times=None, seconds=LATE.get(kind))
    async with opened(fault, vision_timeout_s=2.0 if kind in LATE else 60.0) as (own, sandbox):
        with pytest.raises(error) as caught:
            await own.vision.describe(photo(), Concept.BASIC)
        assert len(sandbox.ledger.entries()) <= 1
        if spent := billed(sandbox):
            assert caught.value.cost is not None, "it was billed and nothing is counted"
            assert caught.value.cost.usd >= (spent[0].usd or 0) * 0.99


@pytest.mark.parametrize("model", ["gpt-image-2.6-sunburst", "dall-e-3"])
@pytest.mark.parametrize(
    ("kind", "error", "free"),
    [
        ("content-policy", ProviderRefused, False),
        ("rate-limit", ProviderFailed, True),
        ("quota", ProviderFailed, False),
        ("status", ProviderFailed, False),
        ("html", ProviderFailed, False),
        ("bad-image", ProviderFailed, False),
        ("empty", ProviderFailed, False),
        ("malformed-json", ProviderFailed, False),
        ("cut", ProviderFailed, False),
        ("reset", ProviderFailed, False),
        ("hang", ProviderTimeout, False),
        ("slow-drip", ProviderTimeout, False),
    ],
)
async def test_a_fault_of_the_image_model_is_never_answered_by_a_second_paid_call(
    kind: Kind, error: type[ProviderError], free: bool, model: str
) -> None:
    fault = Fault(where="openai.images", kind=kind, times=None, seconds=LATE.get(kind))
    async with opened(fault, image_model=model, image_timeout_s=2.0 if kind in LATE else 60.0) as (own, sandbox):
        with pytest.raises(error) as caught:
            await own.image.draw("A desk.", photo(), Concept.BASIC)
        calls = [request for request in sandbox.requests if "/images/" in str(request["path"])]
        assert len(calls) <= 1
        assert len(sandbox.ledger.entries()) <= 1
        assert caught.value.safe_to_retry is free
        if sandbox.ledger.entries():
            assert not free, "a call that was begun is not free"
            assert caught.value.cost is not None


async def test_a_rate_limited_vision_call_is_made_again_and_billed_once() -> None:
    fault = Fault(where="openai.chat", kind="rate-limit", retry_after=0.01)
    async with opened(fault) as (own, sandbox):
        await own.vision.describe(photo(), Concept.BASIC)
        assert len(billed(sandbox)) == 1


@pytest.mark.parametrize("kind", ["status", "html", "quota", "malformed-json", "cut", "reset", "hang", "slow-drip"])
async def test_naver_down_for_one_keyword_leaves_the_others(kind: Kind) -> None:
    fault = Fault(
        where="naver.shop", kind=kind, match="마우스", times=None, seconds=20 if kind == "slow-drip" else None
    )
    async with opened(fault, naver_timeout_s=1.0) as (own, _):
        found = await own.search.find(["마우스", "키보드"])
    assert [product.keyword for product in found.products] == ["키보드"]
    assert len(found.problems) == 1
    assert "마우스" in found.problems[0]


async def test_items_with_holes_are_dropped_or_whole() -> None:
    async with opened(Fault(where="naver.shop", kind="missing-fields", times=None)) as (own, _):
        found = await own.search.find(["마우스", "키보드", "스탠드"])
    assert found.problems == []
    for product in found.products:
        for detail in product.details:
            assert detail.title
            assert detail.price.isdigit()
            assert detail.link.startswith("http")
            assert detail.main_category
            assert detail.sub_category
            assert detail.mall


async def test_nothing_found_is_nothing_shown() -> None:
    async with opened(Fault(where="naver.shop", kind="empty", times=None)) as (own, _):
        found = await own.search.find(["마우스", "키보드"])
    assert (found.products, found.problems) == ([], [])


async def test_navers_rate_limit_is_kept() -> None:
    keywords = ["마우스", "키보드", "모니터", "스탠드", "데스크 매트", "화분"]
    async with opened(accepts_per_second=3, naver_per_second=3) as (own, sandbox):
        found = await own.search.find(keywords)
    assert found.problems == []
    assert {request["status"] for request in sandbox.requests} == {200}
