"""Logs and request ids."""

import json
import logging

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


def test_lines_of_both_kinds_are_json_and_hold_no_signature(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        telemetry.configure_logging("info", "json")
        with structlog.contextvars.bound_contextvars(request_id="r-1"):
            structlog.get_logger("a").info("fetched", url="https://b.example/x.jpg?X-Amz-Signature=secret", 이름="책상")
            logging.getLogger("bentoml").warning("see https://b.example/x.jpg?sig=secret now")
    finally:
        root.handlers[:] = before
        root.setLevel(level)
        structlog.reset_defaults()
    first, second = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert first["url"] == "https://b.example/x.jpg?…"
    assert first["이름"] == "책상"
    assert first["request_id"] == second["request_id"] == "r-1"
    assert "secret" not in second["event"]
