"""OpenAI's one error shape, and what pydantic found wrong with a request told in it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from pydantic import ValidationError

from sandbox.exchange import Reply, json_reply, waiting_headers
from sandbox.faults import Fault

_SHOWN = 60


class ApiError(Exception):
    """A refusal: `{"error": {"message", "type", "param", "code"}}`."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.kind = kind
        self.param = param
        self.code = code
        self.headers = headers or {}

    def reply(self) -> Reply:
        error = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
        return json_reply({"error": error}, self.status, self.headers)


def not_acted_out(name: str) -> ApiError:
    """The real service does it, this stand-in does not: said aloud rather than ignored."""
    return ApiError(f"The sandbox does not act out '{name}'.", param=name, code="sandbox_unsupported")


def unknown_parameter(name: str) -> ApiError:
    return ApiError(f"Unknown parameter: '{name}'.", param=name, code="unknown_parameter")


def invalid_value(param: str, value: object, supported: Sequence[str]) -> ApiError:
    names = ", ".join(f"'{name}'" for name in supported)
    return ApiError(
        f"Invalid value: '{_short(value)}'. Supported values are: {names}.", param=param, code="invalid_value"
    )


def model_not_found(model: str) -> ApiError:
    return ApiError(
        f"The model '{_short(model)}' does not exist or you do not have access to it.",
        status=404,
        code="model_not_found",
    )


def from_validation(error: ValidationError, body: object) -> ApiError:
    """The first thing wrong with `body`, as OpenAI tells it."""
    first = error.errors(include_url=False)[0]
    kind, param = first["type"], _param(first["loc"], body)
    context = first.get("ctx", {})
    if kind == "missing":
        return ApiError(f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter")
    if kind == "extra_forbidden":
        return unknown_parameter(param)
    if kind in {"literal_error", "union_tag_invalid"}:
        supported = re.findall(r"'([^']*)'", str(context.get("expected") or context.get("expected_tags")))
        value = context.get("tag", first["input"])
        where = f"{param}.{_unquote(context['discriminator'])}" if "discriminator" in context else param
        return invalid_value(where, value, supported)
    if kind == "union_tag_not_found":
        where = f"{param}.{_unquote(context['discriminator'])}"
        return ApiError(f"Missing required parameter: '{where}'.", param=where, code="missing_required_parameter")
    if kind.endswith("_type"):
        return ApiError(
            f"Invalid type for '{param}': {first['msg']}, but got {_json_type(first['input'])}.",
            param=param,
            code="invalid_type",
        )
    code = _BOUNDS.get(kind, "invalid_value")
    return ApiError(f"Invalid '{param}': {first['msg'].removeprefix('Value error, ')}.", param=param, code=code)


_BOUNDS = {
    "greater_than_equal": "decimal_below_min_value",
    "less_than_equal": "decimal_above_max_value",
    "string_too_short": "string_below_min_length",
    "string_too_long": "string_above_max_length",
    "too_short": "array_below_min_length",
    "too_long": "array_above_max_length",
}


def _param(loc: tuple[int | str, ...], body: object) -> str:
    """`messages[0].content[1].type`: pydantic's path without the names of union branches, which the body lacks."""
    path, here = "", body
    for i, step in enumerate(loc):
        last = i == len(loc) - 1
        if isinstance(step, int):
            path += f"[{step}]"
            here = here[step] if isinstance(here, list) and step < len(here) else None
        elif isinstance(here, dict) and (step in here or last):
            path += f".{step}" if path else step
            here = here.get(step)
    return path


def _unquote(name: object) -> str:
    return str(name).strip("'").removesuffix("()")


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _json_type(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int():
            return "an integer"
        case float():
            return "a decimal"
        case str():
            return "a string"
        case list():
            return "an array"
        case _:
            return "an object"


def refusal(fault: Fault) -> Reply:
    """A fault in OpenAI's shape."""
    headers = waiting_headers(fault)
    if fault.kind == "rate-limit":
        message, status, kind, code = "Rate limit reached: too many requests.", 429, "requests", "rate_limit_exceeded"
        headers |= {"x-ratelimit-remaining-requests": "0"}
    elif fault.kind == "quota":
        message, status = "The quota of this account is used up.", 429
        kind = code = "insufficient_quota"
    elif fault.kind == "content-policy":
        message, status = "The request was rejected by the safety system.", 400
        kind, code = "invalid_request_error", "content_policy_violation"
        if fault.code == "moderation_blocked":
            kind = "image_generation_user_error"
    else:
        status = fault.status or 500
        message = "The server had an error while processing the request." if status >= 500 else "The request failed."
        kind, code = ("server_error" if status >= 500 else "invalid_request_error"), ""
    error = ApiError(
        fault.message or message,
        status=fault.status or status,
        kind=kind,
        code=fault.code or code or None,
        headers=headers,
    )
    return error.reply()
