"""`POST /images/generations` and `/images/edits`: checked like the real ones, drawn by `sandbox.drawing`."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import secrets
import time
from typing import Any, TypeVar

from pydantic import ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from sandbox.drawing.picture import Format, draw
from sandbox.exchange import Outcome, Paid, exchange, json_reply
from sandbox.faults import Fault
from sandbox.ledger import What
from sandbox.openai.errors import ApiError, from_validation, invalid_value, refusal
from sandbox.openai.image_request import EditRequest, GenerationRequest, ImageRequest, check
from sandbox.openai.models import IMAGE_MODELS, image_model
from sandbox.openai.reading import MAX_PICTURE, Picture, check_key, read_json, read_picture
from sandbox.openai.tokens import count, dalle3_usd, edit_input_tokens, picture_tokens, picture_usd
from sandbox.state import Sandbox

_EDITORS = sorted(IMAGE_MODELS - {"dall-e-3"})
_MIME = ("image/jpeg", "image/png", "image/webp")
_FORMATS = ("PNG", "JPEG", "WEBP")
_MAX_IMAGES = 16
_MAX_MASK = 4 * 1024 * 1024
_MAX_FILES = 32
_MAX_FIELD = 1024 * 1024
_KEPT_FILES = 32
_INTEGERS = ("n", "output_compression")
Asked = TypeVar("Asked", bound=ImageRequest)


async def generations(request: Request) -> Response:
    sandbox: Sandbox = request.app.state.sandbox
    check_key(request, sandbox.options.openai_key)
    body = await read_json(request)
    asked = _validated(GenerationRequest, body)
    model = image_model(_named(asked), retired=sandbox.options.retired)
    check(asked, model)
    return await _draw(request, "images.generations", asked, model, [], None)


async def edits(request: Request) -> Response:
    sandbox: Sandbox = request.app.state.sandbox
    check_key(request, sandbox.options.openai_key)
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "multipart/form-data":
        raise ApiError(
            "This endpoint takes 'Content-Type: multipart/form-data'.", param="image", code="unsupported_content_type"
        )
    try:
        async with request.form(max_files=_MAX_FILES, max_part_size=_MAX_FIELD) as form:
            fields, files = _sorted(form)
            asked = _validated(EditRequest, fields)
            model = image_model(_named(asked), retired=sandbox.options.retired)
            if model not in _EDITORS:
                raise invalid_value("model", model, _EDITORS)
            check(asked, model)
            images, mask = await _pictures(files)
    except HTTPException:  # what Starlette makes of a broken multipart body
        raise ApiError("The multipart body of the request could not be parsed.") from None
    return await _draw(request, "images.edits", asked, model, images, mask)


def _validated(kind: type[Asked], body: object) -> Asked:
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        raise from_validation(error, body) from None


def _named(asked: ImageRequest) -> str:
    if not asked.model:
        raise ApiError("Missing required parameter: 'model'.", param="model", code="missing_required_parameter")
    return asked.model


def _sorted(form: FormData) -> tuple[dict[str, Any], dict[str, list[UploadFile]]]:
    """The form's fields with numbers and booleans read, and its files by name (`image[]` is `image`)."""
    fields: dict[str, Any] = {}
    files: dict[str, list[UploadFile]] = {"image": [], "mask": []}
    for name, value in form.multi_items():
        plain = name.removesuffix("[]")
        if isinstance(value, UploadFile):
            if plain == "markup":
                raise ApiError("The sandbox does not act out 'markup'.", param="markup", code="sandbox_unsupported")
            if plain not in files:
                raise ApiError(f"Unknown parameter: '{name}'.", param=name, code="unknown_parameter")
            files[plain].append(value)
        elif plain in files:
            raise ApiError(f"Invalid type for '{plain}': expected a file.", param=plain, code="invalid_type")
        elif name in fields:
            raise ApiError(f"Duplicate parameter: '{name}'.", param=name, code="duplicate_parameter")
        else:
            fields[name] = _typed(name, value)
    return fields, files


def _typed(name: str, value: str) -> object:
    if name in _INTEGERS and value.lstrip("-").isdecimal() and len(value) < 10:
        return int(value)
    return {"true": True, "false": False}.get(value, value) if name == "stream" else value


async def _pictures(files: dict[str, list[UploadFile]]) -> tuple[list[Picture], Picture | None]:
    if not files["image"]:
        raise ApiError("Missing required parameter: 'image'.", param="image", code="missing_required_parameter")
    if len(files["image"]) > _MAX_IMAGES:
        raise ApiError(
            f"Invalid 'image': at most {_MAX_IMAGES} pictures.", param="image", code="array_above_max_length"
        )
    images = [await _picture("image", file, MAX_PICTURE, _FORMATS) for file in files["image"]]
    if not files["mask"]:
        return images, None
    mask = await _picture("mask", files["mask"][0], _MAX_MASK, ("PNG",))
    if (mask.width, mask.height) != (images[0].width, images[0].height):
        raise ApiError("The mask must have the size of the image.", param="mask", code="invalid_image_file")
    if not mask.has_alpha:
        raise ApiError("The mask has no transparent areas.", param="mask", code="invalid_image_file")
    return images, mask


