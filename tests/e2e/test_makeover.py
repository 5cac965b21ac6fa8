"""A makeover through the whole service: the sandbox plays OpenAI, Naver and the backend, over real HTTP."""

from __future__ import annotations

import io

import bentoml
import httpx
import pytest
from PIL import Image

from tests.e2e.conftest import Told


def test_the_answer_is_the_contracts(told: dict[str, Told], photos: dict[str, str]) -> None:
    response = told["nested"].response
    assert set(response) == {"initial_image_url", "processed_image_url", "products"}
    assert response["initial_image_url"] == photos["desk"]
    assert response["products"]
    for product in response["products"]:
        assert set(product) == {"keyword", "details"}
        for detail in product["details"]:
            assert set(detail) == {"title", "price", "mall", "link", "image", "main_category", "sub_category"}
            assert detail["price"].isdigit()
            assert None not in detail.values()


def test_the_picture_can_be_fetched_and_is_one(told: dict[str, Told]) -> None:
    answer = httpx.get(told["nested"].response["processed_image_url"])
    assert answer.status_code == 200
    assert Image.open(io.BytesIO(answer.content)).width >= 512


def test_the_task_tells_what_it_cost_and_that_the_backend_knows(told: dict[str, Told]) -> None:
    task = told["nested"].task
    assert (task["status"], task["progress"], task["kind"], task["concept"]) == ("succeeded", 1.0, "v1", "BASIC")
    assert task["callback"] == {"status": "delivered", "attempts": 1, "last_error": None}
    ledger = httpx.get(f"{told['nested'].sandbox}/ledger").json()
    assert task["cost"]["total"] == pytest.approx(sum(call["usd"] for call in ledger))
    assert task["cost"]["total"] == pytest.approx(sum(item["usd"] for item in task["cost"]["items"]))
    assert len(task["cost"]["items"]) == len(ledger) == 2


def test_the_callback_carries_the_answer_signed(told: dict[str, Told]) -> None:
    callback = told["nested"].callback
    assert callback["body"] == told["nested"].response
    assert {"webhook-id", "webhook-timestamp", "webhook-signature"} <= set(callback["headers"])


def test_the_flat_callback_carries_the_same_products(told: dict[str, Told]) -> None:
    names = [product["name"] for product in told["flat"].callback["body"]["products"]]
    assert names == [d["title"] for product in told["flat"].response["products"] for d in product["details"]]


def test_the_same_key_is_the_same_task_and_another_body_is_refused(
    told: dict[str, Told], photos: dict[str, str]
) -> None:
    headers = {"Idempotency-Key": "order-1", "Prefer": "respond-async"}
    body = {"image_url": photos["desk"], "concept": "OIL"}
    first, second = (httpx.post(f"{told['nested'].base}/v1/generate", json=body, headers=headers) for _ in range(2))
    assert first.status_code == second.status_code == 202
    assert first.json()["id"] == second.json()["id"]
    assert first.headers["location"] == f"/tasks/{first.json()['id']}"
    other = httpx.post(f"{told['nested'].base}/v1/generate", json={**body, "concept": "SIMPLE"}, headers=headers)
    assert (other.status_code, other.json()["type"]) == (409, "/problems/idempotency-conflict")


def test_what_is_no_desk_is_refused_before_money_is_spent(told: dict[str, Told], photos: dict[str, str]) -> None:
    before = len(httpx.get(f"{told['flat'].sandbox}/ledger").json())
    answer = httpx.post(f"{told['flat'].base}/v1/generate", json={"image_url": photos["dining_table"]}, timeout=60)
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/not-a-desk")
    assert len(httpx.get(f"{told['flat'].sandbox}/ledger").json()) == before


def test_our_own_model_is_missing_and_says_so(told: dict[str, Told], photos: dict[str, str]) -> None:
    answer = httpx.post(f"{told['flat'].base}/v2/generate", json={"image_url": photos["desk"]})
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/custom-model-missing")


def test_bentomls_own_client_can_prompt_and_generate(told: dict[str, Told], photos: dict[str, str]) -> None:
    with bentoml.SyncHTTPClient(told["flat"].base) as client:
        described = dict(client.prompt({"image_url": photos["desk"], "concept": "SIMPLE"}))
        made = dict(client.generate({"image_url": photos["desk"], "concept": "SIMPLE"}))
    assert set(described) == {"prompt", "keywords", "tags", "mood"}
    assert made["initial_image_url"] == photos["desk"]


def test_an_uploaded_photo_is_made_over(told: dict[str, Told], photos: dict[str, str]) -> None:
    base = told["nested"].base
    data = httpx.get(photos["desk"]).content
    upload = httpx.post(f"{base}/uploads", json={"content_type": "image/jpeg", "size": len(data)}).json()
    assert httpx.put(upload["upload_url"], content=data, headers=upload["headers"]).status_code == 204
    answer = httpx.post(f"{base}/v1/generate", json={"image_url": upload["image_url"]}, timeout=120)
    assert answer.status_code == 200, answer.text
    assert answer.json()["initial_image_url"] == upload["image_url"]


def test_the_prefix_and_the_old_spelling_answer_too(told: dict[str, Told], photos: dict[str, str]) -> None:
    body = {"image_url": photos["desk"]}
    url = f"{told['nested'].base}/app/routers/v1/generated"
    answer = httpx.post(url, json=body, headers={"Prefer": "respond-async"})
    assert answer.status_code == 202
    assert answer.json()["kind"] == "v1"
