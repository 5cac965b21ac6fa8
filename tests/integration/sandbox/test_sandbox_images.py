"""Images drawn and edited, and the calls that are refused."""

from __future__ import annotations

import io
from typing import Any

import httpx
import pytest
from openai.types import ImagesResponse
from PIL import Image

from sandbox.drawing.scene import scene
from tests.integration.sandbox.stand import DATA_URL, NEW, PHOTO, Stand, exact, opened
from tests.photographs import encoded, noise


def test_dalle3_draws_from_words_with_a_revised_prompt(stand: Stand) -> None:
    answer = stand.openai.images.generate(
        model="dall-e-3",
        prompt="a desk, oil painting",
        size="1792x1024",
        quality="hd",
        style="natural",
        response_format="b64_json",
        n=1,
    )
    assert answer.data is not None
    (item,) = answer.data
    assert opened(item.b64_json).size == (1792, 1024)
    assert item.revised_prompt
    assert item.url is None
    assert answer.usage is None
    (entry,) = stand.state.ledger.entries()
    assert entry.usd == 0.12


def test_dalle3_answers_by_address_when_not_asked_otherwise(stand: Stand) -> None:
    answer = stand.openai.images.generate(model="dall-e-3", prompt="a desk")
    assert answer.data is not None
    url = answer.data[0].url
    assert url is not None
    picture = httpx.get(url, trust_env=False)
    assert picture.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(picture.content)).size == (1024, 1024)
    assert httpx.get(url + "x", trust_env=False).status_code == 404


def test_an_edit_restyles_the_photo_and_tells_its_usage(stand: Stand) -> None:
    answer = stand.openai.images.edit(
        model=NEW,
        image=("desk.jpg", PHOTO, "image/jpeg"),
        prompt="Cartoon: this desk",
        size="1024x1024",
        quality="medium",
        output_format="jpeg",
    )
    assert answer.data is not None
    picture = opened(answer.data[0].b64_json)
    assert (picture.format, picture.size) == ("JPEG", (1024, 1024))
    assert answer.data[0].revised_prompt is None
    usage = answer.usage
    assert usage is not None
    assert usage.input_tokens == usage.input_tokens_details.image_tokens + usage.input_tokens_details.text_tokens
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens
    assert (answer.size, answer.quality, answer.output_format) == ("1024x1024", "medium", "jpeg")


def test_an_edit_takes_several_pictures_a_mask_and_any_size_it_is_given(stand: Stand) -> None:
    mask = Image.new("RGBA", (320, 320), (0, 0, 0, 0))
    answer = stand.openai.images.edit(
        model=NEW,
        image=[("a.png", encoded(scene("a").resize((320, 320)), "PNG"), "image/png"), ("b.jpg", PHOTO, "image/jpeg")],
        mask=("mask.png", encoded(mask, "PNG"), "image/png"),
        prompt="minimal",
        size="256x512",
        n=2,
    )
    assert answer.data is not None
    assert [opened(item.b64_json).size for item in answer.data] == [(256, 512)] * 2


def test_without_a_size_the_picture_takes_the_photos_shape(stand: Stand) -> None:
    wide = encoded(scene("x").resize((400, 200)))
    answer = stand.openai.images.edit(model=NEW, image=("w.jpg", wide, "image/jpeg"), prompt="oil", quality="low")
    assert answer.size == "1536x1024"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/images/generations", {"model": "dall-e-3", "prompt": "a desk", "response_format": "b64_json"}),
        ("/images/generations", {"model": NEW, "prompt": "a desk", "user": "u", "size": "512x512"}),
    ],
)
def test_an_images_answer_has_exactly_the_sdks_fields(stand: Stand, path: str, body: dict[str, Any]) -> None:
    answer = stand.post(path, body)
    assert answer.status_code == 200
    exact(ImagesResponse, answer.json())


def edit(stand: Stand, fields: dict[str, str], files: list[tuple[str, tuple[str, bytes, str]]]) -> dict[str, Any]:
    headers = {"Authorization": "Bearer k"}
    answer = stand.http.post("/openai/v1/images/edits", data=fields, files=files, headers=headers)
    assert answer.status_code in {400, 404}, answer.text
    error: dict[str, Any] = answer.json()["error"]
    return error


