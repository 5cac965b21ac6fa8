"""What can go wrong, as one tree; each leaf is one `type` of the wire contract (RFC 9457).

DeskteriorError
├── ClientError                the caller can mend it
│   ├── Unauthenticated 401 · Forbidden 403 · NotFound 404 · MethodNotAllowed 405
│   ├── IdempotencyConflict 409 · TaskNotFinished 409 · TaskFinished 409 · TaskCancelled 409
│   ├── BodyTooLarge 413 · Invalid 422 · RateLimited 429
│   ├── NotHttp 400 · RequestCutOff 400 · RequestTimeout 408 · AddressTooLong 414 · HeadersTooLarge 431
│   └── PhotoError             the photo is at fault
│       ├── PhotoTooLarge 413 · PhotoTypeUnsupported 415
│       └── PhotoUnreadable 422 · PhotoUrlForbidden 422 · PhotoUnreachable 422 · NotADesk 422
└── ServerError                the caller cannot
    ├── InternalError 500 · RunnerFailed 500 · StorageFailed 500
    ├── Overloaded 503 · CustomModelMissing 503 · ProviderNotConfigured 503 · SpendingCapReached 503
    ├── IssuerAway 503 · AnswerTimeout 504
    └── ProviderError          an outside service is at fault
        └── ProviderFailed 502 · ProviderRefused 502 · ProviderTimeout 504

`detail` is public: it names what is wrong and how to mend it, and holds no secret, address signature or upstream body.
What only the log may know goes into `internal`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from deskterior.schemas import CostItem


class DeskteriorError(Exception):
    """Base of every error that this project raises on purpose.

    `detail` is shown to the client. `retry_after` is in seconds, for the header of the same name. `internal` goes to
    the log alone.
    """

    status: ClassVar[int] = 500
    slug: ClassVar[str] = "internal"
    title: ClassVar[str] = "Something failed inside the service"
    headers: tuple[tuple[bytes, bytes], ...] = ()
    """What the answer says besides."""

    def __init__(self, detail: str = "", *, retry_after: float | None = None, internal: str = "") -> None:
        self.detail = detail or self.title
        self.retry_after = retry_after
        self.internal = internal
        super().__init__(self.detail)

    def __reduce__(self) -> tuple[Any, ...]:
        # Durable jobs pickle their errors; keyword arguments must survive that.
        return _rebuild, (type(self), self.__dict__ | {"args": self.args})

    def problem(self, request_id: str | None = None) -> dict[str, Any]:
        """The error as an RFC 9457 object, ready for JSON."""
        return {
            "type": f"/problems/{self.slug}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "request_id": request_id,
        }


def _rebuild(kind: type[DeskteriorError], state: dict[str, Any]) -> DeskteriorError:
    error = kind.__new__(kind)
    error.args = state.pop("args")
    error.__dict__.update(state)
    return error


class ClientError(DeskteriorError):
    status = 400
    slug = "bad-request"
    title = "The request is wrong"


class Unauthenticated(ClientError):
    status, slug, title = 401, "unauthenticated", "No key, or a wrong one"


class Forbidden(ClientError):
    status, slug, title = 403, "forbidden", "This is not allowed"


class NotFound(ClientError):
    status, slug, title = 404, "not-found", "There is nothing here"


class MethodNotAllowed(ClientError):
    status, slug, title = 405, "method-not-allowed", "This path does not take this method"


class IdempotencyConflict(ClientError):
    status, slug, title = 409, "idempotency-conflict", "This Idempotency-Key was used with another body"


class TaskNotFinished(ClientError):
    status, slug, title = 409, "task-not-finished", "The task has not finished"


class TaskFinished(ClientError):
    status, slug, title = 409, "task-finished", "The task has finished already"


class TaskCancelled(ClientError):
    status, slug, title = 409, "task-cancelled", "The task was cancelled"


class BodyTooLarge(ClientError):
    status, slug, title = 413, "body-too-large", "The request body is too large"


class Invalid(ClientError):
    """A body, parameter or header that does not fit the schema; `errors` says where, and `detail` too if not given."""

    status, slug, title = 422, "validation", "The request does not fit the schema"

    def __init__(self, detail: str = "", *, errors: list[dict[str, str]] | None = None) -> None:
        self.errors = errors or []
        super().__init__(detail or "; ".join(f"{item['field']}: {item['message']}" for item in self.errors[:5]))

    def problem(self, request_id: str | None = None) -> dict[str, Any]:
        return super().problem(request_id) | {"errors": self.errors}


class RateLimited(ClientError):
    status, slug, title = 429, "rate-limited", "Too many requests"


class NotHttp(ClientError):
    status, slug, title = 400, "not-http", "This is not HTTP/1.1"


class RequestCutOff(ClientError):
    status, slug, title = 400, "request-cut-off", "The client hung up before the request was whole"


class RequestTimeout(ClientError):
    status, slug, title = 408, "request-timeout", "The request took too long to arrive"


class AddressTooLong(ClientError):
    status, slug, title = 414, "uri-too-long", "The address of the request is too long"


class HeadersTooLarge(ClientError):
    status, slug, title = 431, "headers-too-large", "The headers of the request are too large"


class PhotoError(ClientError):
    """The photo, or its address, is at fault."""


class PhotoTooLarge(PhotoError):
    status, slug, title = 413, "photo-too-large", "The photo is too large"


class PhotoTypeUnsupported(PhotoError):
    status, slug, title = 415, "photo-type-unsupported", "This is not a JPEG, PNG, WebP or HEIC photo"


class PhotoUnreadable(PhotoError):
    status, slug, title = 422, "photo-unreadable", "The photo cannot be decoded"


class PhotoUrlForbidden(PhotoError):
    status, slug, title = 422, "photo-url-forbidden", "Photos are not fetched from this address"


class PhotoUnreachable(PhotoError):
    status, slug, title = 422, "photo-unreachable", "The photo could not be fetched"


class NotADesk(PhotoError):
    status, slug, title = 422, "not-a-desk", "The photo does not show a desk"


class ServerError(DeskteriorError):
    """The caller cannot mend it."""


class InternalError(ServerError):
    pass


class RunnerFailed(ServerError):
    slug, title = "runner-failed", "The model failed on this photo"


class StorageFailed(ServerError):
    slug, title = "storage-failed", "The picture store failed"


class Overloaded(ServerError):
    status, slug, title = 503, "overloaded", "The service is busy"


class CustomModelMissing(ServerError):
    status, slug, title = 503, "custom-model-missing", "No drawing model of our own is installed"


class ProviderNotConfigured(ServerError):
    status, slug, title = 503, "provider-not-configured", "An outside service is not configured"


class SpendingCapReached(ServerError):
    status, slug, title = 503, "spending-cap-reached", "Today's spending limit is reached"


class IssuerAway(ServerError):
    status, slug, title = 503, "issuer-away", "Tokens cannot be checked just now"


class AnswerTimeout(ServerError):
    status, slug, title = 504, "answer-timeout", "The service took too long to answer"


class ProviderError(ServerError):
    """An outside service is at fault. `provider` names it.

    `safe_to_retry`: it is certain that nothing was billed, and another try may help. `cost`: what the failed call is
    known, or has to be assumed, to have cost; it counts for the day's spending like a call that succeeded.
    """

    def __init__(
        self,
        detail: str = "",
        *,
        provider: str = "",
        retry_after: float | None = None,
        internal: str = "",
        safe_to_retry: bool = False,
        cost: CostItem | None = None,
    ) -> None:
        super().__init__(detail, retry_after=retry_after, internal=internal)
        self.provider = provider
        self.safe_to_retry = safe_to_retry
        self.cost = cost


class ProviderFailed(ProviderError):
    status, slug, title = 502, "provider-failed", "An outside service failed"


class ProviderRefused(ProviderError):
    status, slug, title = 502, "provider-refused", "An outside service refused by its content policy"


class ProviderTimeout(ProviderError):
    status, slug, title = 504, "provider-timeout", "An outside service did not answer in time"
