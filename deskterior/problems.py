"""Errors as answers: the one shape (RFC 9457) of every process that speaks HTTP here, the API and the runners."""

from __future__ import annotations

import json
import math

from deskterior.errors import (
    BodyTooLarge,
    ClientError,
    DeskteriorError,
    InternalError,
    Invalid,
    MethodNotAllowed,
    NotFound,
    Overloaded,
)


def problem_response(error: DeskteriorError, request_id: str | None) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Headers and body of an RFC 9457 answer."""
    body = json.dumps(error.problem(request_id), ensure_ascii=False).encode("utf-8", "replace")
    headers = [(b"content-type", b"application/problem+json"), (b"content-length", str(len(body)).encode())]
    headers.extend(error.headers)
    if error.retry_after is not None:
        headers.append((b"retry-after", str(max(1, math.ceil(error.retry_after))).encode()))
    return headers, body


def of_status(status: int, detail: str = "") -> DeskteriorError:
    """The error for a status that came without one of ours. 400 is 422: a body that does not parse does not fit."""
    match status:
        case 404:
            return NotFound("There is nothing at this path; see /docs")
        case 405:
            return MethodNotAllowed("See the Allow header, or /docs")
        case 413:
            return BodyTooLarge(detail)
        case 400 | 422:
            detail = detail or "The request cannot be read"
            return Invalid(detail, errors=[{"field": "body", "message": detail}])
        case 429 | 503:
            return Overloaded("The service is not ready; try again shortly", retry_after=2)
        case _ if 400 <= status < 500:
            error = ClientError(detail)
        case _:
            return InternalError()
    error.status = status  # type: ignore[misc]
    return error
