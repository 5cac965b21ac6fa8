"""The exception tree: what crosses the wire, and what survives a durable job's store."""

import pickle

import pytest

from deskterior import errors
from deskterior.errors import DeskteriorError, Invalid, ProviderFailed


def leaves(kind: type[DeskteriorError]) -> list[type[DeskteriorError]]:
    below = kind.__subclasses__()
    return [kind] + [leaf for child in below for leaf in leaves(child)]


@pytest.mark.parametrize("kind", [kind for kind in leaves(DeskteriorError) if kind.__module__ == errors.__name__])
def test_every_error_is_a_problem_and_survives_pickling(kind: type[DeskteriorError]) -> None:
    error = pickle.loads(pickle.dumps(kind("what is wrong")))  # noqa: S301
    assert type(error) is kind
    problem = error.problem("r-1")
    assert problem["type"] == f"/problems/{kind.slug}"
    assert problem["status"] == kind.status >= 400
    assert problem["detail"] == "what is wrong"
    assert problem["request_id"] == "r-1"


def test_what_only_the_log_may_know_stays_out_of_the_problem() -> None:
    error = ProviderFailed("OpenAI answered 500", provider="openai", internal="sk-secret upstream body")
    assert "sk-secret" not in str(error.problem())
    assert pickle.loads(pickle.dumps(error)).internal == error.internal  # noqa: S301


def test_a_validation_problem_names_the_fields() -> None:
    wrong = [{"field": "image_url", "message": "Field required"}]
    problem = Invalid(errors=wrong).problem()
    assert problem["errors"] == wrong
    assert problem["detail"] == "image_url: Field required"


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    assert errors.__doc__ is not None
    own = {kind.__name__ for kind in leaves(DeskteriorError) if kind.__module__ == errors.__name__}
    assert {name for name in own if name not in errors.__doc__} == set()
