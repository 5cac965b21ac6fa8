"""Every family of figures that the code counts, in one place, so that names, labels and buckets are seen together.

A label has only values that the code or the settings name: never a path, an id, an address or a text from outside.
docs/telemetry.md is written from here, and from `deskterior.figures`.
"""

from __future__ import annotations

from deskterior.telemetry import folder

folder.use()

from prometheus_client import Counter, Gauge, Histogram  # noqa: E402 - only now does it know its folder

QUICK = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
"""Seconds of what a client waits for."""
LONG = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 60, 120, 300, 600)
"""Seconds of what outside services and queues take."""
SCORES = tuple(round(edge / 20, 2) for edge in range(1, 20))
"""As fine as the histogram of training in the model's card, and a part of its edges: drift compares the two."""
BYTES = tuple(float(16 * 1024 * 4**power) for power in range(7))

# Requests
REQUESTS = Counter("deskterior_requests", "Requests answered.", ["route", "method", "status"])
REQUEST_SECONDS = Histogram(
    "deskterior_request_seconds",
    "From a request's head to the end of its answer.",
    ["route", "method"],
    buckets=(*QUICK, 30, 60, 120, 300),
)
IN_FLIGHT = Gauge(
    "deskterior_requests_in_flight",
    "Requests being answered now, by whose place they take.",
    ["kind"],
    multiprocess_mode="livesum",
)
PROBLEMS = Counter("deskterior_problems", "Answers that were a problem (RFC 9457), by its slug.", ["slug"])
RATE_LIMITED = Counter("deskterior_rate_limited", "Requests refused by a limit of so many a minute.", ["limit"])

# Photos
PHOTO_SECONDS = Histogram(
    "deskterior_photo_seconds",
    "Time to download or to decode a photo, the wait for a place included.",
    ["step"],
    buckets=QUICK,
)
PHOTO_BYTES = Histogram("deskterior_photo_bytes", "Size of the photos that came.", buckets=BYTES)
PHOTOS_REFUSED = Counter("deskterior_photos_refused", "Photos that could not be used, by the problem's slug.", ["slug"])

# The classifier
VERDICTS = Counter("deskterior_verdicts", "Photos looked at, by whether they show a desk.", ["verdict"])
SCORE = Histogram("deskterior_score", "Scores of the photos looked at.", ["model"], buckets=SCORES)
DESK_BATCH_SIZE = Histogram(
    "desk_classifier_batch_size", "Photos in a batch of the desk classifier.", buckets=(1, 2, 4, 8, 16, 32, 64)
)
DESK_WAIT_SECONDS = Histogram("desk_classifier_wait_seconds", "How long a photo waited for its batch.", buckets=QUICK)
DESK_BATCH_SECONDS = Histogram("desk_classifier_batch_seconds", "Time of a batch in the model.", buckets=QUICK)

# Our own drawing model
DRAWING_BATCH_SIZE = Histogram(
    "drawing_model_batch_size", "Pictures in a batch of the drawing model.", buckets=(1, 2, 3, 4, 6, 8, 12, 16)
)
DRAWING_SECONDS = Histogram(
    "drawing_model_seconds_per_picture",
    "Time of a batch over its pictures.",
    buckets=(0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300),
)
DRAWING_STEPS = Counter("drawing_model_steps", "Denoising steps, counted for each picture.")
DRAWING_WAITING = Gauge("drawing_model_queue_length", "Pictures that wait to be drawn.", multiprocess_mode="livesum")

# Makeovers
QUEUE_SECONDS = Histogram(
    "deskterior_queue_seconds", "How long a makeover waited for a place.", ["kind"], buckets=(0.01, 0.05, *LONG, 1800)
)
STAGE_SECONDS = Histogram(
    "deskterior_stage_seconds", "Time of a stage of a makeover.", ["stage", "outcome"], buckets=LONG
)
TASK_SECONDS = Histogram(
    "deskterior_task_seconds", "From a makeover's order to its end.", ["kind", "status"], buckets=(*LONG, 1800)
)
TASKS_ENDED = Counter(
    "deskterior_tasks_ended", "Makeovers that have ended; slug is the problem's.", ["kind", "status", "slug"]
)
CALLBACKS = Counter("deskterior_callbacks", "Tries to tell the backend, by what came of them.", ["outcome"])

# Outside
PROVIDER_CALLS = Counter(
    "deskterior_provider_calls",
    "Calls to outside services and runners, by what came of them.",
    ["provider", "model", "outcome"],
)
PROVIDER_SECONDS = Histogram(
    "deskterior_provider_seconds", "Time of these calls.", ["provider", "model"], buckets=(0.01, 0.05, *LONG)
)
PROVIDER_USD = Counter("deskterior_provider_usd", "USD that calls have cost, or are assumed to.", ["provider", "model"])

# Jobs
TAKEOVERS = Counter("deskterior_takeovers", "Dead executors whose jobs were taken over.")
JOBS_TAKEN_OVER = Counter("deskterior_jobs_taken_over", "Jobs taken over from dead executors.")
FENCED = Counter("deskterior_executors_fenced", "Times that an executor here was declared dead by others.")


def _begin_at_nought() -> None:
    """Make the series whose labels are known: of one that is born with its first event, the rate misses that event."""
    for verdict in ("desk", "not_desk"):
        VERDICTS.labels(verdict)
    for outcome in ("delivered", "failed", "given-up"):
        CALLBACKS.labels(outcome)
    for kind in ("v1", "v2"):
        QUEUE_SECONDS.labels(kind)
        TASK_SECONDS.labels(kind, "succeeded")
        TASKS_ENDED.labels(kind, "succeeded", "")
    for slug in ("overloaded", "rate-limited", "internal"):
        PROBLEMS.labels(slug)
    for slug in ("photo-unreachable", "photo-unreadable", "not-a-desk"):
        PHOTOS_REFUSED.labels(slug)
    for limit in ("key-requests", "key-generates", "address-requests", "failures"):
        RATE_LIMITED.labels(limit)


_begin_at_nought()
