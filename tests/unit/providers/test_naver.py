"""Naver's shopping search: what is asked, what is kept of its items, and that one keyword's failure stays its own."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deskterior.providers import Found
from deskterior.providers.naver import NaverSearch
from deskterior.providers.naver_items import item_of
from deskterior.providers.outside_text import cut, one_line, web_address, without_markup
from deskterior.providers.rate_window import RateWindow
from deskterior.schemas import ProductDetail

from .stand_in import Clock, Handler, Heard, Reply, StandIn, closed_port, reply, script, standing_in

SECRET = "naver-secret"
ITEM = {
    "title": "앱코 무소음 <b>무선</b> <b>마우스</b>",
    "link": "https://search.shopping.naver.com/catalog/1",
    "image": "https://shopping-phinf.pstatic.net/1.jpg",
    "lprice": "21990",
    "hprice": "",
    "mallName": "네이버",
    "productId": "1",
    "productType": "1",
    "brand": "앱코",
    "maker": "앱코",
    "category1": "디지털/가전",
    "category2": "PC주변기기",
    "category3": "마우스",
    "category4": "유선마우스",
}


def item(number: int, **more: Any) -> dict[str, Any]:
    return ITEM | {"link": f"https://shop.example/{number}", "productId": str(number)} | more


def items(*found: Any) -> Reply:
    return reply({"lastBuildDate": "x", "total": len(found), "start": 1, "display": 20, "items": list(found)})


def search(url: str, clock: Clock | None = None, **more: Any) -> NaverSearch:
    clock = clock or Clock()
    settings = {"timeout_s": 5.0, "per_second": 10.0, "cache_s": 600.0, "per_keyword": 3} | more
    return NaverSearch(base_url=url, client_id="id", client_secret=SECRET, clock=clock, sleep=clock.sleep, **settings)


async def found(handler: Handler, *keywords: str, **more: Any) -> tuple[Found, StandIn]:
    async with standing_in(handler) as naver:
        searcher = search(naver.url, **more)
        try:
            return await searcher.find(list(keywords)), naver
        finally:
            await searcher.aclose()


def by_keyword(replies: dict[str, Reply]) -> Handler:
    return lambda heard: replies[heard.query["query"][0]]


async def test_a_keyword_is_asked_as_naver_wants_it() -> None:
    result, naver = await found(script(items(ITEM)), "무선 마우스")
    heard = naver.heard[0]
    assert heard.path == "/v1/search/shop.json"
    assert heard.query["query"] == ["무선 마우스"]
    assert heard.query["exclude"] == ["used:rental:cbshop"]
    assert 1 <= int(heard.query["display"][0]) <= 100
    assert heard.headers["x-naver-client-id"] == "id"
    assert heard.headers["x-naver-client-secret"] == SECRET
    assert [product.model_dump() for product in result.products] == [
        {
            "keyword": "무선 마우스",
            "details": [
                {
                    "title": "앱코 무소음 무선 마우스",
                    "price": "21990",
                    "mall": "네이버",
                    "link": "https://search.shopping.naver.com/catalog/1",
                    "image": "https://shopping-phinf.pstatic.net/1.jpg",
                    "main_category": "마우스",
                    "sub_category": "유선마우스",
                }
            ],
        }
    ]
    assert result.problems == []


@pytest.mark.parametrize(
    ("categories", "expected"),
    [
        (("가전", "주변기기", "마우스", ""), ("주변기기", "마우스")),
        (("가전", "주변기기", None, "무선"), ("주변기기", "무선")),
        (("가전", "주변기기", "", ""), ("가전", "주변기기")),
        ((None, "주변기기", None, None), ("주변기기", "주변기기")),
        (("가전", "", "", ""), ("가전", "가전")),
        ((None, None, None, None), ("기타", "기타")),
        ((["x"], {}, 3.5, True), ("기타", "기타")),
    ],
)
def test_categories_are_the_last_two_that_are_named(categories: tuple[Any, ...], expected: tuple[str, str]) -> None:
    raw = ITEM | {f"category{level}": name for level, name in enumerate(categories, 1)}
    kept = item_of(raw)
    assert kept is not None
    assert (kept.product.main_category, kept.product.sub_category) == expected


@pytest.mark.parametrize(
    ("title", "clean"),
    [
        ("<b>책상</b> 램프", "책상 램프"),
        ("A&amp;B &quot;데스크&quot;", 'A&B "데스크"'),
        ("&lt;b&gt;책상&lt;/b&gt;", "책상"),
        ("&amp;lt;b&amp;gt;책상", "책상"),
        ("<script>x</script>책상", "x책상"),
        ("크기 3<5 & 7>6", "크기 3<5 & 7>6"),
        ("  책상\n\t램프  ", "책상 램프"),
        ("책상\u200b\u202e\x00램프", "책상 램프"),
        ("이모지 🖥️ 책상", "이모지 🖥️ 책상"),
        ("책상 <b", "책상"),
    ],
)
def test_titles_have_no_markup(title: str, clean: str) -> None:
    kept = item_of(ITEM | {"title": title})
    assert kept is not None
    assert kept.product.title == clean


@pytest.mark.parametrize(
    ("price", "kept"),
    [("21990", "21990"), (21990, "21990"), ("21,990", "21990"), (" 0021990 ", "21990")],
)
def test_a_price_is_digits_alone(price: object, kept: str) -> None:
    product = item_of(ITEM | {"lprice": price})
    assert product is not None
    assert product.product.price == kept


NO_PRICE: list[Any] = ["", "0", "000", None, "무료", "-5", "1.5", "٣", 0, 1.5, True, [], {}, "9" * 40]
NO_LINK: list[Any] = ["", None, 5, "javascript:alert(1)", "//x", "https://", "http://a b", "https://["]
NO_TITLE: list[Any] = ["", None, [], "<b></b>", "\u200b", {"a": 1}, True]


@pytest.mark.parametrize(
    "broken",
    [{"lprice": value} for value in NO_PRICE]
    + [{"link": value} for value in NO_LINK]
    + [{"title": value} for value in NO_TITLE],
)
def test_an_item_that_nobody_can_buy_is_dropped(broken: dict[str, Any]) -> None:
    assert item_of(ITEM | broken) is None


@pytest.mark.parametrize("name", ["image", "mallName", "productId", "category1", "category2", "category3", "category4"])
@pytest.mark.parametrize("value", [None, 5, [], {}, True, ""])
def test_other_fields_may_be_anything_or_missing(name: str, value: object) -> None:
    for raw in (ITEM | {name: value}, {key: text for key, text in ITEM.items() if key != name}):
        kept = item_of(raw)
        assert kept is not None
        assert None not in kept.product.model_dump().values()
        assert kept.product.mall


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.characters(categories=["Cs"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(sorted(ITEM)), json_values))
def test_whatever_an_item_holds_it_is_dropped_or_whole(fields: dict[str, Any]) -> None:
    kept = item_of(ITEM | fields)
    if kept:
        again = ProductDetail.model_validate(kept.product.model_dump())
        assert json.loads(again.model_dump_json().encode("utf-8"))["title"] == kept.product.title


async def test_products_are_shown_once_and_a_keyword_left_with_none_is_left_out() -> None:
    same = item(1)
    result, _ = await found(
        by_keyword(
            {
                "마우스": items(same, item(2), item(2, link="https://shop.example/other"), item(3), item(4)),
                "무선마우스": items(same, item(5)),
                "유선마우스": items(same, item(1, productId="")),
            }
        ),
        "마우스", "무선마우스", "유선마우스",
    )  # fmt: skip
    links = {product.keyword: [detail.link[-1] for detail in product.details] for product in result.products}
    assert links == {"마우스": ["1", "2", "3"], "무선마우스": ["5"]}
    assert result.problems == []


async def test_keywords_are_asked_once_and_not_without_end() -> None:
    result, naver = await found(script(items()), "마우스", " 마우스 ", "마 우스", "", "\x00", *map(str, range(100)))
    assert len(naver.heard) == 10
    assert result == Found([])


async def test_an_endless_keyword_is_cut() -> None:
    _, naver = await found(script(items()), "마우스 " * 500)
    assert len(naver.heard[0].query["query"][0]) <= 50


async def test_no_keyword_asks_nobody() -> None:
    result, naver = await found(script(items(ITEM)))
    assert (result, naver.heard) == (Found([]), [])


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (reply({"errorCode": "024", "errorMessage": "UPSTREAM"}, 401), "NAVER_CLIENT_ID"),
        (reply({"errorCode": "024"}, 403), "NAVER_CLIENT_ID"),
        (reply({}, 404), "NAVER_BASE_URL"),
        (reply({"errorMessage": "UPSTREAM"}, 500), "status 500"),
        (reply({}, 302, location="http://127.0.0.1:1/"), "redirect"),
        (reply({"errorCode": "010"}), "without a list"),
        (reply({"items": None}), "without a list"),
        (reply({"items": {"UPSTREAM": 1}}), "without a list"),
        (reply([]), "without a list"),
        (reply(None), "without a list"),
        (Reply(200, b'{"items": ['), "not JSON"),
        (Reply(200, b"<html>UPSTREAM</html>", {"content-type": "text/html"}), "not JSON"),
        (Reply(200, b""), "not JSON"),
        (Reply(200, b'{"items": ["\xff"]}'), "not JSON"),
        (Reply(200, b"[" * 300_000), "not JSON"),
        (Reply(200, b'"' + b"x" * (5 * 1024 * 1024) + b'"'), "too large"),
        (Reply(200, items(ITEM).body, cut_after=0), "broke"),
        (Reply(200, items(ITEM).body, cut_after=30), "broke"),
        (Reply(200, b"x" * 99, {"content-encoding": "gzip"}), "broke"),
    ],
)
async def test_a_keyword_that_fails_is_a_line_and_the_others_are_served(answer: Reply, says: str) -> None:
    result, _ = await found(by_keyword({"책상": answer, "마우스": items(ITEM)}), "책상", "마우스")
    assert [product.keyword for product in result.products] == ["마우스"]
    assert len(result.problems) == 1
    assert says in result.problems[0]
    assert "책상" in result.problems[0]
    assert SECRET not in result.problems[0]
    assert "UPSTREAM" not in result.problems[0]


@pytest.mark.parametrize("answer", [Reply(hang=True), Reply(drip=True)])
async def test_a_keyword_that_hangs_or_drips_is_given_up(answer: Reply) -> None:
    result, _ = await found(by_keyword({"책상": answer, "마우스": items(ITEM)}), "책상", "마우스", timeout_s=0.3)
    assert [product.keyword for product in result.products] == ["마우스"]
    assert result.problems == ["Naver: it did not answer in time (책상)"]


async def test_one_line_tells_of_all_keywords_that_failed_alike() -> None:
    searcher = search(await closed_port())
    result = await searcher.find(["책상", "마우스"])
    await searcher.aclose()
    assert result == Found([], ["Naver: it could not be reached (책상, 마우스)"])


async def test_after_a_429_it_waits_as_told_and_asks_once_more() -> None:
    clock = Clock()
    result, naver = await found(script(reply({}, 429, retry_after="2"), items(ITEM)), "마우스", clock=clock)
    assert len(result.products) == 1
    assert 2.0 in clock.slept
    assert len(naver.heard) == 2


@pytest.mark.parametrize(
    ("after", "calls"),
    [("1", 2), ("3600", 1), ("inf", 1), ("Fri, 31 Dec 2999 23:59:59 GMT", 1), ("nan", 2), ("soon", 2), ("-4", 2)],
)
async def test_a_limit_that_stays_is_a_line(after: str, calls: int) -> None:
    clock = Clock()
    result, naver = await found(script(reply({}, 429, retry_after=after)), "마우스", clock=clock)
    assert len(naver.heard) == calls
    assert "limit" in result.problems[0]
    assert sum(clock.slept) < 10


async def test_hits_are_kept_for_their_time_and_failures_and_nothings_are_not() -> None:
    clock = Clock()
    replies = [items(ITEM), items(), reply({}, 500), items(ITEM)]
    async with standing_in(script(*replies)) as naver:
        searcher = search(naver.url, clock, cache_s=60.0)
        first = await searcher.find(["마우스"])
        assert await searcher.find(["마우스"]) == first
        assert len(naver.heard) == 1
        clock.now += 61
        assert (await searcher.find(["마우스"])).products == []
        assert (await searcher.find(["마우스"])).problems != []
        assert (await searcher.find(["마우스"])).products == first.products
        assert len(naver.heard) == 4
        await searcher.aclose()


async def test_a_cache_of_no_time_keeps_nothing() -> None:
    async with standing_in(script(items(ITEM))) as naver:
        searcher = search(naver.url, cache_s=0.0)
        await searcher.find(["마우스"])
        await searcher.find(["마우스"])
        assert len(naver.heard) == 2
        await searcher.aclose()


@pytest.mark.parametrize(("per_second", "calls"), [(10.0, 10), (3.0, 3), (0.5, 1), (2.7, 2)])
async def test_no_more_calls_start_in_a_second_than_are_allowed(per_second: float, calls: int) -> None:
    clock = Clock()
    window = RateWindow(per_second, clock=clock, sleep=clock.sleep)
    starts = []
    for _ in range(25):
        await window.wait()
        starts.append(clock.now)
    assert starts[:calls] == [1000.0] * calls
    for start in starts:
        assert sum(start <= other < start + calls / per_second for other in starts) <= calls


async def test_keywords_beyond_the_rate_wait_their_turn() -> None:
    clock = Clock()
    _, naver = await found(script(items(ITEM)), *map(str, range(7)), clock=clock, per_second=3.0)
    assert len(naver.heard) == 7
    assert sum(clock.slept) >= 2


async def test_keywords_are_asked_side_by_side() -> None:
    """Each is answered only once all have been asked: one after another would never end."""
    waiting: list[str] = []

    def handler(heard: Heard) -> Reply:
        waiting.append(heard.query["query"][0])
        return items(ITEM) if len(waiting) > 3 else Reply(hang=True)

    result, _ = await found(handler, "책상", "의자", "램프", "마우스", timeout_s=0.3)
    assert sorted(waiting) == ["램프", "마우스", "의자", "책상"]
    assert len(result.products) == 1


@given(st.text(alphabet=st.characters(), max_size=300), st.integers(5, 80))
def test_outside_text_is_one_bounded_line_of_valid_utf8(text: str, limit: int) -> None:
    for clean in (one_line(text, limit), without_markup(text, limit)):
        assert len(clean) <= limit
        assert "\n" not in clean
        assert clean == clean.strip()
        clean.encode("utf-8")


def test_only_the_beginning_of_an_endless_text_is_looked_at() -> None:
    assert one_line(" " * 1_000_000 + "desk", 80) == ""
    assert one_line(" " * 20 + "desk" + " lamp" * 1_000_000, 9) == "desk lamp"
    assert without_markup("<b>" * 40 + "desk", 80) == "desk"


def test_text_is_cut_at_a_word_where_there_is_one() -> None:
    assert cut("one two three", 9) == "one two"
    assert cut("one two three", 7) == "one two"
    assert cut("onetwothree", 5) == "onetw"
    assert cut("short", 5) == "short"


@pytest.mark.parametrize("url", ["ftp://x/y", "data:text/html,x", "https://x/\u202egpj", "https://x/\n1", "x" * 3000])
def test_an_address_that_a_page_should_not_link_to_is_none(url: str) -> None:
    assert web_address(url) == ""
