"""A backend in Java (RestTemplate, the JDK's own client, a strict Jackson) calls, and reads what it is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.conftest import Told, run

GOLDEN = Path(__file__).parent.parent / "golden"


def test_a_strict_java_client_understands_every_answer(java: list[str], base: str, photos: dict[str, str]) -> None:
    assert run(java, "Client", base, photos["desk"], photos["dining_table"]) == [
        "/classify true",
        "/classify false",
        "/app/routers/classify true",
        "/app/routers/classify false",
        "problem 422 /problems/photo-unreachable",
        "problem 422 /problems/validation",
        "problem 404 /problems/not-found",
        "problem 405 /problems/method-not-allowed",
        "health healthy",
    ]


def test_the_jdks_own_client_needs_no_settings(java: list[str], base: str, photos: dict[str, str]) -> None:
    assert run(java, "Jdk", base, photos["desk"]) == [
        *["classify 200 desk"] * 3,
        "chunked 200 desk",
        *["at once 200 desk"] * 8,
        "info 200",
        "nothing 422",
    ]


def test_a_strict_java_backend_parses_the_golden_callbacks(java: list[str]) -> None:
    files = {
        "callback_desk_found": "found",
        "callback_nested_succeeded": "nested",
        "callback_nested_failed": "nested",
        "callback_flat_succeeded": "flat",
        "callback_flat_failed": "flat",
    }
    arguments = [word for name, form in files.items() for word in (form, str(GOLDEN / f"{name}.json"))]
    said = run(java, "Callback", *arguments)
    assert said[0] == "found true"
    assert said[1].startswith("nested ")
    assert said[2] == "nested failed 504 null"
    assert said[3].startswith("flat ")
    assert said[4] == "flat failed null"


@pytest.mark.parametrize("form", ["nested", "flat"])
def test_a_strict_java_backend_parses_what_the_service_sent(
    java: list[str], told: dict[str, Told], form: str, tmp_path: Path
) -> None:
    file = tmp_path / "callback.json"
    file.write_text(json.dumps(told[form].callback["body"], ensure_ascii=False))
    (said,) = run(java, "Callback", form, str(file))
    details = sum(len(product["details"]) for product in told[form].response["products"])
    expected = f"nested {len(told[form].response['products'])} {details}" if form == "nested" else f"flat {details}"
    assert said == expected
