"""What `fuzz.api` teaches Schemathesis of this API: photos that exist, and what every error must look like."""

from __future__ import annotations

import atexit
import itertools
import json
import os
from collections import Counter
from typing import Any

import schemathesis
from schemathesis import Case, CheckContext, GenerationMode, HookContext, Response

from deskterior import errors

PHOTO = os.environ.get("FUZZ_PHOTO", "")
"""Address of a photo of a desk."""
_counter = itertools.count()
_answers: Counter[str] = Counter()
atexit.register(lambda: print("fuzz.api: answers:", ", ".join(f"{n} x {kind}" for kind, n in _answers.most_common())))


def _slugs(kind: type[errors.DeskteriorError]) -> set[str]:
    return {kind.slug}.union(*(_slugs(each) for each in kind.__subclasses__()))


@schemathesis.hook
def before_call(context: HookContext, case: Case[Any], kwargs: dict[str, Any]) -> None:  # noqa: ARG001 - its form
    """Every other photo is one that can be fetched: behind the refusal of made-up addresses is the most to find.

    Only in a body that fits the document: in another one the address may be what does not.
    """
    body, meta = case.body, case.meta
    if not PHOTO or not isinstance(body, dict) or meta is None or meta.generation.mode is not GenerationMode.POSITIVE:
        return
    for name in ("image_url", "initial_image_url"):
        if body.get(name) and next(_counter) % 2:
            case.body = {**body, name: PHOTO}


@schemathesis.check
def every_error_is_a_named_problem(
    ctx: CheckContext,  # noqa: ARG001
    response: Response,
    case: Case[Any],
) -> None:
    """RFC 9457, of one of our own kinds; a crash is none, though it has the shape."""
    _answers[f"{case.method} {response.status_code}"] += 1
    assert response.headers.get("x-request-id"), "no X-Request-ID"
    if response.status_code < 400 or (response.status_code == 503 and "/health" in case.path):
        return
    kind = response.headers.get("content-type", [""])[0]
    assert kind == "application/problem+json", f"an error as {kind}"
    if case.method == "HEAD":
        return
    problem = json.loads(response.content)
    slug = str(problem["type"]).removeprefix("/problems/")
    assert slug in _slugs(errors.DeskteriorError), f"a problem that errors.py does not name: {slug}"
    assert slug != errors.InternalError.slug, "a crash"
    assert problem["status"] == response.status_code
    assert problem["request_id"] in response.headers["x-request-id"]
    if slug in {errors.RateLimited.slug, errors.Overloaded.slug}:
        assert response.headers.get("retry-after"), f"{slug} without Retry-After"
