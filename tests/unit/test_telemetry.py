"""Logs and request ids."""

import json
import logging
import time
from typing import Any

import pytest
import structlog

from deskterior import concealed, telemetry
from deskterior.config import Settings


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

    def __init__(self, capsys: pytest.CaptureFixture[str], level: str = "info", form: str = "json") -> None:
        self._capsys = capsys
        self._wanted, self._form = level, form

    def __enter__(self) -> None:
        # Not in a fixture's set-up: pytest has other handlers and streams then.
        root = logging.getLogger()
        self._before, self._level = root.handlers[:], root.level
        telemetry.configure_logging(self._wanted, self._form)

    def __exit__(self, *_: object) -> None:
        root = logging.getLogger()
        root.handlers[:] = self._before
        root.setLevel(self._level)
        for name in (*telemetry.OURS, *telemetry.LOUD):
            logging.getLogger(name).setLevel(logging.NOTSET)
        structlog.reset_defaults()

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._capsys.readouterr().out.splitlines()]


@pytest.fixture
def logged(capsys: pytest.CaptureFixture[str]) -> Logged:
    return Logged(capsys)


def test_lines_of_both_kinds_are_json_and_hold_no_signature(logged: Logged) -> None:
    with logged, structlog.contextvars.bound_contextvars(request_id="r-1"):
        structlog.get_logger("deskterior.a").info(
            "fetched", url="https://b.example/x.jpg?X-Amz-Signature=secret", 이름="책상"
        )
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
        structlog.get_logger("deskterior.a").info("odd", value=value)
    (line,) = logged.lines()
    assert "secret" not in str(line)
    assert "b.example" in str(line).lower() or "@db/jobs" in str(line)


@pytest.mark.parametrize("repeated", ["http://", "=/", "(/", "http://a@", "/?", "?/"])
def test_no_text_holds_the_log_up(repeated: str, logged: Logged) -> None:
    began = time.process_time()
    with logged:
        structlog.get_logger("deskterior.a").info("odd", value=repeated * 10_000 + " :// ?")
    assert logged.lines()[0]["event"] == "odd"
    assert time.process_time() - began < 1  # by its square it was five


def test_a_traceback_holds_no_signature(logged: Logged) -> None:
    try:
        int("https://b.example/x.jpg?sig=secret")
    except ValueError:
        with logged:
            structlog.get_logger("deskterior.a").exception("crashed")
    (line,) = logged.lines()
    assert "ValueError" in line["exception"]
    assert "sig=secret" not in line["exception"]


def test_what_a_stranger_sends_cannot_forge_or_stop_a_line(logged: Logged) -> None:
    with logged:
        structlog.get_logger("deskterior.a").info("request", path='/x"}\n{"event": "forged"}', half="\ud800")
    (line,) = logged.lines()
    assert line["event"] == "request"


@pytest.mark.parametrize("form", ["json", "console"])
def test_nothing_steers_the_terminal_of_whoever_reads(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    steering = "\x1b]0;owned\x07\x9b31m\u061c\u2028\u202e\x7f\r"
    logged = Logged(capsys, form=form)
    with logged:
        structlog.get_logger("deskterior.a").info("request", path=f"/{steering}", of=[{"agent": steering}])
        logging.getLogger("uvicorn.error").warning("odd %s", f"/x\n2026 [info] forged{steering}")
        try:
            int(steering)
        except ValueError:
            structlog.get_logger("deskterior.a").exception("crashed")
    said = capsys.readouterr().out
    assert not [letter for letter in set(steering) if not letter.isprintable() and letter in said]
    lines = said.splitlines()
    assert not [line for line in lines if line.startswith("2026 [info] forged")]
    assert len(lines) == 3 if form == "json" else any("Traceback" in line for line in lines)
    parsed = json.loads(lines[0])["path"] if form == "json" else said
    assert r"\x1b]0;owned\x07\x9b31m\u061c\u2028\u202e\x7f\r" in parsed


def test_libraries_do_not_tell_of_every_call_at_any_level(capsys: pytest.CaptureFixture[str]) -> None:
    logged = Logged(capsys, "debug")
    with logged:
        for name in ("httpx", "openai._base_client", "botocore.endpoint", "sqlalchemy.engine", "websockets", "any"):
            logging.getLogger(name).debug("headers: Authorization")
            logging.getLogger(name).info("SELECT")
        structlog.get_logger("deskterior.a").debug("ours")
        logging.getLogger("uvicorn.error").info('"WebSocket /tasks?token=secret&x=1" 403')
    ours, server = logged.lines()
    assert ours["event"] == "ours"
    assert server["event"] == '"WebSocket /tasks?…" 403'


@pytest.mark.parametrize("spelled", ["pa/ss word+1", "pa%2Fss%20word%2B1", "pa/ss%20word%2B1"])
def test_a_secret_that_another_repeats_is_cut(spelled: str, logged: Logged) -> None:
    concealed.conceal(["pa/ss word+1", "", "short"])
    with logged:
        structlog.get_logger("deskterior.a").error("failed", internal=f"Incorrect API key: {spelled}.", of=[spelled])
        structlog.get_logger("deskterior.a").info("a short word stays")
    line, other = logged.lines()
    assert line["internal"] == "Incorrect API key: [secret]."
    assert line["of"] == ["[secret]"]
    assert other["event"] == "a short word stays"


def test_the_settings_know_their_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of-the-sdk")
    settings = Settings(
        _env_file=None,
        openai_api_key="sk-1",
        database_url="postgresql://user:p%40ss@db/jobs",
        callback_url="https://user:basic@backend/x",
        api_keys='[{"name":"backend","hash":"0123456789abcdef0"}, {"hash": "0123456789abcdef1"}]',
        callback_secret="whsec_c2VjcmV0",
    )
    found = {secret for secret in concealed.secrets_of(settings) if secret}
    wanted = {"sk-1", "p%40ss", "p@ss", "basic", "0123456789abcdef0", "0123456789abcdef1", "c2VjcmV0", "of-the-sdk"}
    assert wanted <= found
    assert not {"user", "db", "jobs", "backend", "name"} & found