async def _picture(param: str, file: UploadFile, most: int, formats: tuple[str, ...]) -> Picture:
    if file.content_type not in _MIME:
        raise ApiError(
            f"Invalid file '{param}': unsupported mimetype ('{file.content_type}'). Supported are {', '.join(_MIME)}.",
            param=param,
            code="unsupported_file_mimetype",
        )
    if (file.size or 0) >= most:
        raise ApiError(
            f"Invalid file '{param}': it must be under {most // 2**20} MB.", param=param, code="file_too_large"
        )
    data = await file.read()
    try:
        return await asyncio.to_thread(read_picture, data, formats)
    except ValueError as error:
        raise ApiError(f"Invalid file '{param}': it {error}.", param=param, code="invalid_image_file") from None


async def _draw(
    request: Request, what: What, asked: ImageRequest, model: str, images: list[Picture], mask: Picture | None
) -> Response:
    sandbox: Sandbox = request.app.state.sandbox
    sha = hashlib.sha256(asked.prompt.encode())
    for picture in [*images, *([mask] if mask else [])]:
        sha.update(picture.data)
    base = f"{request.url.scheme}://{request.url.netloc}"

    async def work(fault: Fault | None) -> Outcome:
        if model == "dall-e-3":
            return await _dalle3(asked, sandbox, base, fault)
        return await _gpt_image(asked, model, images, mask, fault)

    def refuse(fault: Fault) -> Any:
        if fault.kind == "content-policy" and fault.code is None and model != "dall-e-3":
            fault = fault.model_copy(update={"code": "moderation_blocked"})
        return refusal(fault)

    return await exchange(
        request,
        sandbox,
        where="openai.images.edits" if what == "images.edits" else "openai.images.generations",
        text=asked.prompt,
        latency=sandbox.options.latency.images,
        work=work,
        refuse=refuse,
        paid=Paid(what, model, sha.hexdigest()[:16]),
    )


async def _dalle3(asked: ImageRequest, sandbox: Sandbox, base: str, fault: Fault | None) -> Outcome:
    size, quality = asked.size or "1024x1024", asked.quality or "standard"
    data = await asyncio.to_thread(draw, asked.prompt, None, _size(size), "png")
    data = _spoilt(data, fault)
    item: dict[str, str] = {"revised_prompt": f"A detailed, well-lit picture: {asked.prompt}"}
    if asked.response_format == "b64_json":
        item["b64_json"] = base64.b64encode(data).decode()
    else:
        name = f"img-{secrets.token_hex(12)}.png"
        sandbox.files[name] = ("image/png", data)
        while len(sandbox.files) > _KEPT_FILES:
            sandbox.files.popitem(last=False)
        item["url"] = f"{base}/openai/files/{name}"
    empty = fault is not None and fault.kind == "empty"
    answer = {"created": int(time.time()), "data": [] if empty else [item]}
    return Outcome(json_reply(answer), dalle3_usd(size, quality), {"images": 1})


async def _gpt_image(
    asked: ImageRequest, model: str, images: list[Picture], mask: Picture | None, fault: Fault | None
) -> Outcome:
    size = asked.size if asked.size not in (None, "auto") else _like(images)
    quality = asked.quality if asked.quality not in (None, "auto") else "medium"
    output: Format = asked.output_format or "png"  # type: ignore[assignment]  # `check` let only these through
    transparent = asked.background == "transparent"
    width, height = _size(size)
    data = await asyncio.to_thread(
        draw,
        asked.prompt,
        images[0].data if images else None,
        (width, height),
        output,
        mask=mask.data if mask else None,
        transparent=transparent,
        compression=asked.output_compression,
    )
    data = _spoilt(data, fault)
    n = asked.n or 1
    text_in = count(asked.prompt)
    image_in = sum(edit_input_tokens(p.width, p.height) for p in images)
    image_out = picture_tokens(width, height, quality) * n
    item = {"b64_json": base64.b64encode(data).decode()}
    empty = fault is not None and fault.kind == "empty"
    answer: dict[str, Any] = {
        "created": int(time.time()),
        "background": "transparent" if transparent else "opaque",
        "data": [] if empty else [item] * n,
        "output_format": output,
        "quality": quality,
        "size": size,
        "usage": {
            "input_tokens": text_in + image_in,
            "input_tokens_details": {"image_tokens": image_in, "text_tokens": text_in},
            "output_tokens": image_out,
            "output_tokens_details": {"image_tokens": image_out, "text_tokens": 0},
            "total_tokens": text_in + image_in + image_out,
        },
    }
    if who := asked.safety_identifier or asked.user:
        answer["safety_identifier"] = who
    counts = {"input_tokens": text_in + image_in, "output_tokens": image_out, "images": n}
    return Outcome(json_reply(answer), picture_usd(model, text_in, image_in, image_out), counts)


def _spoilt(data: bytes, fault: Fault | None) -> bytes:
    """`bad-image`: the first third of a picture, which opens and does not decode."""
    return data[: len(data) // 3] if fault is not None and fault.kind == "bad-image" else data


def _size(size: str) -> tuple[int, int]:
    width, _, height = size.partition("x")
    return int(width), int(height)


def _like(images: list[Picture]) -> str:
    """The standard size nearest to the first picture's shape."""
    if not images:
        return "1024x1024"
    ratio = images[0].width / images[0].height
    if ratio > 1.2:
        return "1536x1024"
    return "1024x1536" if ratio < 1 / 1.2 else "1024x1024"
