"""What the backend is told: both formats against their golden files, the limits of its tables, signatures, pauses."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import random
import secrets
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from deskterior.callback_messages import (
    Failure,
    FlatMessage,
    cut,
    desk_found,
    flat,
    generate_ended,
    java_length,
    product_code,
)
from deskterior.callbacks import MAX_PAUSE_S, Signer, next_pause
from deskterior.config import SettingsError
from deskterior.errors import ProviderTimeout
from deskterior.schemas import Problem, Product, ProductDetail, PromptResponse, TaskStatus

GOLDEN = Path(__file__).parent.parent / "golden"
PHOTO = "https://bucket.s3.ap-northeast-2.amazonaws.com/a%20b/책상.jpg?x=1&y=%2f#top"
NOW = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)


def detail(**changes: str) -> ProductDetail:
    given = {
        "title": "앱코 무소음 무선 마우스",
        "price": "21990",
        "mall": "네이버",
        "link": "https://search.shopping.naver.com/catalog/52340981234",
        "image": "https://shopping-phinf.pstatic.net/main_5234098/52340981234.jpg",
        "main_category": "마우스",
        "sub_category": "무선마우스",
    }
    return ProductDetail.model_validate(given | changes)


def result(*details: ProductDetail) -> PromptResponse:
    products = [Product(keyword="마우스", details=list(details))] if details else []
    return PromptResponse(
        initial_image_url=PHOTO, processed_image_url="https://cdn.example.com/results/1.png", products=products
    )


SUCCEEDED = PromptResponse(
    initial_image_url=PHOTO,
    processed_image_url="https://cdn.example.com/results/task/3f/3fa9.png",
    products=[
        Product(
            keyword="마우스",
            details=[
                detail(),
                detail(
                    title='로지텍 "MX" 🖱️ <특가>',
                    price="0000129000",
                    mall="쿠팡",
                    link="https://search.shopping.naver.com/gate.nhn?id=82345678901",
                ),
            ],
        ),
        Product(
            keyword="모니터 받침대",
            details=[
                detail(
                    title="원목 모니터 받침대",
                    price="18900",
                    mall="우드홈",
                    link="https://smartstore.naver.com/woodhome/products/7712345",
                    main_category="사무용품",
                    sub_category="",
                )
            ],
        ),
    ],
)
FAILED = Failure(
    initial_image_url=PHOTO,
    error=Problem.model_validate(ProviderTimeout("The image model did not answer within 180 s").problem("req-1")),
)
MESSAGES = {
    "desk_found": desk_found(TaskStatus(initial_image_url=PHOTO, classify=True)),
    "nested_succeeded": generate_ended(SUCCEEDED, "nested"),
    "nested_failed": generate_ended(FAILED, "nested"),
    "flat_succeeded": generate_ended(SUCCEEDED, "flat"),
    "flat_failed": generate_ended(FAILED, "flat"),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_is_the_golden_one_field_by_field(name: str) -> None:
    golden = json.loads((GOLDEN / f"callback_{name}.json").read_text(encoding="utf-8"))
    sent = json.loads(MESSAGES[name])
    assert sent == golden
    assert list(sent) == list(golden)


@pytest.mark.parametrize("name", MESSAGES)
def test_the_photos_address_is_echoed_byte_for_byte_and_korean_stays_korean(name: str) -> None:
    assert json.loads(MESSAGES[name])["initial_image_url"] == PHOTO
    assert PHOTO.encode() in MESSAGES[name]
    assert b"\\u" not in MESSAGES[name]


def test_a_failure_in_the_flat_format_has_only_fields_that_the_backend_knows() -> None:
    assert json.loads(MESSAGES["flat_failed"]) == {
        "initial_image_url": PHOTO,
        "processed_image_url": None,
        "products": None,
    }


def test_a_makeover_without_products_has_an_empty_list_not_null() -> None:
    assert json.loads(generate_ended(result(), "flat"))["products"] == []
    assert json.loads(generate_ended(result(), "nested"))["products"] == []


TEXT = st.text(
    alphabet=st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from("🖱️한e\u0301")), max_size=300
)
DETAILS = st.builds(
    ProductDetail,
    title=TEXT,
    price=st.one_of(
        st.integers(0, 2**33).map(str), st.integers(0, 99).map(lambda n: "0" * 20 + str(n)), st.just("9" * 5000)
    ),
    mall=TEXT,
    link=st.one_of(TEXT, st.integers(0, 10**45).map("https://search.shopping.naver.com/gate.nhn?id={}".format)),
    image=TEXT,
    main_category=TEXT,
    sub_category=TEXT,
)


@given(st.lists(DETAILS, max_size=5))
def test_whatever_the_shops_say_a_flat_message_fits_the_backends_tables(details: list[ProductDetail]) -> None:
    sent = FlatMessage.model_validate_json(generate_ended(result(*details, *details), "flat"))
    products = sent.products or []
    for product in products:
        assert java_length(product.main_category) <= 30
        assert java_length(product.sub_category) <= 30
        assert 0 < java_length(product.product_code) <= 45
        for text in (product.name, product.purchase_place, product.purchase_url, product.image_path):
            assert java_length(text) <= 255
        assert 0 <= product.price < 2**31
    codes = [product.product_code for product in products]
    assert len(set(codes)) == len(codes)
    assert {product.purchase_url for product in products} <= {given.link for given in details}


@given(TEXT, st.integers(0, 60))
def test_a_cut_text_is_the_beginning_of_the_whole_and_no_character_is_halved(text: str, limit: int) -> None:
    short = cut(text, limit)
    assert text.startswith(short)
    assert java_length(short) <= limit
    assert short == text or java_length(text) > limit
    short.encode()


def test_an_emoji_counts_as_two_of_javas_characters() -> None:
    assert cut("가" * 29 + "🖱", 30) == "가" * 29
    assert cut("가" * 28 + "🖱", 30) == "가" * 28 + "🖱"


def test_a_product_whose_address_cannot_be_stored_is_left_out_and_the_others_stay() -> None:
    long = "https://shop.example.com/" + "a" * 231
    products = flat(result(detail(link=long), detail(image=long), detail(price="2147483648"), detail(title="last")))
    assert [product.name for product in products.products or []] == ["last"]
    assert java_length(long) == 256
    fits = flat(result(detail(link=long[:-1]), detail(image=long[:-1]), detail(link="x", price="2147483647"))).products
    assert fits is not None
    assert len(fits) == 3


def test_of_two_products_with_one_code_the_first_that_fits_stays() -> None:
    unfit = detail(price="99999999999")
    message = flat(result(unfit, detail(title="first"), detail(title="second")))
    assert [product.name for product in message.products or []] == ["first"]


@pytest.mark.parametrize(
    ("link", "code"),
    [
        ("https://search.shopping.naver.com/gate.nhn?id=82345", "naver-82345"),
        ("https://search.shopping.naver.com/catalog/82345?query=a", "naver-82345"),
        ("https://search.shopping.naver.com/product/82345", "naver-82345"),
    ],
)
def test_a_products_code_is_navers_own_number(link: str, code: str) -> None:
    assert product_code(detail(link=link)) == code


@pytest.mark.parametrize(
    "link",
    [
        "https://evil.example/gate.nhn?id=82345",
        "https://search.shopping.naver.com/gate.nhn?id=" + "8" * 60,
        "https://search.shopping.naver.com/gate.nhn?id=abc",
        "https://search.shopping.naver.com/catalog/٣٣",
        "https://[not-an-address/",
        "",
    ],
)
def test_any_other_product_has_a_code_made_from_its_link(link: str) -> None:
    code = product_code(detail(link=link))
    assert code == product_code(detail(link=link, title="another title"))
    assert code != product_code(detail(link=link + "x"))
    assert code.startswith("link-")
    assert len(code) == 37


def test_a_product_of_the_teams_own_table_has_the_tables_code() -> None:
    own, other = detail(link="https://shop.example/1"), detail(link="https://shop.example/2")
    told = json.loads(generate_ended(result(own, other), "flat", {own.link: "M-720"}.get))
    assert [product["product_code"] for product in told["products"]] == ["M-720", product_code(other)]


BODY = '{"감": "🖱"}'.encode()


@pytest.mark.parametrize("prefix", ["whsec_", ""])
def test_a_secret_of_the_specification_verifies_with_its_library(prefix: str) -> None:
    secret = prefix + base64.b64encode(secrets.token_bytes(32)).decode()
    now = datetime.now(UTC)
    headers = Signer(secret).headers("msg_1", BODY, now)
    assert Webhook(secret).verify(BODY, headers) == {"감": "🖱"}
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(BODY + b" ", headers)
    assert headers["webhook-signature"].count("v1,") == 1


def test_an_unpadded_secret_is_taken_as_the_library_takes_it() -> None:
    secret = "whsec_" + base64.b64encode(b"k" * 25).decode().rstrip("=")
    Webhook(secret).verify(BODY, Signer(secret).headers("msg_1", BODY, datetime.now(UTC)))


@pytest.mark.parametrize(
    ("secret", "library_takes_it"),
    [("my-secret", True), ("hunter22", True), ("correct horse battery staple", False), ("비밀", False)],
)
def test_a_plain_secret_verifies_as_plain_bytes_and_where_the_library_takes_it(
    secret: str, library_takes_it: bool
) -> None:
    headers = Signer(secret).headers("msg_1", BODY, NOW)
    text = b"msg_1." + headers["webhook-timestamp"].encode() + b"." + BODY
    by_hand = base64.b64encode(hmac.new(secret.encode(), text, hashlib.sha256).digest()).decode()
    signatures = headers["webhook-signature"].split(" ")
    assert f"v1,{by_hand}" in signatures
    if library_takes_it:
        assert Webhook(secret).sign("msg_1", NOW, BODY.decode()) in signatures


@pytest.mark.parametrize("secret", ["not base64!", "a", "====", "비밀", ""])
def test_a_secret_that_cannot_be_one_is_named_without_being_shown(secret: str) -> None:
    with pytest.raises(SettingsError, match="CALLBACK_SECRET") as caught:
        Signer(f"whsec_{secret}")
    assert f"whsec_{secret}" not in str(caught.value).replace("whsec_ ", "")


def test_pauses_grow_with_jitter_up_to_an_hour() -> None:
    rng = random.Random(1)
    drawn = {attempts: [next_pause(attempts, rng) for _ in range(200)] for attempts in (1, 5, 12, 100_000)}
    assert max(drawn[1]) <= 4 < max(drawn[5]) <= 64
    assert 1800 < max(drawn[12]) <= MAX_PAUSE_S
    assert max(drawn[100_000]) <= MAX_PAUSE_S
    assert all(len(set(pauses)) == 200 and min(pauses) >= 0 for pauses in drawn.values())
