"""The list in SECURITY.md is the list that is tested."""

from __future__ import annotations

from tests.attacks import ALL
from tests.attacks.__main__ import FILE, written
from tests.attacks.attack import ACCEPTED


def test_security_md_shows_the_list_as_it_is() -> None:
    text = FILE.read_text("utf-8")
    assert written(text) == text, "SECURITY.md is stale: run make docs"


def test_no_two_attacks_have_one_name_and_each_has_an_answer() -> None:
    attacks = [attack for chapter in ALL.values() for attack in chapter]
    names = [attack.name for attack in attacks]
    assert sorted(set(names)) == sorted(names)
    assert all(attack.answer == ACCEPTED or attack.answer.startswith("4") for attack in attacks)
