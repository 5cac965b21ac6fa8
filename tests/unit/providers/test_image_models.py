"""GPT Image and DALL·E 3: what they are sent, what comes back, what it cost, and that nothing paid is sent twice."""

from __future__ import annotations

import base64
import io
from email import message_from_bytes
from email.message import Message
from typing import Any

import pytest
from PIL import Image

from deskterior.config import SettingsError
from deskterior.errors import ProviderError, ProviderFailed, ProviderRefused, ProviderTimeout
from deskterior.providers import Drawn
from deskterior.providers.dalle3 import Dalle3
from deskterior.providers.gpt_image import GptImage
from deskterior.providers.models import ImageEntry, known_models
from deskterior.providers.openai_client import openai_client
from deskterior.providers.openai_pictures import quality_for, sizes_for
from deskterior.schemas import Concept

from .stand_in import Heard, Reply, closed_port, reply, script, standing_in

KEY = "sk-test-0123456789"
USAGE = {
    "input_tokens": 1100,
    "input_tokens_details": {"text_tokens": 100, "image_tokens": 1000},
    "output_tokens": 2000,
    "total_tokens": 3100,
}


def picture(kind: str = "PNG", size: tuple[int, int] = (8, 6)) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise(size, 60).convert("RGB").save(buffer, kind)
    return buffer.getvalue()


def images(*pictures: bytes, usage: Any = USAGE, **more: object) -> Reply:
    data: list[dict[str, object]] = [{"b64_json": base64.b64encode(data).decode()} | more for data in pictures]
    return reply({"created": 1, "data": data} | ({"usage": usage} if usage is not None else {}))


def entry(name: str) -> ImageEntry:
    return known_models().image_model(name)[0]


async def draw(
    url: str,
    model: str = "gpt-image-2.6-sunburst",
    *,
    prompt: str = "An oil painting.",
    photo: bytes = b"",
    size: str = "1024x1024",
    quality: str = "medium",
    timeout_s: float = 20.0,
) -> Drawn:
    client = openai_client(api_key=KEY, base_url=url, timeout_s=timeout_s)
    kind = Dalle3 if model == "dall-e-3" else GptImage
    try:
        drawer = kind(client, entry(model), size=size, quality=quality, timeout_s=timeout_s)
        return await drawer.draw(prompt, photo or picture("JPEG"), Concept.OIL)
    finally:
        await client.close()


async def failing(answer: Reply, model: str = "gpt-image-2.6-sunburst", *, timeout_s: float = 20.0) -> ProviderError:
    async with standing_in(script(answer)) as openai:
        with pytest.raises(ProviderError) as caught:
            await draw(openai.url, model, timeout_s=timeout_s)
        assert len(openai.heard) == 1, "a paid call was sent again"
    assert "UPSTREAM" not in f"{caught.value.detail} {caught.value.internal}"
    assert KEY not in f"{caught.value.detail} {caught.value.internal}"
    return caught.value


def form(heard: Heard) -> dict[str, Message]:
    head = f"Content-Type: {heard.headers['content-type']}\r\n\r\n".encode()
    parts = message_from_bytes(head + heard.body).get_payload()
    assert isinstance(parts, list)
    fields: dict[str, Message] = {}
    for part in parts:
        assert isinstance(part, Message)
        fields[str(part.get_param("name", header="content-disposition"))] = part
    return fields


async def test_the_photo_itself_goes_to_gpt_image_as_a_file() -> None:
    photo = picture("JPEG")
    async with standing_in(script(images(picture("JPEG")))) as openai:
        drawn = await draw(openai.url, photo=photo)
    fields = form(openai.heard[0])
    assert openai.heard[0].path == "/images/edits"
    assert fields["image"].get_payload(decode=True) == photo
    assert fields["image"].get_content_type() == "image/jpeg"
    assert fields["image"].get_filename() == "desk.jpg"
    texts = {name: part.get_payload() for name, part in fields.items() if name != "image"}
    assert texts == {
        "model": "gpt-image-2.6-sunburst",
        "prompt": "An oil painting.",
        "size": "1024x1024",
        "quality": "medium",
        "output_format": "jpeg",
    }
    assert drawn.content_type == "image/jpeg"


async def test_gpt_image_is_priced_by_its_tokens() -> None:
    async with standing_in(script(images(picture()))) as openai:
        drawn = await draw(openai.url)
    assert drawn.cost.usd == pytest.approx(100 * 5e-6 + 1000 * 8e-6 + 2000 * 30e-6)
    assert drawn.cost.what == "render"
    assert drawn.cost.model == "gpt-image-2.6-sunburst"


@pytest.mark.parametrize("usage", [None, {}, {"input_tokens": 5}, {"output_tokens": "UPSTREAM"}, {"output_tokens": 0}])
async def test_a_picture_without_usage_still_counts_for_the_days_spending(usage: Any) -> None:
    async with standing_in(script(images(picture(), usage=usage))) as openai:
        drawn = await draw(openai.url)
    assert drawn.cost.usd == entry("gpt-image-2.6-sunburst").assumed["medium"]


