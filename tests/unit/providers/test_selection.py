"""Which class serves is the settings' choice alone; what is missing, retired or unknown is said at start."""

from __future__ import annotations

import base64
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from deskterior.config import OPENAI_URL, Settings, SettingsError
from deskterior.errors import ProviderNotConfigured
from deskterior.providers import Drawn
from deskterior.providers.catalogue import Catalogue
from deskterior.providers.dalle3 import Dalle3
from deskterior.providers.gpt_image import GptImage
from deskterior.providers.models import DATA, ImageEntry, Models, check_models, known_models
from deskterior.providers.naver import NaverSearch
from deskterior.providers.openai_vision import OpenAIVision
from deskterior.providers.selection import NoSearch, Providers, providers, register_image_adapter
from deskterior.providers.shop import Shop
from deskterior.schemas import Concept

from .stand_in import reply, script, standing_in
from .test_image_models import images, picture
from .test_openai_vision import Questions, good

TODAY = date(2026, 11, 22)
KEY = "sk-test-0123456789"
PRODUCTION: dict[str, Any] = {"env": "production", "api_keys": "x", "photo_allowed_hosts": "photos.example.com"}


def settings(**values: Any) -> Settings:
    return Settings(_env_file=None, **values)


def chosen(today: date = TODAY, models: Models | None = None, **values: Any) -> Providers:
    return providers(settings(**values), Questions(), today=today, models=models)


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        ("gpt-image-2.6-sunburst", GptImage),
        ("gpt-image-2.6-flare", GptImage),
        ("gpt-image-2-2026-04-21", GptImage),
        ("chatgpt-image-latest", GptImage),
        ("gpt-image-9", GptImage),
        ("dall-e-3", Dalle3),
    ],
)
async def test_the_image_model_is_one_setting(model: str, kind: type) -> None:
    own = chosen(image_model=model, openai_api_key=KEY, openai_base_url="https://models.example/v1")
    assert isinstance(own.image, kind)
    await own.aclose()


async def test_a_third_adapter_is_one_class_and_one_line(tmp_path: Path) -> None:
    class Sepia:
        def __init__(self, model: ImageEntry) -> None:
            self.model = model

        async def draw(self, prompt: str, photo: bytes, concept: Concept) -> Drawn:
            return Drawn(photo + b" in brown", "image/jpeg", self.model.cost("any", "any", None))

    register_image_adapter("sepia", lambda _, model, __: Sepia(model))
    entry = '[[image]]\nname="sepia-1"\nadapter="sepia"\nsizes=["any"]\nqualities=["any"]\npictures={"any any"=0.5}\n'
    (tmp_path / "models.toml").write_text(DATA.read_text("utf-8") + entry, "utf-8")
    own = chosen(models=Models.load(tmp_path / "models.toml"), image_model="sepia-1")
    drawn = await own.image.draw("a desk", b"photo", Concept.BASIC)
    assert drawn.image == b"photo in brown"
    assert drawn.cost.usd == 0.5
    await own.aclose()


@pytest.mark.parametrize("model", ["dall-e-2", "midjourney", "", "gpt-4o"])
def test_an_image_model_of_no_known_family_stops_the_start(model: str) -> None:
    with pytest.raises(SettingsError, match="IMAGE_MODEL"):
        chosen(image_model=model)


def test_an_entry_whose_adapter_nobody_registered_stops_the_start() -> None:
    entry = known_models().image[0].model_copy(update={"name": "new", "adapter": "nobody"})
    with pytest.raises(SettingsError, match="adapter nobody"):
        chosen(image_model="new", models=known_models().model_copy(update={"image": [entry]}))


async def test_without_keys_development_uses_the_sandbox_and_says_so_loudly() -> None:
    with capture_logs() as logs:
        own = chosen(sandbox_url="http://127.0.0.1:8900")
    assert isinstance(own.vision, OpenAIVision)
    assert isinstance(own.search, NaverSearch)
    warned = [entry["notice"] for entry in logs if entry["log_level"] == "warning"]
    assert any("OPENAI_API_KEY" in notice and "sandbox" in notice for notice in warned)
    assert any("NAVER_CLIENT_ID" in notice and "sandbox" in notice for notice in warned)
    own.check()
    await own.aclose()


