"""Logs and request ids."""

import json
import logging
from typing import Any

import pytest
import structlog

from deskterior import telemetry


@pytest.mark.parametrize("given", ["abc-1", "00-4bf9.a:b_c", "x" * 128])
def test_a_sane_request_id_is_kept(given: str) -> None:
    assert telemetry.request_id(given) == given


@pytest.mark.parametrize("given", [None, "", "x" * 129, "a b", 'a"}\n{"level":"x', "ä"])
def test_another_request_id_is_replaced(given: str | None) -> None:
    made = telemetry.request_id(given)
    assert made != given
    assert len(made) == 32


class Logged:
    """Logging as the service does it, while a test runs, and the lines that it wrote."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __enter__(self) -> None:
        # Not in a fixture's set-up: pytest has other handlers and streams then.
        root = logging.getLogger()
        self._before, self._level = root.handlers[:], root.level
        telemetry.configure_logging("info", "json")

    def __exit__(self, *_: object) -> None:
        root = logging.getLogger()
        root.handlers[:] = self._before
        root.setLevel(self._level)
        structlog.reset_defaults()

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._capsys.readouterr().out.splitlines()]


@pytest.fixture
def logged(capsys: pytest.CaptureFixture[str]) -> Logged:
    return Logged(capsys)


def test_lines_of_both_kinds_are_json_and_hold_no_signature(logged: Logged) -> None:
    with logged, structlog.contextvars.bound_contextvars(request_id="r-1"):
        structlog.get_logger("a").info("fetched", url="https://b.example/x.jpg?X-Amz-Signature=secret", 이름="책상")
        extra = {"color_message": "\u001b[36msee\u001b[0m"}
        logging.getLogger("bentoml").warning("see https://b.example/x.jpg?sig=secret now", extra=extra)
    first, second = logged.lines()
    assert first["url"] == "https://b.example/x.jpg?…"
    assert first["이름"] == "책상"
    assert first["request_id"] == second["request_id"] == "r-1"
    assert second["event"] == "see https://b.example/x.jpg?… now"
    assert "color_message" not in second


@pytest.mark.parametrize(
    "value",
    [
        "HTTPS://B.example/x.jpg?X-Amz-Signature=secret",
        "https://b.example/x.jpg#secret",
        "https://user:secret@b.example/x.jpg",
        "postgresql+psycopg://user:secret@db/jobs",
        {"urls": ["https://b.example/x.jpg?sig=secret"]},
        ("https://b.example/x.jpg?sig=secret",),
        b"https://b.example/x.jpg?sig=secret",
        ValueError("https://b.example/x.jpg?sig=secret"),
    ],
)
def test_whatever_an_address_is_in_its_secrets_are_cut(value: object, logged: Logged) -> None:
    with logged:
        structlog.get_logger("a").info("odd", value=value)
    (line,) = logged.lines()
    assert "secret" not in str(line)
    assert "b.example" in str(line).lower() or "@db/jobs" in str(line)


def test_a_traceback_holds_no_signature(logged: Logged) -> None:
    try:
        int("https://b.example/x.jpg?sig=secret")
    except ValueError:
        with logged:
            structlog.get_logger("a").exception("crashed")
    (line,) = logged.lines()
    assert "ValueError" in line["exception"]
    assert "sig=secret" not in line["exception"]


def test_what_a_stranger_sends_cannot_forge_or_stop_a_line(logged: Logged) -> None:
    with logged:
        structlog.get_logger("a").info("request", path='/x"}\n{"event": "forged"}', half="\ud800")
    (line,) = logged.lines()
    assert line["event"] == "request"