async def test_input_tokens_without_details_are_counted_at_the_dearer_price() -> None:
    async with standing_in(script(images(picture(), usage={"input_tokens": 1000, "output_tokens": 1}))) as openai:
        drawn = await draw(openai.url)
    assert drawn.cost.usd == pytest.approx(1000 * 8e-6 + 30e-6)


async def test_dalle3_is_sent_text_alone_with_its_own_parameters() -> None:
    async with standing_in(script(images(picture(), usage=None, revised_prompt="better"))) as openai:
        drawn = await draw(openai.url, "dall-e-3", quality="hd", size="1792x1024")
    assert openai.heard[0].path == "/images/generations"
    assert openai.heard[0].json() == {
        "model": "dall-e-3",
        "prompt": "An oil painting.",
        "n": 1,
        "size": "1792x1024",
        "quality": "hd",
        "style": "vivid",
        "response_format": "b64_json",
    }
    assert drawn.revised_prompt == "better"
    assert drawn.cost.usd == 0.12


@pytest.mark.parametrize(("told", "kept"), [("a\ud800\0b", "a b"), (["no text"], None), ("x" * 9_000, "x" * 4_000)])
async def test_words_that_come_with_a_picture_never_lose_it(told: object, kept: str | None) -> None:
    made = picture()
    async with standing_in(script(images(made, revised_prompt=told))) as openai:
        drawn = await draw(openai.url)
    assert drawn.image == made
    assert drawn.revised_prompt == kept


@pytest.mark.parametrize(("model", "limit"), [("dall-e-3", 4_000), ("gpt-image-2", 32_000)])
async def test_a_prompt_over_the_models_limit_is_cut_at_a_word(model: str, limit: int) -> None:
    async with standing_in(script(images(picture()))) as openai:
        await draw(openai.url, model, prompt="word " * 20_000)
    heard = openai.heard[0]
    sent = heard.json()["prompt"] if model == "dall-e-3" else str(form(heard)["prompt"].get_payload())
    assert limit - 10 < len(sent) <= limit
    assert sent.endswith("word")


@pytest.mark.parametrize(("shape", "size"), [((40, 30), "1536x1024"), ((30, 40), "1024x1536"), ((30, 30), "1024x1024")])
async def test_auto_takes_the_size_of_the_photos_shape(shape: tuple[int, int], size: str) -> None:
    async with standing_in(script(images(picture()))) as openai:
        await draw(openai.url, photo=picture("JPEG", shape), size="auto")
    assert form(openai.heard[0])["size"].get_payload() == size


@pytest.mark.parametrize(
    ("kind", "content_type"), [("PNG", "image/png"), ("JPEG", "image/jpeg"), ("WEBP", "image/webp")]
)
async def test_the_content_type_is_that_of_the_bytes(kind: str, content_type: str) -> None:
    data = picture(kind)
    async with standing_in(script(images(data))) as openai:
        drawn = await draw(openai.url)
    assert (drawn.image, drawn.content_type) == (data, content_type)


@pytest.mark.parametrize(
    "data",
    [
        [],
        None,
        "UPSTREAM",
        [None],
        [{}],
        [{"url": "https://UPSTREAM/picture.png"}],
        [{"b64_json": None}],
        [{"b64_json": ""}],
        [{"b64_json": 7}],
        [{"b64_json": "UPSTREAM!!"}],
        [{"b64_json": base64.b64encode(b"<html>not a picture</html>").decode()}],
        [{"b64_json": base64.b64encode(b"GIF89a" + b"\0" * 64).decode()}],
        [{"b64_json": base64.b64encode(picture(size=(64, 64))[:-400]).decode()}],
        [{"b64_json": base64.b64encode(picture("JPEG", (64, 64))[:400]).decode()}],
        [{"b64_json": "한글"}],
    ],
)
@pytest.mark.parametrize("model", ["gpt-image-2.6-sunburst", "dall-e-3"])
async def test_an_answer_without_a_whole_picture_is_a_failure_that_was_paid(data: object, model: str) -> None:
    error = await failing(reply({"created": 1, "data": data, "usage": USAGE}), model)
    assert isinstance(error, ProviderFailed)
    assert not error.safe_to_retry
    assert error.cost is not None
    assert error.cost.usd > 0


@pytest.mark.parametrize("body", [b"", b"UPSTREAM", b'{"data": [', b"[]", b"null", b'"text"', b"\xff"])
@pytest.mark.parametrize("kind", ["application/json", "text/html"])
async def test_a_body_of_another_shape_is_a_failure_not_a_crash(body: bytes, kind: str) -> None:
    error = await failing(Reply(200, body, {"content-type": kind}))
    assert isinstance(error, ProviderFailed)
    assert error.cost is not None


