"""A bounded run of the API's fuzzer; `python -m fuzz --only api --seconds 600` is the long one."""

from __future__ import annotations

import pytest

from fuzz import api


def test_nothing_sent_by_the_document_or_against_it_finds_a_fault(capfd: pytest.CaptureFixture[str]) -> None:
    found = api.fuzz(seconds=30, seed=7)
    said = capfd.readouterr().out
    assert found == 0, said
    assert "POST 202" in said, "the run must have made tasks"
