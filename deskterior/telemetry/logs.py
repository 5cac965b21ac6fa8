"""Structured logs: a JSON object a line, with the ids of request, task and trace; BentoML's lines in the same shape."""

from __future__ import annotations

import io
import logging
import re
import sys
import uuid
from collections.abc import Callable
from typing import Any

import structlog

from deskterior.concealed import without_secrets
from deskterior.telemetry import traces

_SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
# Up to the next blank or quotation mark: a user and a password, and a query or fragment.
_USER = re.compile(r"(?i)(https?|postgresql(?:\+\w+)?)://[^\s/?#\"'<>]*@")
# An address without a query is matched too, and left as it is: to look on within it took its length squared.
_QUERY = re.compile(r"(?i)(https?://[^\s?#\"'<>]+)([?#][^\s\"'<>]+)?")
# The same of a path alone, as servers log it.
_PATH_QUERY = re.compile(r"(?<![^\s\"'(=])(/[^\s?\"'<>]*)(\?[^\s\"'<>]+)?")
# What steers a terminal, ends a line or turns one round: controls, line separators, and marks of direction.
_STEERING = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_TRACEBACKS = frozenset({"exception", "stack"})
OURS = ("deskterior", "runners", "sandbox", "service")
LOUD = ("bentoml", "uvicorn", "uvicorn.error", "dbos")
"""Others that say what somebody who operates the service wants to know."""


def request_id(given: str | None) -> str:
    """The client's own id when it is sane (128 letters, digits and `._:-` at most), otherwise a new one."""
    if given and _SANE_REQUEST_ID.fullmatch(given):
        return given
    return uuid.uuid4().hex


def trace_ids(_: Any, __: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    """With the ids of the open span, where traces are on."""
    event.update(traces.ids())
    return event


def plain(_: Any, __: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    """Without uvicorn's second copy of a line, in colours."""
    event.pop("color_message", None)
    return event


def cut_secrets(_: Any, __: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    """Cut the secrets we know out of a log line, and off every address what may be one: queries are signatures, users
    have passwords.
    """
    return {key: _in_each(value, _cut) for key, value in event.items()}


def _cut(text: str) -> str:
    if "://" in text:
        text = _QUERY.sub(_without_query, _USER.sub(r"\1://…@", text))
    if "?" in text:
        text = _PATH_QUERY.sub(_without_query, text)
    return without_secrets(text)


def _without_query(address: re.Match[str]) -> str:
    return f"{address[1]}?…" if address[2] else address[0]


def harmless(_: Any, __: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    """Spell out what would steer the terminal of whoever reads a line, or look like another one. A path, for one, may
    hold anything. Of tracebacks only the lines stay lines.
    """
    return {key: _in_each(value, _spelt_lines if key in _TRACEBACKS else _spelt) for key, value in event.items()}


def _spelt(text: str) -> str:
    return _STEERING.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def _spelt_lines(text: str) -> str:
    return "\n".join(map(_spelt, text.split("\n")))


def _in_each(value: object, change: Callable[[str], str]) -> object:
    """`value` with every text in it changed."""
    match value:
        case str():
            return change(value)
        case dict():
            return {key: _in_each(item, change) for key, item in value.items()}
        case list() | tuple():
            return [_in_each(item, change) for item in value]
        case bytes() | BaseException():
            return change(repr(value))
        case _:
            return value


def configure_logging(level: str, form: str) -> None:
    """Send structlog's and the standard library's lines to stdout in one shape.

    `form` is `json` or `console`. Call it after BentoML has set up its own logging: it replaces those handlers.
    """
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        trace_ids,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        plain,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        cut_secrets,
        harmless,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    render: structlog.types.Processor = (
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty())
    )
    if isinstance(sys.stdout, io.TextIOWrapper):  # what its encoding has no letters for stays a line
        sys.stdout.reconfigure(errors="backslashreplace")
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    wanted = logging.getLevelNamesMapping()[level.upper()]
    # Libraries tell of every call, with its address, headers and body, at levels that are fine for our own lines.
    root.setLevel(max(logging.WARNING, wanted))
    for name in OURS:
        logging.getLogger(name).setLevel(wanted)
    for name in LOUD:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(max(logging.INFO, wanted))
    logging.getLogger("circus").handlers.clear()  # it has its level from BentoML, and its lines come once
    logging.getLogger("uvicorn.access").setLevel(max(logging.WARNING, wanted))  # Front logs what comes in