@pytest.mark.parametrize(
    ("status", "error", "kind", "free"),
    [
        (400, {"code": "moderation_blocked", "type": "image_generation_user_error"}, ProviderRefused, False),
        (400, {"code": "content_policy_violation", "type": "invalid_request_error"}, ProviderRefused, False),
        (400, {"code": None, "message": "Your request was rejected by the safety system."}, ProviderRefused, False),
        (400, {"code": "billing_hard_limit_reached"}, ProviderFailed, False),
        (400, {"code": "invalid_value", "param": "size"}, ProviderFailed, False),
        (401, {"code": "invalid_api_key"}, ProviderFailed, False),
        (404, {"code": "model_not_found"}, ProviderFailed, False),
        (429, {"code": "rate_limit_exceeded"}, ProviderFailed, True),
        (429, {"code": "insufficient_quota"}, ProviderFailed, False),
        (500, {"code": None}, ProviderFailed, False),
        (503, {"code": None}, ProviderFailed, True),
        (504, {"code": None}, ProviderTimeout, False),
    ],
)
@pytest.mark.parametrize("model", ["gpt-image-2.6-sunburst", "dall-e-3"])
async def test_an_error_says_whether_another_try_is_free_and_makes_none(
    status: int, error: dict[str, Any], kind: type[ProviderError], free: bool, model: str
) -> None:
    body = {"error": {"message": f"UPSTREAM {KEY}", "type": "invalid_request_error", "param": None} | error}
    raised = await failing(reply(body, status, retry_after="7"), model)
    assert isinstance(raised, kind)
    assert raised.safe_to_retry is free
    assert raised.cost is None or status == 504
    if status == 429:
        assert raised.retry_after == 7


@pytest.mark.parametrize("answer", [Reply(hang=True), Reply(drip=True)])
async def test_a_late_picture_is_a_timeout_that_may_have_been_paid(answer: Reply) -> None:
    error = await failing(answer, timeout_s=0.3)
    assert isinstance(error, ProviderTimeout)
    assert not error.safe_to_retry
    assert error.cost is not None
    assert error.cost.units["assumed"] == 1


@pytest.mark.parametrize("cut_after", [0, 50])
async def test_a_cut_connection_may_have_been_paid(cut_after: int) -> None:
    whole = images(picture())
    error = await failing(Reply(200, whole.body, whole.headers, cut_after=cut_after))
    assert not error.safe_to_retry
    assert error.cost is not None


async def test_a_provider_that_cannot_be_reached_was_not_paid() -> None:
    with pytest.raises(ProviderFailed, match="could not be reached") as caught:
        await draw(await closed_port())
    assert caught.value.safe_to_retry
    assert caught.value.cost is None


async def test_a_redirect_takes_neither_the_key_nor_the_photo_elsewhere() -> None:
    async with standing_in(script(images(picture()))) as elsewhere:
        error = await failing(Reply(307, b"", {"location": f"{elsewhere.url}/images/edits"}))
        assert elsewhere.heard == []
    assert "OPENAI_BASE_URL" in error.detail


@pytest.mark.parametrize(
    ("model", "wanted", "own"),
    [
        ("dall-e-3", "medium", "standard"),
        ("dall-e-3", "high", "hd"),
        ("dall-e-3", "max", "hd"),
        ("dall-e-3", "auto", "standard"),
        ("gpt-image-2", "hd", "high"),
        ("gpt-image-2", "standard", "medium"),
        ("gpt-image-2", "xhigh", "high"),
        ("gpt-image-2.6-flare", "xhigh", "xhigh"),
    ],
)
def test_a_quality_in_another_familys_words_is_understood(model: str, wanted: str, own: str) -> None:
    assert quality_for(entry(model), wanted) == own


@pytest.mark.parametrize(
    ("model", "wanted", "own"),
    [
        ("dall-e-3", "1536x1024", ["1792x1024"]),
        ("gpt-image-1.5", "1024x1792", ["1024x1536"]),
        ("gpt-image-2.6-sunburst", "1536x864", ["1536x864"]),
        ("gpt-image-2.6-sunburst", "2048x2048", ["2048x2048"]),
    ],
)
def test_a_size_of_another_family_becomes_the_nearest(model: str, wanted: str, own: list[str]) -> None:
    assert sizes_for(entry(model), wanted) == own


@pytest.mark.parametrize("size", ["2048x2048", "big", "0x0", "1024", "1024x1024x3", "-1024x1024", "1000x9000"])
def test_a_size_that_the_model_cannot_draw_stops_the_start(size: str) -> None:
    with pytest.raises(SettingsError, match=r"IMAGE_SIZE: gpt-image-1\.5 draws"):
        sizes_for(entry("gpt-image-1.5"), size)


def test_an_unknown_quality_stops_the_start() -> None:
    with pytest.raises(SettingsError, match="IMAGE_QUALITY"):
        quality_for(entry("dall-e-3"), "superb")
