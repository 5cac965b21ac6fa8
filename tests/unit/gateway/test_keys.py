"""API keys: what is kept of one, and which texts are one."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest

from deskterior.gateway import keys as keys_module
from deskterior.gateway.caller import KeyLimits
from deskterior.gateway.keys import KEY, Entry, Keys, KeysError, Limits, key_id, read, write


def made(**more: Any) -> tuple[str, Entry]:
    return Entry.make(**{"name": "backend", "scopes": ["classify"], **more})


def test_a_key_is_its_callers() -> None:
    key, entry = made(scopes=["classify", "generate"], limits=Limits(requests_per_minute=5, usd_per_day=1.5))
    caller = Keys([entry]).find(key)
    assert caller is not None
    assert caller.name == "backend"
    assert caller.scopes == frozenset({"classify", "generate"})
    assert caller.limits == KeyLimits(requests_per_minute=5, usd_per_day=1.5)


def test_two_keys_of_one_name_are_one_caller() -> None:
    (old, first), (new, second) = made(), made()
    keys = Keys([first, second])
    assert keys.find(old) == keys.find(new) is not None


def test_a_key_can_be_told_from_other_text_and_has_256_random_bits() -> None:
    first, second = made()[0], made()[0]
    for key in (first, second):
        assert re.fullmatch(r"dskt_[0-9a-f]{12}_[0-9a-f]{64}", key)
    assert first.rpartition("_")[2] != second.rpartition("_")[2]


def test_nothing_of_the_secret_is_kept() -> None:
    key, entry = made()
    assert key.rpartition("_")[2] not in write([entry])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda key: key[:-1] + ("0" if key[-1] != "0" else "1"),
        lambda key: key[:-1],
        lambda key: key + "0",
        lambda key: key + "\n",
        lambda key: " " + key,
        lambda key: key.upper(),
        lambda key: key.replace("dskt_", "dskt-"),
        lambda key: key[:5] + "0" * 12 + key[17:],
        lambda key: key[5:17],
        lambda _: "",
        lambda _: "책상",
        lambda _: "\ud800",
        lambda key: key * 1000,
    ],
)
def test_anything_else_is_nobodys(spoil: Any) -> None:
    key, entry = made()
    assert Keys([entry]).find(spoil(key)) is None


def test_the_secret_of_another_key_does_not_fit() -> None:
    (one, first), (two, second) = made(), made(name="other")
    mixed = f"dskt_{first.id}_{two.rpartition('_')[2]}"
    assert Keys([first, second]).find(mixed) is None
    assert Keys([first, second]).find(one) is not None


def test_a_key_ends_when_it_expires() -> None:
    now = datetime(2027, 1, 1, tzinfo=UTC).timestamp()
    key, entry = made(expires_at=datetime(2027, 1, 1, 0, 0, 1, tzinfo=UTC))
    assert Keys([entry], clock=lambda: now).find(key) is not None
    assert Keys([entry], clock=lambda: now + 1).find(key) is None


def test_an_unknown_id_costs_a_hash_too(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []
    real = keys_module._hash

    def hash_and_tell(salt: str, key: str) -> str:
        hashed.append(key)
        return real(salt, key)

    monkeypatch.setattr(keys_module, "_hash", hash_and_tell)
    (known, entry), (unknown, _) = made(), made()
    keys = Keys([entry])
    hashed.clear()
    keys.find(known)
    keys.find(unknown)
    assert hashed == [known, unknown]


def test_a_list_survives_being_written_and_read() -> None:
    entries = [
        made()[1],
        made(name="b.c-d_1", scopes=["admin"], expires_at=datetime(2030, 1, 1, tzinfo=UTC))[1],
        made(limits=Limits(tasks_waiting=0))[1],
    ]
    assert read(write(entries)) == entries
    assert read(write([])) == []


def wrong(**changes: Any) -> str:
    item = json.loads(write([made()[1]]))[0] | changes
    return json.dumps([{name: value for name, value in item.items() if value is not ...}])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("dskt_secret", "is no JSON"),
        ("{}", "must be a list"),
        ("null", "must be a list"),
        ("[" * 100_000, "is no JSON"),
        ('["dskt_secret"]', "entry 1"),
        ("[null]", "entry 1"),
        (wrong(name=...), "name"),
        (wrong(name="a:b"), "name: must be 1 to 64"),
        (wrong(name=""), "name: must be 1 to 64"),
        (wrong(name="x\n"), "name: must be 1 to 64"),
        (wrong(name="jwt:1"), "name: must be 1 to 64"),
        (wrong(name="책상"), "name: must be 1 to 64"),
        (wrong(scopes=["clasify"]), "scopes.0: Input should be 'classify'"),
        (wrong(scopes=[]), "scopes"),
        (wrong(scopes="admin"), "scopes"),
        (wrong(hash="secret"), "hash: must be 64"),
        (wrong(salt="SECRET"), "salt: must be 32"),
        (wrong(id="0123456789AB"), "id: must be 12"),
        (wrong(secret="secret"), "has a field that no entry has"),
        (wrong(dskt_secret="x"), "has a field that no entry has"),
        (wrong(limits={"usd": 1}), "has a field that no entry has"),
        (wrong(limits={"requests_per_minute": 0}), "limits.requests_per_minute"),
        (wrong(limits={"usd_per_day": float("nan")}), "limits.usd_per_day"),
        (wrong(limits={"usd_per_day": -1}), "limits.usd_per_day"),
        (wrong(expires_at="2027-01-01T00:00:00"), "expires_at"),
        (wrong(expires_at="soon"), "expires_at"),
    ],
)
def test_a_wrong_list_names_the_entry_and_what_is_wrong_and_shows_no_secret(text: str, said: str) -> None:
    with pytest.raises(KeysError) as raised:
        read(text)
    assert said in str(raised.value)
    for secret in ("secret", "SECRET", *re.findall("[0-9a-f]{32,}", text)):
        assert secret not in str(raised.value)


def test_a_wrong_entry_is_named_by_its_number_and_id() -> None:
    good = json.loads(write([made()[1]]))[0]
    with pytest.raises(KeysError, match=f"entry 2 \\(id {good['id']}\\): another entry has this id"):
        read(json.dumps([good, good]))


def test_the_log_may_have_the_id_of_a_key_and_of_nothing_else() -> None:
    key, entry = made()
    assert key_id(key) == entry.id
    assert key_id(entry.hash) is None
    assert KEY.fullmatch(key)
