"""Naver's shopping search, over HTTP."""

from __future__ import annotations

import io
from typing import Any

import httpx
import pytest
from PIL import Image

from sandbox.app import create_app
from sandbox.serving import in_thread
from sandbox.state import Latency, Options
from tests.integration.sandbox.stand import NAVER, SEARCH, Stand


def test_a_search_answers_in_navers_shape(stand: Stand) -> None:
    params = {"query": "무선 마우스", "display": "3", "start": "1", "sort": "asc", "exclude": "used:rental:cbshop"}
    answer = stand.http.get(SEARCH, params=params, headers=NAVER)
    found = answer.json()
    assert answer.headers["content-type"].startswith("application/json")
    assert set(found) == {"lastBuildDate", "total", "start", "display", "items"}
    assert found["display"] == len(found["items"]) <= 3
    item = found["items"][0]
    assert set(item) == {
        "title", "link", "image", "lprice", "hprice", "mallName", "productId", "productType", "brand", "maker",
        "category1", "category2", "category3", "category4",
    }  # fmt: skip
    assert all(isinstance(value, str) for value in item.values())
    assert "<b>마우스</b>" in item["title"]
    picture = httpx.get(item["image"], trust_env=False)
    assert Image.open(io.BytesIO(picture.content)).format == "JPEG"


def test_paging_walks_through_all_of_them_once(stand: Stand) -> None:
    seen: list[str] = []
    for start in (1, 6, 11, 16, 21):
        found = stand.http.get(SEARCH, params={"query": "책상", "display": 5, "start": start}, headers=NAVER).json()
        seen += [item["productId"] for item in found["items"]]
    assert len(seen) == len(set(seen)) == found["total"]


def test_an_unknown_keyword_finds_nothing_and_is_no_error(stand: Stand) -> None:
    found = stand.http.get(SEARCH, params={"query": "우주왕복선"}, headers=NAVER).json()
    assert (found["total"], found["display"], found["items"]) == (0, 0, [])


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({}, "SE01"),
        ({"query": "  "}, "SE01"),
        ({"query": "a", "page": 1}, "SE01"),
        ({"query": "a", "display": 0}, "SE02"),
        ({"query": "a", "display": 101}, "SE02"),
        ({"query": "a", "display": "ten"}, "SE02"),
        ({"query": "a", "start": 0}, "SE03"),
        ({"query": "a", "start": 1001}, "SE03"),
        ({"query": "a", "sort": "price"}, "SE04"),
        ({"query": "a", "filter": "cheap"}, "SE01"),
        ({"query": "a", "exclude": "used,rental"}, "SE01"),
    ],
)
def test_a_wrong_parameter_has_its_code(stand: Stand, params: dict[str, Any], code: str) -> None:
    answer = stand.http.get(SEARCH, params=params, headers=NAVER)
    assert (answer.status_code, answer.json()["errorCode"]) == (400, code)
    assert set(answer.json()) == {"errorCode", "errorMessage"}


def test_text_that_is_not_utf8_is_malformed(stand: Stand) -> None:
    answer = stand.http.get(f"{SEARCH}?query=%B8%B6", headers=NAVER)
    assert answer.json()["errorCode"] == "SE06"


@pytest.mark.parametrize("missing", list(NAVER))
def test_without_both_headers_a_search_is_refused(stand: Stand, missing: str) -> None:
    for headers in ({k: v for k, v in NAVER.items() if k != missing}, NAVER | {missing: ""}):
        answer = stand.http.get(SEARCH, params={"query": "a"}, headers=headers)
        assert (answer.status_code, answer.json()["errorCode"]) == (401, "024")


def test_other_paths_and_methods_of_naver_have_its_shape(stand: Stand) -> None:
    assert stand.http.get("/naver/v1/search/book.json").json()["errorCode"] == "SE05"
    assert stand.http.post(SEARCH, headers=NAVER).status_code == 405
    assert stand.http.get("/naver/images/1.jpg").status_code == 404


def test_naver_fails_on_demand(stand: Stand) -> None:
    def search(query: str = "마우스") -> httpx.Response:
        return stand.http.get(SEARCH, params={"query": query}, headers=NAVER)

    stand.fails("naver", "rate-limit", match="마우스")
    assert search("키보드").status_code == 200
    limited = search()
    assert (limited.status_code, limited.json()["errorCode"]) == (429, "012")
    assert "retry-after" not in limited.headers
    stand.fails("naver", "rate-limit", retry_after=2)
    assert search().headers["retry-after"] == "2"
    stand.fails("naver", "status")
    assert (search().status_code, search().status_code) == (500, 200)
    stand.fails("naver", "empty")
    assert search().json()["items"] == []
    stand.fails("naver", "missing-fields")
    assert any("" in (item["lprice"], item["image"], item["title"]) for item in search().json()["items"])


def test_searching_too_fast_is_refused_when_the_sandbox_keeps_a_rate() -> None:
    app = create_app(Options(latency=Latency.parse("0"), naver_per_second=0))
    with in_thread(app) as url, httpx.Client(base_url=url, trust_env=False) as http:
        answer = http.get(SEARCH, params={"query": "책상"}, headers=NAVER)
    assert (answer.status_code, answer.json()["errorCode"]) == (429, "012")
