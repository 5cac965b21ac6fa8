"""The made-up catalogue behind the stand-in for Naver."""

from __future__ import annotations

import html
import re

from hypothesis import given
from hypothesis import strategies as st

from sandbox.naver.app import RateLimit
from sandbox.naver.catalogue import Product, Sort, bold, products, search

NONE: frozenset[str] = frozenset()


def find(
    query: str, *, exclude: frozenset[str] = NONE, only: frozenset[str] = NONE, sort: Sort = "sim"
) -> list[Product]:
    return search(query, exclude=exclude, only=only, sort=sort)


def test_the_catalogue_is_whole() -> None:
    rows = products()
    assert len(rows) >= 60
    assert len({row.product_id for row in rows}) == len(rows)
    for row in rows:
        assert re.fullmatch(r"\d{11}", row.product_id)
        assert re.fullmatch(r"\d+", row.lprice)
        assert re.fullmatch(r"\d*", row.hprice)
        assert 1 <= row.type <= 12
        assert row.title
        assert row.mall
        assert row.category1
        assert row.category2
        assert row.category3
        assert ("used" in row.terms) == (4 <= row.type <= 6)


def test_excluding_drops_used_rented_and_foreign_products() -> None:
    everything = {p.product_id for word in ("마우스", "모니터", "의자", "책상", "키보드") for p in find(word)}
    new = find("모니터", exclude=frozenset({"used", "rental", "cbshop"}))
    assert new
    assert not any(p.terms & {"used", "rental", "cbshop"} for p in new)
    for term in ("used", "rental", "cbshop"):
        assert any(term in p.terms for p in products() if p.product_id in everything)


def test_naverpay_filters() -> None:
    assert {p.terms for p in find("조명", only=frozenset({"naverpay"}))} == {frozenset({"naverpay"})}


def test_prices_and_dates_sort() -> None:
    prices = [int(p.lprice) for p in find("책상", sort="asc")]
    assert prices == sorted(prices)
    assert [int(p.lprice) for p in find("책상", sort="dsc")] == sorted(prices, reverse=True)
    dates = [p.listed for p in find("책상", sort="date")]
    assert dates == sorted(dates, reverse=True)


def test_a_rate_limit_counts_the_calls_of_the_last_second() -> None:
    now = [0.0]
    rate = RateLimit(2, clock=lambda: now[0])
    assert [rate.take() for _ in range(3)] == [True, True, False]
    now[0] = 0.99
    assert not rate.take()
    now[0] = 1.0
    assert [rate.take() for _ in range(3)] == [True, True, False]


def test_what_it_is_comes_before_what_stands_on_it() -> None:
    assert find("책상")[0].category3 == "책상"
    assert find("모니터")[0].category3 == "모니터"


def test_words_it_does_not_know_are_overlooked_before_the_noun_but_not_instead_of_it() -> None:
    assert find("빈티지 마우스")
    assert find("마우스 우주선") == []
    assert find("우주선") == []


def test_one_product_is_found_by_two_keywords() -> None:
    assert {p.product_id for p in find("키보드")} & {p.product_id for p in find("마우스")}


def test_titles_mark_the_query_and_escape_the_rest() -> None:
    assert bold('A & "B" 마우스', "마우스") == "A &amp; &quot;B&quot; <b>마우스</b>"
    assert bold("USB 허브", "usb") == "<b>USB</b> 허브"


@given(st.text(min_size=1).filter(str.strip), st.text())
def test_a_marked_title_is_the_title_once_its_tags_are_gone(query: str, title: str) -> None:
    assert html.unescape(re.sub(r"</?b>", "", bold(title, query))) == html.unescape(html.escape(title))
