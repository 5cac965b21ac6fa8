"""What the fuzzers found, each as a plain test."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from deskterior.schemas import UploadRequest


@pytest.mark.parametrize(("size", "read"), [(5, 5), (5.0, 5), (10764261169.0, 10764261169)])
def test_what_json_schema_calls_an_integer_is_one(size: float, read: int) -> None:
    assert UploadRequest.model_validate({"content_type": "image/png", "size": size}).size == read


@pytest.mark.parametrize("size", ["5", True, 5.5, 0.0, -1, float("inf"), float("nan"), None, [5]])
def test_what_is_no_integer_there_is_none_here(size: object) -> None:
    with pytest.raises(ValidationError):
        UploadRequest.model_validate({"content_type": "image/png", "size": size})
