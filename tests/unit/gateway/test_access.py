"""The table of who may do what: it names every route, and no spelling of a path gets around it."""

from __future__ import annotations

import re
from collections.abc import Iterator, MutableMapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.routing import BaseRoute, Match, Mount, Route

from deskterior.app import create_app
from deskterior.errors import Forbidden, MethodNotAllowed, NotFound
from deskterior.front import ALIASES, BENTOML_PATHS, PREFIX, _respelled
from deskterior.gateway.access import TABLE, Access, Rule, nothing_there
from deskterior.gateway.caller import SCOPES, Caller
from deskterior.gateway.documented import document

APP = create_app()
ACCESS = Access()


def routes(of: Any = APP) -> Iterator[tuple[str, str]]:
    """Path and method of everything that the application answers."""
    for route in of.routes:
        path = getattr(route, "path", "")
        if isinstance(route, Mount):
            yield "GET", f"{path}/{{anything}}"
        elif isinstance(route, Route):
            yield from ((method, path) for method in route.methods or ())
        else:
            yield from routes(route.original_router)


ROUTES = sorted({*routes(), *(("GET", path) for path in BENTOML_PATHS)})


def rule_of(method: str, path: str) -> Rule | None:
    return ACCESS.rules(path).get("GET" if method == "HEAD" else method)


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_every_route_has_a_rule(method: str, path: str) -> None:
    assert rule_of(method, re.sub(r"\{[^}]*\}", "x", path)), f"{method} {path} needs a line in gateway/access.py"


def test_all_routes_were_walked() -> None:
    assert {("POST", "/classify"), ("GET", "/tasks/{task_id}/events"), ("PUT", "/files/{key:path}")} < set(ROUTES)
    assert len(ROUTES) > 20


def test_a_route_that_the_table_does_not_know_is_answered_to_nobody() -> None:
    assert ACCESS.rules("/new") == {}
    assert isinstance(nothing_there({}), NotFound)


@pytest.mark.parametrize(
    ("method", "path", "scopes"),
    [
        ("POST", "/classify", {"classify"}),
        ("POST", "/v1/prompt", {"generate"}),
        ("POST", "/v1/generate", {"generate"}),
        ("POST", "/v2/generate", {"generate"}),
        ("POST", "/uploads", {"classify", "generate"}),
        ("GET", "/tasks", {"tasks:read"}),
        ("GET", "/tasks/1", {"tasks:read"}),
        ("GET", "/tasks/1/events", {"tasks:read"}),
        ("POST", "/tasks/1/cancel", {"tasks:write"}),
        ("POST", "/tasks/1/retry", {"tasks:write"}),
        ("DELETE", "/tasks/1", {"tasks:write"}),
        ("GET", "/metrics", {"metrics"}),
    ],
)
def test_each_of_its_scopes_opens_a_path_and_no_other_but_admin(method: str, path: str, scopes: set[Any]) -> None:
    rule = rule_of(method, path)
    assert rule is not None
    assert not ACCESS.free(rule)
    for scope in SCOPES:
        caller = Caller("a", frozenset({scope}))
        if scope in scopes or scope == "admin":
            ACCESS.check(caller, rule)
        else:
            with pytest.raises(Forbidden) as raised:
                ACCESS.check(caller, rule)
            assert all(needed in raised.value.detail for needed in scopes)
            assert b"insufficient_scope" in dict(raised.value.headers)[b"www-authenticate"]


@pytest.mark.parametrize(
    ("path", "open_groups", "free"),
    [
        ("/health", {"docs"}, False),
        ("/health", {"health"}, True),
        ("/livez", {"health"}, True),
        ("/readyz", {"health"}, True),
        ("/info", {"health"}, False),
        ("/info", {"info"}, True),
        ("/metrics", {"metrics"}, True),
        ("/docs/assets/x.js", {"docs"}, True),
        ("/openapi.json", {"docs"}, True),
        ("/schema.json", {"docs"}, True),
        ("/studio", {"docs"}, False),
        ("/studio/a/b.js", {"studio"}, True),
        ("/files/a/b.jpg", set(), True),
    ],
)
def test_groups_of_paths_can_be_opened(path: str, open_groups: set[Any], free: bool) -> None:
    assert Access(open_groups).free(ACCESS.rules(path)["GET"]) is free


