"""The ledger of paid calls, in memory and across a kill."""

from __future__ import annotations

import json
from pathlib import Path

from sandbox.ledger import Ledger


def test_a_call_that_was_never_ended_stays_unanswered_and_without_a_price() -> None:
    ledger = Ledger()
    ledger.start("images.edits", "gpt-image-2.6-sunburst", "abc", task_id="t1")
    (entry,) = ledger.entries()
    assert (entry.n, entry.answered, entry.ended, entry.usd, entry.task_id) == (1, False, None, None, "t1")


def test_the_file_tells_each_state_at_once_and_is_taken_up_again(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "ledger.jsonl"
    ledger = Ledger(file)
    ledger.start("chat", "gpt-4o", "a")
    ledger.start("images.edits", "gpt-image-2", "b")
    ledger.bill(1, 0.01, {"prompt_tokens": 5})
    ledger.end(1, answered=True, client_gone=False)
    assert len(file.read_text().splitlines()) == 4

    again = Ledger(file)
    assert again.entries() == ledger.entries()
    assert again.start("chat", "gpt-4o", "c").n == 3


def test_a_line_cut_off_by_a_kill_does_not_hide_the_others(tmp_path: Path) -> None:
    file = tmp_path / "ledger.jsonl"
    Ledger(file).start("chat", "gpt-4o", "a")
    with file.open("a") as lines:
        lines.write('{"n": 2, "what": "cha')
    again = Ledger(file)
    assert [entry.n for entry in again.entries()] == [1]
    again.start("chat", "gpt-4o", "b")
    assert [entry.digest for entry in Ledger(file).entries()] == ["a", "b"]


def test_clearing_empties_the_file_and_forgets_calls_under_way(tmp_path: Path) -> None:
    file = tmp_path / "ledger.jsonl"
    ledger = Ledger(file)
    entry = ledger.start("chat", "gpt-4o", "a")
    ledger.clear()
    ledger.end(entry.n, answered=True, client_gone=False)
    assert ledger.entries() == []
    assert file.read_text() == ""


def test_each_line_is_json_with_the_whole_entry(tmp_path: Path) -> None:
    file = tmp_path / "ledger.jsonl"
    Ledger(file).start("chat", "gpt-4o", "a", fault="hang", client_request_id="한글")
    line = json.loads(file.read_text(encoding="utf-8"))
    assert line["fault"] == "hang"
    assert line["client_request_id"] == "한글"
