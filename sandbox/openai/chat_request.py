"""What a chat completion may be asked for, field by field, and the rules that hold between fields and model."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from sandbox.openai.errors import ApiError, not_acted_out, unknown_parameter
from sandbox.openai.models import ChatTraits


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class TextPart(Strict):
    type: Literal["text"]
    text: str
    prompt_cache_breakpoint: dict[str, Any] | None = None


class RefusalPart(Strict):
    type: Literal["refusal"]
    refusal: str


class ImageAddress(Strict):
    url: str
    detail: Literal["auto", "low", "high", "original"] = "auto"


class ImagePart(Strict):
    type: Literal["image_url"]
    image_url: ImageAddress
    prompt_cache_breakpoint: dict[str, Any] | None = None


class AudioPart(Strict):
    type: Literal["input_audio"]
    input_audio: dict[str, Any]


class FilePart(Strict):
    type: Literal["file"]
    file: dict[str, Any]
    prompt_cache_breakpoint: dict[str, Any] | None = None


UserPart = Annotated[TextPart | ImagePart | AudioPart | FilePart, Discriminator("type")]
AssistantPart = Annotated[TextPart | RefusalPart, Discriminator("type")]


def _text_or_parts(value: object) -> str:
    return "parts" if isinstance(value, list) else "text"


Text = Annotated[
    Annotated[str, Tag("text")] | Annotated[list[TextPart], Field(min_length=1), Tag("parts")],
    Discriminator(_text_or_parts),
]
UserContent = Annotated[
    Annotated[str, Tag("text")] | Annotated[list[UserPart], Field(min_length=1), Tag("parts")],
    Discriminator(_text_or_parts),
]
AssistantContent = Annotated[
    Annotated[str, Tag("text")] | Annotated[list[AssistantPart], Field(min_length=1), Tag("parts")],
    Discriminator(_text_or_parts),
]


class SystemMessage(Strict):
    role: Literal["system", "developer"]
    content: Text
    name: str | None = None


class UserMessage(Strict):
    role: Literal["user"]
    content: UserContent
    name: str | None = None


class AssistantMessage(Strict):
    role: Literal["assistant"]
    content: AssistantContent | None = None
    refusal: str | None = None
    name: str | None = None
    audio: dict[str, Any] | None = None
    function_call: dict[str, Any] | None = None
    tool_calls: list[dict[str, Any]] | None = None


class ToolMessage(Strict):
    role: Literal["tool", "function"]
    content: Text | None
    tool_call_id: str | None = None
    name: str | None = None


Message = Annotated[SystemMessage | UserMessage | AssistantMessage | ToolMessage, Discriminator("role")]


class TextFormat(Strict):
    type: Literal["text"]


class JsonObjectFormat(Strict):
    type: Literal["json_object"]


class JsonSchema(Strict):
    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    description: str | None = None
    schema_: Annotated[dict[str, Any] | None, Field(alias="schema")] = None
    strict: bool | None = None


class JsonSchemaFormat(Strict):
    type: Literal["json_schema"]
    json_schema: JsonSchema


ResponseFormat = Annotated[TextFormat | JsonObjectFormat | JsonSchemaFormat, Discriminator("type")]
Penalty = Annotated[float, Field(ge=-2, le=2)] | None
Metadata = dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]]


class ChatRequest(Strict):
    """Every parameter of the SDK is here: those of type Any are known, and refused by name when used."""

    model: Annotated[str, Field(min_length=1)]
    messages: Annotated[list[Message], Field(min_length=1)]
    frequency_penalty: Penalty = None
    presence_penalty: Penalty = None
    logit_bias: dict[str, Annotated[int, Field(ge=-100, le=100)]] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    metadata: Annotated[Metadata, Field(max_length=16)] | None = None
    modalities: list[Literal["text", "audio"]] | None = None
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: dict[str, Any] | None = None
    prompt_cache_retention: Literal["in_memory", "24h"] | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    response_format: ResponseFormat | None = None
    safety_identifier: Annotated[str, Field(max_length=128)] | None = None
    seed: int | None = None
    service_tier: Literal["auto", "default", "flex", "scale", "priority", "fast"] | None = None
    stop: str | Annotated[list[str], Field(max_length=4)] | None = None
    store: bool | None = None
    stream: bool | None = None
    stream_options: dict[str, Any] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    user: str | None = None
    verbosity: Literal["low", "medium", "high"] | None = None
    audio: Any = None
    function_call: Any = None
    functions: Any = None
    moderation: Any = None
    parallel_tool_calls: Any = None
    prediction: Any = None
    tool_choice: Any = None
    tools: Any = None
    web_search_options: Any = None

    @property
    def text(self) -> str:
        """All that the messages say, in order."""
        return "\n".join(part for message in self.messages for part in _texts(message))

    @property
    def images(self) -> list[tuple[str, ImageAddress]]:
        """Every picture with the path of its parameter."""
        return [
            (f"messages[{i}].content[{j}].image_url.url", part.image_url)
            for i, message in enumerate(self.messages)
            if isinstance(message, UserMessage) and isinstance(message.content, list)
            for j, part in enumerate(message.content)
            if isinstance(part, ImagePart)
        ]

    @property
    def limit(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens


def _texts(message: SystemMessage | UserMessage | AssistantMessage | ToolMessage) -> list[str]:
    if message.content is None:
        return []
    if isinstance(message.content, str):
        return [message.content]
    return [part.text for part in message.content if isinstance(part, TextPart)]


_NOT_HERE = (
    "audio",
    "function_call",
    "functions",
    "moderation",
    "parallel_tool_calls",
    "prediction",
    "tool_choice",
    "tools",
    "web_search_options",
)


def check(asked: ChatRequest, traits: ChatTraits) -> None:
    """Raises ApiError where the request does not fit the model, or asks for what the sandbox cannot act out."""
    for name in _NOT_HERE:
        if getattr(asked, name) is not None:
            raise not_acted_out(name)
    for name, used in (("stream", asked.stream), ("logprobs", asked.logprobs)):
        if used:
            raise not_acted_out(name)
    if "audio" in (asked.modalities or []):
        raise not_acted_out("modalities")
    if asked.stream_options is not None:
        raise ApiError("'stream_options' goes only with 'stream': true.", param="stream_options")
    if asked.top_logprobs is not None:
        raise ApiError("'top_logprobs' goes only with 'logprobs': true.", param="top_logprobs")
    _check_parts(asked)
    _check_limits(asked, traits)
    if asked.images and not traits.vision:
        raise ApiError(f"The model '{traits.model}' takes no pictures.", param=asked.images[0][0])
    _check_format(asked, traits)


def _check_parts(asked: ChatRequest) -> None:
    for i, message in enumerate(asked.messages):
        if isinstance(message, ToolMessage) or (isinstance(message, AssistantMessage) and message.tool_calls):
            raise not_acted_out("tools")
        if isinstance(message, AssistantMessage) and message.content is None and message.refusal is None:
            raise ApiError(f"Missing required parameter: 'messages[{i}].content'.", param=f"messages[{i}].content")
        if isinstance(message, UserMessage) and isinstance(message.content, list):
            for part in message.content:
                if isinstance(part, AudioPart | FilePart):
                    raise not_acted_out(part.type)


def _check_limits(asked: ChatRequest, traits: ChatTraits) -> None:
    if asked.max_tokens is not None and asked.max_completion_tokens is not None:
        raise ApiError("'max_tokens' and 'max_completion_tokens' do not go together.", param="max_tokens")
    if traits.reasoning:
        if asked.max_tokens is not None:
            raise ApiError(
                "Unsupported parameter: 'max_tokens' with this model; it takes 'max_completion_tokens'.",
                param="max_tokens",
                code="unsupported_parameter",
            )
        if asked.temperature not in (None, 1, 1.0):
            raise ApiError(
                "Unsupported value: this model takes only the default 'temperature' of 1.",
                param="temperature",
                code="unsupported_value",
            )
    elif asked.reasoning_effort is not None:
        raise unknown_parameter("reasoning_effort")
    elif asked.verbosity not in (None, "medium"):
        raise ApiError(
            "Unsupported value for 'verbosity' with this model.", param="verbosity", code="unsupported_value"
        )
    if asked.limit is not None and asked.limit > traits.max_completion_tokens:
        name = "max_tokens" if asked.max_tokens is not None else "max_completion_tokens"
        raise ApiError(
            f"{name} is too large: {asked.limit}. This model gives {traits.max_completion_tokens} at most.",
            param=name,
            code="invalid_value",
        )


def _check_format(asked: ChatRequest, traits: ChatTraits) -> None:
    match asked.response_format:
        case JsonObjectFormat() if "json" not in asked.text.lower():
            raise ApiError("With 'json_object' a message must say the word 'json'.", param="messages")
        case JsonSchemaFormat(json_schema=wanted):
            if not traits.structured:
                raise ApiError("'json_schema' is not supported with this model.", param="response_format")
            if wanted.schema_ is None:
                where = "response_format.json_schema.schema"
                raise ApiError(
                    f"Missing required parameter: '{where}'.", param=where, code="missing_required_parameter"
                )
