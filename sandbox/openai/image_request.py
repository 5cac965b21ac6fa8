"""What an image call may be asked for, model by model; `images` has it drawn."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from sandbox.openai.errors import ApiError, invalid_value, not_acted_out, unknown_parameter

DALLE3_SIZES = ("1024x1024", "1792x1024", "1024x1792")
GPT_SIZES = ("1024x1024", "1536x1024", "1024x1536", "auto")
_MAX_EDGE, _MAX_PIXELS, _MIN_PIXELS = 3840, 3840 * 2160, 256 * 256
_FIXED_SIZES = ("gpt-image-1", "gpt-image-1-mini", "gpt-image-1.5", "chatgpt-image-latest")
_NOT_HERE = ("frame_count", "frame_duration_ms", "partial_images", "svg")
_DALLE3_ONLY = ("style", "response_format")
_GPT_ONLY = (
    "background", "complexity", "moderation", "output_compression", "output_format", "input_fidelity",
    "safety_identifier", *_NOT_HERE,
)  # fmt: skip


class ImageRequest(BaseModel):
    """The parameters that generations and edits share. Those of type Any are known, and refused by name when used."""

    model_config = ConfigDict(extra="forbid", strict=True)

    prompt: Annotated[str, Field(min_length=1)]
    model: str | None = None
    background: Literal["transparent", "opaque", "auto"] | None = None
    complexity: Literal["low", "medium", "high"] | None = None
    n: Annotated[int, Field(ge=1, le=10)] | None = None
    output_compression: Annotated[int, Field(ge=0, le=100)] | None = None
    output_format: str | None = None
    quality: str | None = None
    response_format: Literal["url", "b64_json"] | None = None
    safety_identifier: str | None = None
    size: str | None = None
    stream: bool | None = None
    user: str | None = None
    frame_count: Any = None
    frame_duration_ms: Any = None
    partial_images: Any = None
    svg: Any = None


class GenerationRequest(ImageRequest):
    moderation: Literal["low", "auto"] | None = None
    style: Literal["vivid", "natural"] | None = None


class EditRequest(ImageRequest):
    input_fidelity: Literal["high", "low"] | None = None


def check(asked: ImageRequest, model: str) -> None:
    """Raises ApiError for a value that this model does not take."""
    dalle = model == "dall-e-3"
    for name in _GPT_ONLY if dalle else _DALLE3_ONLY:
        if getattr(asked, name, None) is not None:
            raise unknown_parameter(name)
    if asked.stream:
        raise unknown_parameter("stream") if dalle else not_acted_out("stream")
    for name in _NOT_HERE:
        if getattr(asked, name) is not None:
            raise not_acted_out(name)
    most = 4000 if dalle else 32_000
    if len(asked.prompt) > most:
        raise ApiError(
            f"Invalid 'prompt': string too long. Expected at most {most} characters, but got {len(asked.prompt)}.",
            param="prompt",
            code="string_above_max_length",
        )
    if dalle:
        _check_dalle3(asked)
    else:
        _check_gpt_image(asked, model)


def _check_dalle3(asked: ImageRequest) -> None:
    if (asked.n or 1) > 1:
        raise ApiError("Invalid 'n': dall-e-3 draws one picture a call.", param="n", code="integer_above_max_value")
    if asked.size is not None and asked.size not in DALLE3_SIZES:
        raise invalid_value("size", asked.size, DALLE3_SIZES)
    if asked.quality is not None and asked.quality not in ("standard", "hd"):
        raise invalid_value("quality", asked.quality, ("standard", "hd"))


def _check_gpt_image(asked: ImageRequest, model: str) -> None:
    qualities = ["low", "medium", "high", "auto"]
    if "-sunburst" in model or "-flare" in model:
        qualities[3:3] = ["xhigh", "max"]
    if asked.quality is not None and asked.quality not in qualities:
        raise invalid_value("quality", asked.quality, qualities)
    if asked.size is not None:
        _check_size(asked.size, model)
    output = asked.output_format or "png"
    if output not in ("png", "webp", "jpeg"):
        # GIF and SVG are previews that an account needs access to; this one has none.
        raise invalid_value("output_format", output, ("png", "webp", "jpeg"))
    if asked.background == "transparent" and output == "jpeg":
        raise ApiError("A transparent background needs 'png' or 'webp'.", param="background", code="invalid_value")
    if asked.output_compression is not None and output == "png" and asked.output_compression != 100:
        raise ApiError(
            "'output_compression' below 100 needs 'jpeg' or 'webp'.", param="output_compression", code="invalid_value"
        )
    if asked.complexity is not None and model in _FIXED_SIZES:
        raise unknown_parameter("complexity")
    fidelity = getattr(asked, "input_fidelity", None)
    if fidelity is not None and model not in _FIXED_SIZES:
        raise unknown_parameter("input_fidelity")
    if fidelity == "high" and model == "gpt-image-1-mini":
        raise invalid_value("input_fidelity", fidelity, ("low",))


def _check_size(size: str, model: str) -> None:
    if size in GPT_SIZES:
        return
    if model in _FIXED_SIZES:
        raise invalid_value("size", size, GPT_SIZES)
    found = re.fullmatch(r"([1-9]\d{1,4})x([1-9]\d{1,4})", size)
    if found is None:
        raise ApiError("Invalid 'size': expected 'WIDTHxHEIGHT' or 'auto'.", param="size", code="invalid_value")
    width, height = int(found[1]), int(found[2])
    if width % 16 or height % 16:
        why = "both edges must be divisible by 16"
    elif max(width, height) > 3 * min(width, height):
        why = "the aspect ratio must be between 1:3 and 3:1"
    elif max(width, height) > _MAX_EDGE or not _MIN_PIXELS <= width * height <= _MAX_PIXELS:
        why = f"no edge may be over {_MAX_EDGE} and no picture over {_MAX_PIXELS} pixels or under {_MIN_PIXELS}"
    else:
        return
    raise ApiError(f"Invalid 'size': {why}.", param="size", code="invalid_value")
