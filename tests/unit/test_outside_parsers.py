"""Everything that reads text from outside: anything at all is taken, or refused by a named error."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deskterior.decoding import decode, inspect, memory_needed, scaled_jpeg
from deskterior.errors import PhotoError
from deskterior.providers.naver_items import item_of
from fuzz.outside import PARSERS, SEEDS, Parser

CORPUS = Path(__file__).parents[2] / "fuzz" / "corpus"
NASTY = st.sampled_from(
    [
        *("127.0.0.1", "[::1]", "localhost", "0x7f.1", "。", "１", "①", "%2e", "%00", "@", "\\", "#", "?", ":", "//"),
        *("http:", "\u200b", "\u202e", "\ud800", "\x00", "\r\n", "&amp;", "<b>", "<!--", "nan", "inf", "1e999", "-0"),
        *("9" * 400, '"', "="),
    ]
)  # fmt: skip
TEXT = st.lists(st.text(max_size=12) | NASTY, max_size=8).map("".join)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=8,
)
FIELDS = (
    "title",
    "link",
    "image",
    "lprice",
    "mallName",
    "productId",
    "category1",
    "category2",
    "category3",
    "category4",
)


@pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.__name__)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_parser_takes_anything_or_refuses_it_by_name(parser: Parser, data: st.DataObject) -> None:
    seeds = [seed for of, seed in SEEDS if of is parser]
    spliced = st.tuples(st.sampled_from(seeds), st.integers(0, 80), TEXT).map(
        lambda it: it[0][: it[1]] + it[2].encode("utf-8", "surrogatepass") + it[0][it[1] :]
    )
    told = st.binary(max_size=60) | TEXT.map(lambda text: text.encode("utf-8", "surrogatepass")) | spliced
    parser(data.draw(told | JSON.map(lambda value: json.dumps(value).encode())))


@pytest.mark.parametrize(("parser", "seed"), SEEDS)
def test_what_is_right_is_parsed(parser: Parser, seed: bytes) -> None:
    parser(seed)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(FIELDS), JSON))
def test_any_item_of_a_shop_is_a_product_or_nothing(raw: dict[str, object]) -> None:
    if item := item_of(raw):
        item.product.model_dump_json().encode()


@pytest.mark.parametrize("find", sorted(CORPUS.glob("decoder/*")), ids=lambda path: path.name)
def test_what_the_fuzzer_of_the_decoder_found_stays_mended(find: Path) -> None:
    for look in (decode, inspect, memory_needed, lambda data: scaled_jpeg(data, 48)):
        with suppress(PhotoError):
            look(find.read_bytes())


@pytest.mark.parametrize("find", sorted(CORPUS.glob("parsers/*")), ids=lambda path: path.name)
def test_what_the_fuzzer_of_the_parsers_found_stays_mended(find: Path) -> None:
    data = find.read_bytes()
    PARSERS[data[0] % len(PARSERS)](data[1:])
