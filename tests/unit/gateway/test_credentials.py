"""Which requests show a credential, and what is said to those that do not. Never the value."""

from __future__ import annotations

import pytest

from deskterior.errors import Unauthenticated
from deskterior.gateway.credentials import LONGEST, credential

AUTH, KEY = b"authorization", b"x-api-key"


@pytest.mark.parametrize(
    "headers",
    [
        [(AUTH, b"Bearer abc")],
        [(AUTH, b"bearer   abc ")],
        [(AUTH, b"BEARER abc")],
        [(KEY, b"abc")],
        [(KEY, b" abc ")],
        [(AUTH, b"Bearer abc"), (KEY, b"abc")],
        [(b"accept", b"*/*"), (KEY, b"abc")],
    ],
)
def test_one_credential_in_either_header(headers: list[tuple[bytes, bytes]]) -> None:
    assert credential(headers) == "abc"


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ([], "Send a key"),
        ([(b"cookie", b"key=abc")], "Send a key"),
        ([(AUTH, b"")], "Authorization must be"),
        ([(AUTH, b"abc-secret")], "Authorization must be"),
        ([(AUTH, b"Basic c2VjcmV0OnNlY3JldA==")], "Authorization must be"),
        ([(AUTH, b"Bearer")], "empty"),
        ([(AUTH, b"Bearer ")], "empty"),
        ([(KEY, b"")], "empty"),
        ([(KEY, b"  ")], "empty"),
        ([(AUTH, b"Bearer secret"), (AUTH, b"Bearer secret")], "more than once"),
        ([(KEY, b"secret"), (KEY, b"secret2")], "more than once"),
        ([(AUTH, b"Bearer secret"), (KEY, b"secret2")], "differ"),
        ([(AUTH, b"Bearer secret"), (KEY, b"")], "differ"),
        ([(AUTH, b"Basic secret"), (KEY, b"secret")], "Authorization must be"),
        ([(KEY, b"s" * (LONGEST + 1))], "too long"),
        ([(AUTH, b"Bearer " + b"secret" * 20_000)], "too long"),
        ([(KEY, "secret-책상".encode())], "characters"),
        ([(KEY, b"secret\xff")], "characters"),
        ([(KEY, b"secret\x00")], "characters"),
        ([(KEY, b"secret\tx")], "characters"),
    ],
)
def test_anything_else_is_401_in_words(headers: list[tuple[bytes, bytes]], said: str) -> None:
    with pytest.raises(Unauthenticated) as raised:
        credential(headers)
    error = raised.value
    assert said in error.detail
    assert "secret" not in str(error.problem())
    assert [name for name, _ in error.headers] == [b"www-authenticate"]


def test_whoever_showed_nothing_is_not_told_that_it_is_wrong() -> None:
    with pytest.raises(Unauthenticated) as nothing:
        credential([])
    with pytest.raises(Unauthenticated) as wrong:
        credential([(KEY, b"")])
    assert dict(nothing.value.headers) == {b"www-authenticate": b'Bearer realm="deskterior"'}
    assert b'error="invalid_token"' in dict(wrong.value.headers)[b"www-authenticate"]
