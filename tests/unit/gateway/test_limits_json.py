"""Bodies that are refused before a schema sees them."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from deskterior.errors import Invalid
from deskterior.gateway.limits_json import MAX_DEPTH, check_json


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"[" * 65536, "deeper than 32"),
        (b'{"a":' * 13000, "deeper than 32"),
        (b'{"a":"' + b"\\" * 1000 + b'",' + b'"b":' + b"[" * 40, "deeper than 32"),
        (b'{"image_url": "a", "image_url": "b"}', "'image_url' twice"),
        (b'{"x": [{"a": 1, "a": 1}]}', "'a' twice"),
        (b'{"size": NaN}', "NaN"),
        (b'{"size": -Infinity}', "-Infinity"),
        (b'{"size": ' + b"9" * 5000 + b"}", "digits"),
        (b'{"size": 0.' + b"9" * 5000 + b"}", "digits"),
        ('{"image_url": "책상"}'.encode("utf-16"), "UTF-8"),
        ('{"image_url": "책상"}'.encode("euc-kr"), "UTF-8"),
        (b'\xff{"image_url": "a"}', "UTF-8"),
    ],
)
def test_what_no_client_means_to_send_is_refused_by_name(body: bytes, said: str) -> None:
    with pytest.raises(Invalid) as raised:
        check_json(body)
    assert said in raised.value.detail
    assert raised.value.errors[0]["field"] == "body"


@pytest.mark.parametrize(
    "body",
    [
        b'{"image_url": "http://a/[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[{{{{{{{{"}',
        b'{"a": "\\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["}',
        b"[" * MAX_DEPTH + b"]" * MAX_DEPTH,
        b"[" + b"[]," * 1000 + b"[]]",
        b'\xef\xbb\xbf{"a": 1}',
        b'{"size": 1e400}',  # no number of this size fits a schema: it says so
        b'{"a": tru',  # no JSON: whoever reads it says where
        b"",
    ],
)
def test_what_may_be_meant_is_left_to_the_schema(body: bytes) -> None:
    check_json(body)


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(value=_values, ascii_only=st.booleans())
def test_every_document_that_a_json_library_writes_is_let_through(value: object, ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only)
    with contextlib.suppress(UnicodeEncodeError):  # half of a UTF-16 pair
        check_json(text.encode())


@given(body=st.binary(max_size=200) | st.text('[]{}",:\\01eE.-+naNfIity', max_size=200).map(str.encode))
@example(body=b'"' + b'\\"' * 30_000)
@example(body=b"-" * 30_000)
def test_nothing_that_is_sent_can_crash_it(body: bytes) -> None:
    with contextlib.suppress(Invalid):
        check_json(body)


@pytest.mark.parametrize("piece", [b'"', b'\\"', b'"\\', b"[]", b"{}[", b'"[', b"\\"])
def test_it_looks_at_each_byte_once(piece: bytes) -> None:
    """Were it quadratic, this body would take hours."""
    with contextlib.suppress(Invalid):
        check_json(b"[" * 33 + piece * 2_000_000)