async def test_without_keys_production_starts_and_each_makeover_is_not_configured() -> None:
    own = chosen(**PRODUCTION)
    with pytest.raises(ProviderNotConfigured, match="OPENAI_API_KEY"):
        await own.vision.describe(b"photo", Concept.BASIC)
    with pytest.raises(ProviderNotConfigured, match="OPENAI_API_KEY"):
        await own.image.draw("prompt", b"photo", Concept.BASIC)
    with pytest.raises(ProviderNotConfigured):
        own.check()
    assert isinstance(own.search, NoSearch)
    assert "NAVER_CLIENT_ID" in (await own.search.find(["마우스"])).problems[0]
    assert any("OPENAI_API_KEY" in notice for notice in own.notices)
    await own.aclose()


async def test_production_without_a_key_stays_so_at_an_endpoint_of_ones_own() -> None:
    own = chosen(**PRODUCTION, openai_base_url="https://models.example/v1")
    with pytest.raises(ProviderNotConfigured):
        own.check()
    await own.aclose()


@pytest.mark.parametrize("url", [OPENAI_URL, "https://eu.api.openai.com/v1"])
async def test_a_retired_model_at_openais_own_address_is_named_and_never_called(url: str) -> None:
    own = chosen(image_model="dall-e-3", openai_api_key=KEY, openai_base_url=url)
    assert any("dall-e-3 on 2026-05-12" in notice for notice in own.notices)
    with pytest.raises(ProviderNotConfigured, match="IMAGE_MODEL"):
        own.check()
    own.check(drawing=False)
    assert isinstance(own.vision, OpenAIVision)
    await own.aclose()


async def test_a_retired_model_is_served_where_an_endpoint_still_has_it() -> None:
    own = chosen(image_model="dall-e-3", openai_api_key=KEY, openai_base_url="https://models.example/v1")
    own.check()
    assert not any("retire" in notice for notice in own.notices)
    await own.aclose()


async def test_a_retired_vision_model_stops_makeovers_before_money_is_spent() -> None:
    own = chosen(date(2027, 1, 14), openai_api_key=KEY)
    with pytest.raises(ProviderNotConfigured, match="VISION_MODEL"):
        own.check(drawing=False)
    await own.aclose()


@pytest.mark.parametrize(
    ("values", "today", "says"),
    [
        ({"image_model": "gpt-image-1"}, TODAY, "OpenAI retired gpt-image-1 on 2026-10-23"),
        ({"image_model": "gpt-image-1.5"}, TODAY, "retires gpt-image-1.5 on 2026-12-01, in 9 days"),
        ({}, TODAY, "VISION_MODEL: OpenAI retires gpt-4o on 2027-01-14, in 53 days"),
        ({"vision_model": "gpt-4o-2024-11-20"}, date(2027, 2, 1), "retired gpt-4o-2024-11-20 on 2027-01-14"),
        ({"image_model": "gpt-image-9"}, TODAY, "IMAGE_MODEL: gpt-image-9 is not listed"),
        ({"vision_model": "gpt-99"}, TODAY, "VISION_MODEL: gpt-99 is not listed"),
        ({"naver_client_id": "i", "naver_client_secret": "s"}, TODAY, "Naver's shopping search"),
    ],
)
def test_what_an_operator_should_know_is_a_sentence_at_start(values: dict[str, Any], today: date, says: str) -> None:
    notices = check_models(settings(openai_api_key=KEY, **values), today)
    assert any(says in notice for notice in notices), notices


def test_models_that_are_listed_and_current_are_nothing_to_talk_of() -> None:
    current = settings(openai_api_key=KEY, vision_model="gpt-6-luna")
    assert check_models(current, TODAY) == []


def test_the_default_image_model_is_served_today_and_priced() -> None:
    entry, listed = known_models().image_model(settings().image_model)
    assert listed
    assert entry.retires is None or entry.retires > TODAY


@pytest.mark.parametrize("name", ["gpt-image-9", "gpt-image-9-mini", "dall-e-3-new"])
def test_an_unlisted_image_model_counts_as_the_dearest_of_its_family(name: str) -> None:
    entry, listed = known_models().image_model(name)
    assert not listed
    assert entry.cost(entry.qualities[0], entry.sizes[0], None).usd > 0
    if entry.tokens:
        family = [other.tokens.output for other in known_models().image if other.tokens]
        assert entry.tokens.output == max(family)


