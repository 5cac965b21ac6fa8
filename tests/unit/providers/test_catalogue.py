"""The team's own products: a table that is read or says where it is wrong, and serves what a keyword names."""

from __future__ import annotations

from pathlib import Path

import pytest

from deskterior.config import SettingsError
from deskterior.providers import Found
from deskterior.providers.catalogue import Catalogue
from deskterior.providers.shop import Shop
from deskterior.schemas import Product, ProductDetail

HEADER = "name,price,purchase_place,purchase_url,image_path,main_category,sub_category,product_code,keywords\n"


def line(name: str, sub: str, number: int, *, main: str = "주변기기", code: str = "", keywords: str = "") -> str:
    return f"{name},12900,팀 상점,https://shop.example/{number},https://img.example/{number}.jpg,{main},{sub},{code},{keywords}\n"


ROWS = (
    line("로지텍 무선마우스 M720", "마우스", 1, code="M-720")
    + line("펠트 마우스패드 XL", "마우스패드", 2)
    + line("앱코 기계식 키보드", "키보드", 3)
    + line("무접점 키보드 저소음", "키보드", 4)
    + line("원목 책상 선반", "선반", 5, main="가구")
    + line("밝은 등", "조명", 6, keywords="LED 스탠드|데스크 램프")
)


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "own.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    return Catalogue.load(written(tmp_path, HEADER + ROWS))


@pytest.mark.parametrize(
    ("keyword", "numbers"),
    [
        ("마우스", [1]),
        ("무선 마우스", [1]),
        ("유선 마우스", []),
        ("마우스패드", [2]),
        ("마우스 패드", [2]),
        ("키보드", [3, 4]),
        ("기계식 키보드", [3]),
        ("무접점키보드", []),
        ("무접점 키보드", [4]),
        ("책상", []),
        ("책", []),
        ("선반", [5]),
        ("책상 선반", [5]),
        ("led 스탠드", [6]),
        ("데스크램프", [6]),
        ("스탠드", [6]),
        ("모니터", []),
        ("", []),
        ("!!", []),
    ],
)
def test_a_keyword_finds_what_it_names_and_not_what_it_is_part_of(
    catalogue: Catalogue, keyword: str, numbers: list[int]
) -> None:
    found = [int(detail.link.rsplit("/", 1)[1]) for detail in catalogue.find(keyword, 10)]
    assert found == numbers


def test_loosely_is_wider_but_never_unrelated(catalogue: Catalogue) -> None:
    assert [detail.link[-1] for detail in catalogue.find("게이밍 마우스", 10, loosely=True)] == ["1", "2"]
    assert catalogue.find("모니터", 10, loosely=True) == []


def test_a_product_has_the_wires_shape_and_keeps_its_code(catalogue: Catalogue) -> None:
    (detail,) = catalogue.find("마우스", 10)
    assert detail == ProductDetail(
        title="로지텍 무선마우스 M720",
        price="12900",
        mall="팀 상점",
        link="https://shop.example/1",
        image="https://img.example/1.jpg",
        main_category="주변기기",
        sub_category="마우스",
    )
    assert catalogue.product_code(detail.link) == "M-720"
    assert catalogue.product_code("https://shop.example/2") is None


def test_excels_byte_order_mark_quotes_and_line_ends_are_read(tmp_path: Path) -> None:
    text = (HEADER + ROWS).replace(
        "\n", "\r\n"
    ) + '"램프, 접이식","12,900",팀,https://a.b/c,https://a.b/d,가구,"조명",,\r\n\r\n'
    catalogue = Catalogue.load(written(tmp_path, b"\xef\xbb\xbf" + text.encode()))
    assert len(catalogue) == 7
    assert catalogue.find("조명", 10)[-1].price == "12900"