def test_what_does_work_or_shows_data_is_in_no_group() -> None:
    everything = Access({"docs", "studio", "health", "info", "metrics"})
    for path in ("/classify", "/v1/prompt", "/v1/generate", "/v2/generate", "/uploads", "/tasks", "/tasks/1"):
        for rule in ACCESS.rules(path).values():
            assert not everything.free(rule)


def test_another_method_is_told_which_there_are() -> None:
    error = nothing_there(ACCESS.rules("/tasks/1"))
    assert isinstance(error, MethodNotAllowed)
    assert dict(error.headers) == {b"allow": b"DELETE, GET"}


WORDS = (
    "/ // classify CLASSIFY v1 v2 generate generated tasks files docs assets studio health metrics uploads cancel "
    "events app/routers info openapi.json .. . %2e%2e %2f ; ? # \\ 1"
)
PIECES = st.sampled_from([*WORDS.split(), *"\n\r\x00 é\u0131\u2028\ufeff"])


@given(st.lists(PIECES, max_size=8).map("".join), st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH"]))
def test_no_spelling_leads_to_a_route_under_the_rule_of_another(text: str, method: str) -> None:
    scope = _respelled({"type": "http", "method": method, "path": "/" + text, "headers": [], "query_string": b""})
    rule = rule_of(method, scope["path"])
    reached = next(_reached(APP, scope), None)
    if rule is not None and reached is not None:
        template = re.sub(r"\{[^}]*\}", "x", reached)
        assert rule is rule_of(method, template)


def _reached(of: Any, scope: MutableMapping[str, Any]) -> Iterator[str]:
    """The path of the route that Starlette would take."""
    for route in of.routes:
        if hasattr(route, "original_router"):
            yield from _reached(route.original_router, scope)
        elif isinstance(route, BaseRoute) and route.matches(scope)[0] is Match.FULL:
            path: str = getattr(route, "path", "")
            yield f"{path}/{{anything}}" if isinstance(route, Mount) else path


@pytest.mark.parametrize("path", ["/classify", "/tasks", "/v1/generate"])
@pytest.mark.parametrize("spelling", ["{}/", "/{}", "{}\n", "{};x", "{}%00", "/files/..{}", " {}", "{} "])
def test_what_is_nearly_a_path_is_not_that_path(path: str, spelling: str) -> None:
    near = spelling.format(path)
    rules = ACCESS.rules(near)
    assert rules is not TABLE[path]
    assert rules in ({}, TABLE["/files/{key:path}"])


def test_prefix_and_aliases_lead_to_the_same_rule() -> None:
    for alias, path in ALIASES.items():
        for spelled in (alias, PREFIX + alias, PREFIX + path):
            scope = _respelled({"type": "http", "method": "POST", "path": spelled})
            assert ACCESS.rules(scope["path"]) is TABLE[path]


def operations(access: Access) -> Iterator[tuple[str, str, dict[str, Any]]]:
    schema = create_app(access).openapi()
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def test_the_document_names_the_keys_and_scopes_of_every_operation() -> None:
    for method, path, operation in operations(ACCESS):
        rule = rule_of(method, path)
        assert rule is not None
        if ACCESS.free(rule):
            assert operation["security"] == []
            continue
        named = {scope for way in operation["security"] for scopes in way.values() for scope in scopes}
        assert named == rule.scopes
        assert {name for way in operation["security"] for name in way} == {"bearer", "key"}
        assert "401" in operation["responses"]
        assert ("403" in operation["responses"]) == bool(rule.scopes)
        assert all(f"`{scope}`" in operation["description"] for scope in rule.scopes)


def test_the_document_has_the_two_ways_to_show_a_key() -> None:
    schemes = APP.openapi()["components"]["securitySchemes"]
    assert schemes["bearer"]["scheme"] == "bearer"
    assert (schemes["key"]["in"], schemes["key"]["name"]) == ("header", "X-API-Key")


def test_without_keys_the_document_says_that_none_is_needed() -> None:
    for _, _, operation in operations(Access(keyed=False)):
        assert {} in operation["security"]


def test_an_operation_that_the_table_does_not_know_is_not_documented_as_open() -> None:
    with pytest.raises(KeyError):
        document({"components": {}, "paths": {"/new": {"get": {}}}}, ACCESS)
