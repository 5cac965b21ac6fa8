"""Where keys come from, and what becomes of a service whose file of keys changes."""

# ruff: noqa: ASYNC240 - nobody else waits while a test writes a file

from __future__ import annotations

import json
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from deskterior.config import SettingsError
from deskterior.gateway.keyring import LOOK_S, REMIND_S, Keyring
from deskterior.gateway.keys import Entry, write

KEY, ENTRY = Entry.make("backend", ["classify"])
OTHER_KEY, OTHER = Entry.make("other", ["admin"])


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "keys.json"
    path.write_text(write([ENTRY]))
    return path


def of(setting: str, clock: Clock) -> Keyring:
    keyring = Keyring.of(setting, clock)
    assert keyring is not None
    return keyring


@pytest.mark.parametrize("setting", ["", "  ", "\n"])
def test_an_empty_setting_is_no_keyring(setting: str) -> None:
    assert Keyring.of(setting) is None


async def test_keys_may_stand_in_the_setting_itself(clock: Clock) -> None:
    keyring = of(f"\n {write([ENTRY])}", clock)
    assert await keyring.find(KEY) is not None
    assert await keyring.find(OTHER_KEY) is None


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("[]", "API_KEYS holds no key"),
        ("k", "API_KEYS is no JSON"),
        ("@", "API_KEYS"),
        ("@/nowhere/keys.json", "API_KEYS: /nowhere/keys.json cannot be read: No such file"),
        ('[{"id": "0123456789ab"}]', "API_KEYS entry 1 (id 0123456789ab): name"),
    ],
)
def test_what_cannot_be_used_stops_the_start(setting: str, said: str) -> None:
    with pytest.raises(SettingsError) as raised:
        Keyring.of(setting)
    assert said in str(raised.value)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[]", b"[{}]", b" " * (8 * 1024 * 1024 + 1)])
def test_a_file_that_cannot_be_used_stops_the_start(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(SettingsError, match="API_KEYS"):
        Keyring.of(f"@{file}")


async def test_a_file_that_an_editor_marked_as_utf_8_is_read(file: Path, clock: Clock) -> None:
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert await of(f"@{file}", clock).find(KEY) is not None


async def test_a_change_of_the_file_is_seen_without_a_restart(file: Path, clock: Clock) -> None:
    keyring = of(f"@{file}", clock)
    file.write_text(write([OTHER]))
    assert await keyring.find(KEY) is not None  # not every request reads a file
    clock.now += LOOK_S
    assert await keyring.find(KEY) is None
    assert await keyring.find(OTHER_KEY) is not None


async def test_all_keys_may_be_revoked(file: Path, clock: Clock) -> None:
    keyring = of(f"@{file}", clock)
    file.write_text("[]")
    clock.now += LOOK_S
    with capture_logs() as logs:
        assert await keyring.find(KEY) is None
    assert [(line["event"], line["log_level"]) for line in logs] == [("api_keys.read", "error")]


@pytest.mark.parametrize("broken", ["", "[{}]", None, "folder"])
async def test_a_file_that_breaks_keeps_the_last_good_keys_and_says_so(
    file: Path, clock: Clock, broken: str | None
) -> None:
    keyring = of(f"@{file}", clock)
    file.unlink()
    if broken == "folder":
        file.mkdir()
    elif broken is not None:
        file.write_text(broken)
    with capture_logs() as logs:
        for _ in range(10):
            clock.now += LOOK_S
            assert await keyring.find(KEY) is not None
    assert [(line["event"], line["log_level"], line["keys_kept"]) for line in logs] == [
        ("api_keys.unusable", "error", 1)
    ]
    clock.now += REMIND_S
    with capture_logs() as logs:
        await keyring.find(KEY)
    assert [line["event"] for line in logs] == ["api_keys.unusable"]


async def test_a_mended_file_is_taken_again_and_that_is_said(file: Path, clock: Clock) -> None:
    keyring, good = of(f"@{file}", clock), file.read_text()
    file.write_text("[")
    clock.now += LOOK_S
    await keyring.find(KEY)
    file.write_text(good)
    clock.now += LOOK_S
    with capture_logs() as logs:
        assert await keyring.find(KEY) is not None
    assert [line["event"] for line in logs] == ["api_keys.read"]


async def test_no_hash_gets_into_the_log(file: Path, clock: Clock) -> None:
    keyring = of(f"@{file}", clock)
    item = json.loads(file.read_text())[0]
    file.write_text(json.dumps([item | {"scopes": [item["hash"]], "salt": item["hash"]}]))
    clock.now += LOOK_S
    with capture_logs() as logs:
        await keyring.find(KEY)
    assert logs
    assert ENTRY.hash not in str(logs)
    assert ENTRY.salt not in str(logs)