def test_a_picture_of_ones_own_size_is_assumed_to_cost_by_its_area() -> None:
    entry, _ = known_models().image_model("gpt-image-2.6-sunburst")
    standard = entry.cost("high", "1536x1024", None).usd
    assert entry.cost("high", "auto", None).usd == standard
    assert entry.cost("high", "512x512", None).usd == standard
    assert entry.cost("high", "3072x2048", None).usd == pytest.approx(4 * standard)


def test_an_unlisted_vision_model_counts_as_the_dearest() -> None:
    entry, _ = known_models().vision_model("gpt-99")
    assert entry.output == max(other.output for other in known_models().vision)


def test_every_replacement_is_a_listed_model_that_is_not_retired_itself() -> None:
    models = known_models()
    every = {entry.name: entry for entry in (*models.vision, *models.image)}
    for entry in every.values():
        assert bool(entry.retires) == bool(entry.replacement)
        if entry.replacement:
            assert every[entry.replacement].retires is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("as_of = ", "cannot be read"),
        ("as_of = 2026-01-01\nvision = []\nimage = []\nextra = 1", "extra"),
        (
            'as_of = 2026-01-01\nvision = []\n[[image]]\nname = "x"\nadapter = "x"\nsizes = ["1x1"]\nqualities = ["a"]',
            "no price for a 1x1",
        ),
    ],
)
def test_a_wrong_data_file_says_where(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "models.toml").write_text(text, "utf-8")
    with pytest.raises(SettingsError, match=says):
        Models.load(tmp_path / "models.toml")


@pytest.mark.parametrize("name", ["openai_api_key", "naver_client_secret"])
@pytest.mark.parametrize("secret", ["키", "sk-\n123", "sk-\x7f", "sk-“123”"])
def test_a_key_that_no_header_can_carry_stops_the_start_without_being_told(name: str, secret: str) -> None:
    values: dict[str, Any] = {"naver_client_id": "id", "naver_client_secret": "s", name: secret}
    with pytest.raises(SettingsError, match=name.upper()) as caught:
        chosen(**values)
    assert secret not in str(caught.value)


async def test_blanks_around_a_key_are_not_part_of_it() -> None:
    async with standing_in(script(good())) as openai:
        own = chosen(openai_api_key=f" {KEY}\n", openai_base_url=openai.url)
        await own.vision.describe(b"photo", Concept.BASIC)
        assert openai.heard[0].headers["authorization"] == f"Bearer {KEY}"
        await own.aclose()


async def test_a_catalogue_is_asked_before_naver(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text(
        "name,price,purchase_place,purchase_url,image_path,main_category,sub_category\n"
        "책상 램프,1000,팀,https://a.b/c,https://a.b/d,조명,램프\n",
        "utf-8",
    )
    own = chosen(catalogue_csv=path, **PRODUCTION)
    assert isinstance(own.search, Shop)
    assert isinstance(own.catalogue, Catalogue)
    found = await own.search.find(["램프", "의자"])
    assert [product.keyword for product in found.products] == ["램프"]
    assert "NAVER_CLIENT_ID" in found.problems[0]
    await own.aclose()


def test_a_wrong_catalogue_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="CATALOGUE_CSV"):
        chosen(catalogue_csv=tmp_path / "none.csv")


async def test_one_client_serves_vision_and_image_and_logs_hold_no_key_prompt_or_picture() -> None:
    data = picture()
    async with standing_in(lambda heard: good() if "chat" in heard.path else images(data)) as openai:
        with capture_logs() as logs:
            own = chosen(openai_api_key=KEY, openai_base_url=openai.url)
            described = await own.vision.describe(b"photo", Concept.OIL)
            await own.image.draw(described.description.prompt, picture("JPEG"), Concept.OIL)
            await own.aclose()
    text = str(logs)
    assert KEY not in text
    assert described.description.prompt not in text
    assert base64.b64encode(data).decode()[:40] not in text


async def test_a_closed_provider_calls_nobody() -> None:
    async with standing_in(script(reply({}))) as openai:
        own = chosen(openai_api_key=KEY, openai_base_url=openai.url)
        await own.aclose()
        assert openai.heard == []
