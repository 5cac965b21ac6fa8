"""`python -m deskterior.keys`: what an operator types, what comes out, and what is refused in words."""

from __future__ import annotations

import os
import re
import stat
import threading
from pathlib import Path

import pytest

from deskterior import keys as command
from deskterior.gateway.keys import Keys, read


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


@pytest.fixture(autouse=True)
def no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEYS", "")


def make(file: Path | None, *more: str, name: str = "backend", scopes: str = "classify,generate") -> int:
    return command.main(["make", "--name", name, "--scopes", scopes, *(["--file", str(file)] if file else []), *more])


def test_a_key_is_shown_once_and_only_its_hash_is_kept(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert make(file) == 0
    key = capsys.readouterr().out.strip()
    assert key not in file.read_text()
    caller = Keys(read(file.read_text())).find(key)
    assert caller is not None
    assert caller.name == "backend"
    assert command.main(["list", "--file", str(file)]) == 0
    shown = capsys.readouterr().out
    assert "backend" in shown
    assert "classify,generate" in shown
    assert not re.search("[0-9a-f]{32}", shown)


def test_without_a_file_it_says_what_to_put_into_the_setting(capsys: pytest.CaptureFixture[str]) -> None:
    assert make(None) == 0
    key, setting = capsys.readouterr().out.split("\n", 1)
    assert Keys(read(setting)).find(key) is not None


def test_limits_and_an_end_are_kept(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--requests-per-minute", "60", "--usd-per-day", "2.5", "--tasks-waiting", "3", "--expires", "90d"]
    assert make(file, *asked) == 0
    (entry,) = read(file.read_text())
    assert entry.limits.model_dump() == {"requests_per_minute": 60, "usd_per_day": 2.5, "tasks_waiting": 3}
    assert entry.created_at is not None
    assert entry.expires_at is not None
    assert (entry.expires_at - entry.created_at).days == 90
    capsys.readouterr()
    command.main(["list", "--file", str(file)])
    assert "requests_per_minute=60" in capsys.readouterr().out


def test_one_key_is_revoked_and_the_others_stay(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(file)
    make(file)
    first, second = capsys.readouterr().out.split()
    assert command.main(["revoke", first.split("_")[1], "--file", str(file)]) == 0
    keys = Keys(read(file.read_text()))
    assert keys.find(first) is None
    assert keys.find(second) is not None


def test_a_key_that_was_found_somewhere_is_revoked_by_itself(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(file)
    key = capsys.readouterr().out.strip()
    assert command.main(["revoke", key, "--file", str(file)]) == 0
    assert read(file.read_text()) == []
    assert key not in capsys.readouterr().err


def test_the_file_of_the_setting_is_the_default(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("API_KEYS", f"@{file}")
    assert make(None) == 0
    assert command.main(["list"]) == 0
    assert command.main(["revoke", capsys.readouterr().out.split()[0]]) == 0
    assert read(file.read_text()) == []


def test_keys_in_the_setting_itself_are_listed_and_not_revoked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make(None)
    setting = capsys.readouterr().out.split("\n", 1)[1]
    monkeypatch.setenv("API_KEYS", setting)
    assert command.main(["list"]) == 0
    assert "backend" in capsys.readouterr().out
    assert command.main(["revoke", read(setting)[0].id]) == 1
    assert "take the entry" in capsys.readouterr().err


def test_nobody_else_may_read_a_new_file(file: Path) -> None:
    make(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644])
def test_whoever_could_read_the_file_still_can(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], mode: int
) -> None:
    """A service of another user, which reads it as its group, has to learn of a revoked key."""
    make(file)
    file.chmod(mode)
    given: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "fchown", lambda _, user, group: given.append((user, group)))
    make(file)
    command.main(["revoke", read(file.read_text())[0].id, "--file", str(file)])
    assert stat.S_IMODE(file.stat().st_mode) == mode
    assert given == [(os.getuid(), os.getgid())] * 2


def test_a_file_that_cannot_be_left_to_its_owner_is_left_as_it_is(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    make(file)
    before = file.read_text()
    monkeypatch.setattr(os, "fchown", refuse)
    assert command.main(["revoke", read(before)[0].id, "--file", str(file)]) == 1
    assert "Operation not permitted" in capsys.readouterr().err
    assert file.read_text() == before
    assert os.listdir(file.parent) == ["keys.json"]  # noqa: PTH208 - names alone
    assert os.listdir(file.parent) == ["keys.json"]  # noqa: PTH208 - names alone


def test_a_link_to_the_file_stays_a_link(file: Path, tmp_path: Path) -> None:
    make(file)
    link = tmp_path / "link.json"
    link.symlink_to(file)
    make(link)
    assert link.is_symlink()
    assert len(read(file.read_text())) == 2


def test_keys_made_at_the_same_time_are_all_kept(file: Path) -> None:
    makers = [threading.Thread(target=make, args=[file]) for _ in range(8)]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()
    assert len(read(file.read_text())) == 8


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"name": "a:b"}, "name: must be 1 to 64"),
        ({"name": ""}, "name: must be 1 to 64"),
        ({"name": "x" * 65}, "name: must be 1 to 64"),
        ({"scopes": "clasify"}, "scopes: 'clasify' is none; take some of admin, classify"),
        ({"scopes": ","}, "scopes: there is none"),
        ({"expires": "soon"}, "expires: 'soon' is neither"),
        ({"expires": "2020-01-01"}, "expires: this lies in the past"),
        ({"expires": "0d"}, "expires: this lies in the past"),
        ({"expires": "999999w"}, "expires: '999999w' is neither"),
        ({"requests-per-minute": "0"}, "requests_per_minute"),
        ({"usd-per-day": "-1"}, "usd_per_day"),
        ({"usd-per-day": "nan"}, "usd_per_day"),
        ({"tasks-waiting": "-1"}, "tasks_waiting"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(
    file: Path, capsys: pytest.CaptureFixture[str], more: dict[str, str], said: str
) -> None:
    asked = {"name": "backend", "scopes": "classify"} | more
    arguments = [part for name, value in asked.items() for part in (f"--{name}={value}",)]
    assert command.main(["make", *arguments, "--file", str(file)]) == 1
    assert said in capsys.readouterr().err
    assert not file.exists()


@pytest.mark.parametrize("content", ["", "{}", "[{}]", "\xff"])
def test_a_broken_file_is_left_as_it_is(file: Path, capsys: pytest.CaptureFixture[str], content: str) -> None:
    file.write_bytes(content.encode("latin-1"))
    for arguments in (["list"], ["revoke", "0" * 12], ["make", "--name", "a", "--scopes", "admin"]):
        assert command.main([*arguments, "--file", str(file)]) == 1
        assert str(file) in capsys.readouterr().err
    assert file.read_bytes() == content.encode("latin-1")


def test_what_is_not_there_is_said(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["list", "--file", str(file)]) == 1
    assert "No such file" in capsys.readouterr().err
    make(file)
    assert command.main(["revoke", "0" * 12, "--file", str(file)]) == 1
    assert "there is no key with this id" in capsys.readouterr().err
    assert make(file.parent / "no" / "folder.json") == 1
    assert command.main(["list"]) == 0
    assert "no keys" in capsys.readouterr().err
