"""The ledger of paid calls, and the sandbox as a program."""

from __future__ import annotations

import signal
from pathlib import Path

import httpx
import openai
import pytest
from openai import OpenAI

from sandbox.app import create_app
from sandbox.faults import Fault
from sandbox.serving import in_process, running
from tests.integration.sandbox.stand import FAST, SEARCH, Stand, draw, look


def test_each_paid_call_is_in_the_ledger_with_its_price_and_its_task(stand: Stand) -> None:
    headers = {"X-Task-Id": "task-7", "Idempotency-Key": "k1", "X-Client-Request-Id": "c1"}
    stand.openai.chat.completions.create(model="gpt-4o", messages=look(), extra_headers=headers)
    draw(stand)
    draw(stand)
    chat, first, second = stand.http.get("/ledger").json()
    assert (chat["what"], chat["model"], chat["task_id"]) == ("chat", "gpt-4o", "task-7")
    assert (chat["idempotency_key"], chat["client_request_id"]) == ("k1", "c1")
    assert [entry["what"] for entry in (first, second)] == ["images.edits"] * 2
    assert first["digest"] == second["digest"] != chat["digest"]
    assert all(entry["answered"] and entry["usd"] > 0 for entry in (chat, first, second))
    assert [entry["n"] for entry in (chat, first, second)] == [1, 2, 3]
    assert stand.http.delete("/ledger").json() == []
    assert stand.http.get("/ledger").json() == []


def test_what_was_asked_is_logged_refusals_too(stand: Stand) -> None:
    stand.http.get(SEARCH)
    stand.fails("openai.images", "reset")
    with pytest.raises(openai.APIConnectionError):
        draw(stand)
    asked = [(row["path"], row["status"]) for row in stand.http.get("/requests").json()]
    assert asked == [(SEARCH, 401), ("/openai/v1/images/edits", None)]


async def test_it_runs_beside_asynchronous_tests() -> None:
    app = create_app(FAST, faults=[Fault(where="openai.chat", kind="refusal")])
    async with running(app) as url, openai.AsyncOpenAI(api_key="k", base_url=f"{url}/openai/v1") as client:
        answer = await client.chat.completions.create(model="gpt-4o", messages=look())
    assert answer.choices[0].message.refusal


def test_a_ledger_file_survives_a_kill_in_the_middle_of_a_paid_call(tmp_path: Path) -> None:
    file = tmp_path / "ledger.jsonl"
    arguments = ("--latency", "images=600,chat=0", "--ledger", str(file))
    with in_process(*arguments) as (url, process):
        with OpenAI(api_key="k", base_url=f"{url}/openai/v1", max_retries=0) as client:
            client.chat.completions.create(model="gpt-4o", messages=look())
            with pytest.raises(openai.APITimeoutError):
                client.images.generate(model="dall-e-3", prompt="a desk", timeout=1)
        entries = httpx.get(f"{url}/ledger", params={"at_least": 2}, trust_env=False).json()
        assert [entry["answered"] for entry in entries] == [True, False]
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    with in_process(*arguments) as (url, _):
        entries = httpx.get(f"{url}/ledger", trust_env=False).json()
    assert [(entry["what"], entry["answered"], entry["ended"] is None) for entry in entries] == [
        ("chat", True, False),
        ("images.generations", False, True),
    ]


@pytest.mark.parametrize(
    "arguments", [["--latency", "soon"], ["--latency", "dreams=1"], ["--latency", "-1"], ["--callback-secret", "x"]]
)
def test_a_setting_that_makes_no_sense_is_named(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    from sandbox.__main__ import main

    with pytest.raises(SystemExit):
        main(arguments)
    assert arguments[0] in capsys.readouterr().err