GOOD = "책상,1000,팀,https://a.b/c,https://a.b/d,가구,책상,,\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no column name"),
        (HEADER, "holds no product"),
        ("name,price\nx,1\n", "line 1: no column purchase_place"),
        (HEADER.replace(",", ";") + GOOD, "separated by commas"),
        (HEADER.replace("product_code", "name") + GOOD, "column name is there twice"),
        (HEADER + GOOD + GOOD.replace("1000", "천원"), "line 3, column price"),
        (HEADER + GOOD.replace("1000", "0"), "line 2, column price"),
        (HEADER + GOOD.replace("1000", "10.5"), "line 2, column price"),
        (HEADER + GOOD.replace("1000", ""), "line 2, column price"),
        (HEADER + GOOD.replace("https://a.b/c", "a.b/c"), "line 2, column purchase_url"),
        (HEADER + GOOD.replace("https://a.b/c", "javascript:alert(1)"), "line 2, column purchase_url"),
        (HEADER + GOOD.replace("https://a.b/d", "d.jpg"), "line 2, column image_path"),
        (HEADER + GOOD.replace("책상,1000", ",1000"), "line 2, column name"),
        (HEADER + GOOD.replace("책상,1000", "x" * 300 + ",1000"), "line 2, column name"),
        (HEADER + GOOD.replace("가구", " "), "line 2, column main_category"),
        (HEADER + "책상,1000\n", "line 2, column purchase_place: the line ends"),
        (HEADER + GOOD.replace("\n", ",x\n"), "line 2: more cells"),
        (HEADER + GOOD.replace(",,\n", "," + "x" * 46 + ",\n"), "line 2, column product_code"),
        (HEADER + GOOD.replace(",,\n", ",A,\n") * 2, "line 3, column product_code: A is line 2's too"),
        (
            HEADER + GOOD.replace(",,\n", ",A,\n") + GOOD.replace(",,\n", ",a,\n"),
            "line 3, column product_code: a is line 2's too",
        ),  # the backend's database does not tell cases apart
        (HEADER + GOOD + '"책상,1000', "line 3"),
        (HEADER + '"책\n상",1000,팀,https://a.b/c,https://a.b/d,가구,책상,,\n' + "x\n", "line 4, column price"),
        ((HEADER + GOOD).encode("cp949"), "CP949"),
        (HEADER.encode() + b"\xff\xfe\x80\n", "line 2: it is not UTF-8"),
        ((HEADER + GOOD).encode("utf-16"), "not UTF-8"),
        (HEADER + GOOD.replace("팀", "팀\0"), "own.csv"),
        (HEADER + "x" * 200_000 + "\n", "line 2"),
    ],
)
def test_a_wrong_table_says_file_line_and_column(tmp_path: Path, text: str | bytes, says: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Catalogue.load(written(tmp_path, text))
    assert str(caught.value).startswith("CATALOGUE_CSV: own.csv")
    assert says in str(caught.value)


def test_a_missing_table_or_a_folder_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(SettingsError, match="CATALOGUE_CSV"):
            Catalogue.load(path)


class Elsewhere:
    """Naver, as far as the shop sees it."""

    def __init__(self, *, away: bool = False) -> None:
        self.asked: list[list[str]] = []
        self.away = away

    async def find(self, keywords: list[str]) -> Found:
        self.asked.append(keywords)
        if self.away:
            return Found([], [f"Naver: away ({', '.join(keywords)})"])
        return Found([Product(keyword=keyword, details=[detail(keyword)]) for keyword in keywords])


def detail(keyword: str) -> ProductDetail:
    return ProductDetail(
        title=keyword,
        price="1",
        mall="네이버",
        link=f"https://naver.example/{keyword}",
        image="",
        main_category="기타",
        sub_category="기타",
    )


async def test_the_catalogue_serves_what_it_matches_and_naver_the_rest(catalogue: Catalogue) -> None:
    naver = Elsewhere()
    found = await Shop(catalogue, naver, per_keyword=1).find(["모니터", "키보드", "마우스"])
    assert naver.asked == [["모니터"]]
    assert [(product.keyword, product.details[0].mall) for product in found.products] == [
        ("모니터", "네이버"),
        ("키보드", "팀 상점"),
        ("마우스", "팀 상점"),
    ]
    assert all(len(product.details) == 1 for product in found.products)


async def test_naver_is_not_asked_when_the_catalogue_matches_all(catalogue: Catalogue) -> None:
    naver = Elsewhere()
    await Shop(catalogue, naver, per_keyword=3).find(["키보드", " 키 보 드 "])
    assert naver.asked == []


async def test_while_naver_is_away_the_catalogue_serves_what_fits_and_the_problem_stays(catalogue: Catalogue) -> None:
    found = await Shop(catalogue, Elsewhere(away=True), per_keyword=3).find(["게이밍 마우스", "모니터"])
    assert [product.keyword for product in found.products] == ["게이밍 마우스"]
    assert found.problems == ["Naver: away (게이밍 마우스, 모니터)"]


async def test_no_product_is_shown_under_two_keywords(catalogue: Catalogue) -> None:
    found = await Shop(catalogue, Elsewhere(), per_keyword=3).find(["키보드", "무접점 키보드"])
    assert [(product.keyword, len(product.details)) for product in found.products] == [("키보드", 2)]