JPEG = ("image", ("a.jpg", PHOTO, "image/jpeg"))
RAW = ("image", ("a", PHOTO, "application/octet-stream"))  # what the SDK sends of bare bytes
GIF = encoded(scene("x").resize((32, 32)), "GIF")
CUT = encoded(noise())[:9000]


@pytest.mark.parametrize(
    ("fields", "files", "param", "code"),
    [
        ({"model": "dall-e-3", "prompt": "x"}, [JPEG], "model", "invalid_value"),
        ({"model": "gpt-4o", "prompt": "x"}, [JPEG], "model", "invalid_value"),
        ({"model": "gpt-image-99", "prompt": "x"}, [JPEG], None, "model_not_found"),
        ({"prompt": "x"}, [JPEG], "model", "missing_required_parameter"),
        ({"model": NEW}, [JPEG], "prompt", "missing_required_parameter"),
        ({"model": NEW, "prompt": ""}, [JPEG], "prompt", "string_below_min_length"),
        ({"model": NEW, "prompt": "x" * 32_001}, [JPEG], "prompt", "string_above_max_length"),
        ({"model": NEW, "prompt": "x"}, [("mask", JPEG[1])], "image", "missing_required_parameter"),
        ({"model": NEW, "prompt": "x"}, [("picture", JPEG[1])], "picture", "unknown_parameter"),
        ({"model": NEW, "prompt": "x", "moderation": "low"}, [JPEG], "moderation", "unknown_parameter"),
        ({"model": NEW, "prompt": "x", "response_format": "b64_json"}, [JPEG], "response_format", "unknown_parameter"),
        ({"model": NEW, "prompt": "x", "image": "http://x"}, [JPEG], "image", "invalid_type"),
        ({"model": NEW, "prompt": "x", "n": "two"}, [JPEG], "n", "invalid_type"),
        ({"model": NEW, "prompt": "x", "n": "11"}, [JPEG], "n", "decimal_above_max_value"),
        ({"model": NEW, "prompt": "x"}, [RAW], "image", "unsupported_file_mimetype"),
        ({"model": NEW, "prompt": "x"}, [("image", ("a.gif", GIF, "image/gif"))], "image", "unsupported_file_mimetype"),
        ({"model": NEW, "prompt": "x"}, [("image", ("a.jpg", GIF, "image/jpeg"))], "image", "invalid_image_file"),
        ({"model": NEW, "prompt": "x"}, [("image", ("a.jpg", CUT, "image/jpeg"))], "image", "invalid_image_file"),
        ({"model": NEW, "prompt": "x"}, [("image", ("a.jpg", b"", "image/jpeg"))], "image", "invalid_image_file"),
        ({"model": NEW, "prompt": "x"}, [JPEG] * 17, "image", "array_above_max_length"),
        ({"model": NEW, "prompt": "x"}, [JPEG, ("mask", JPEG[1])], "mask", "invalid_image_file"),
    ],
)  # fmt: skip
def test_an_edit_that_openai_would_refuse_is_refused(
    stand: Stand, fields: dict[str, str], files: Any, param: str | None, code: str
) -> None:
    error = edit(stand, fields, files)
    assert (error["param"], error["code"]) == (param, code)
    assert stand.state.ledger.entries() == []


def test_an_edit_that_is_no_multipart_is_refused(stand: Stand) -> None:
    answer = stand.post("/images/edits", {"model": NEW, "prompt": "x", "image": DATA_URL})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "unsupported_content_type")
    headers = {"Authorization": "Bearer k", "Content-Type": "multipart/form-data; boundary=x"}
    answer = stand.http.post("/openai/v1/images/edits", content=b"no multipart", headers=headers)
    assert answer.status_code == 400


def test_a_picture_given_to_dalle3s_generations_is_refused(stand: Stand) -> None:
    answer = stand.post("/images/generations", {"model": "dall-e-3", "prompt": "x", "image": DATA_URL})
    assert answer.json()["error"]["code"] == "unknown_parameter"
