"""The one table of who may do what: a path and method that it does not name are answered to nobody.

A new route needs a line here, or it is 404; a test walks the application's routes. Who somebody is, is left to the
gateway.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, get_args

from starlette.routing import compile_path

from deskterior.errors import Forbidden, MethodNotAllowed, NotFound
from deskterior.gateway.caller import Caller, Scope

Group = Literal["docs", "studio", "health", "info", "metrics"]
"""Paths that a setting (`OPEN_PATHS`) can open to all."""
GROUPS: frozenset[Group] = frozenset(get_args(Group))
OPEN: frozenset[Group] = frozenset({"docs", "studio", "health"})
"""Pages and descriptions without data, and what load balancers ask."""


@dataclass(frozen=True)
class Rule:
    """One of `scopes` is needed, or `admin`; where there are none, any key will do.

    No key is needed where `group` is open, or where something else stands for one (`signed`).
    """

    scopes: frozenset[Scope] = frozenset()
    group: Group | None = None
    signed: bool = False


def _needs(*scopes: Scope) -> Rule:
    return Rule(frozenset(scopes))


HEALTH, DOCS, STUDIO = Rule(group="health"), Rule(group="docs"), Rule(group="studio")
LINK = Rule(signed=True)

TABLE: dict[str, dict[str, Rule]] = {
    "/classify": {"POST": _needs("classify")},
    "/v1/prompt": {"POST": _needs("generate")},
    "/v1/generate": {"POST": _needs("generate")},
    "/v2/generate": {"POST": _needs("generate")},
    "/uploads": {"POST": _needs("classify", "generate")},
    "/tasks": {"GET": _needs("tasks:read")},
    "/tasks/{id}": {"GET": _needs("tasks:read"), "DELETE": _needs("tasks:write")},
    "/tasks/{id}/events": {"GET": _needs("tasks:read")},
    "/tasks/{id}/cancel": {"POST": _needs("tasks:write")},
    "/tasks/{id}/retry": {"POST": _needs("tasks:write")},
    # The signature in the link says who may.
    "/files/{key:path}": {"GET": LINK, "PUT": LINK},
    # Versions and models: of use to every client, and to nobody else but an attacker.
    "/info": {"GET": Rule(group="info")},
    # The traffic of all callers together.
    "/metrics": {"GET": Rule(frozenset({"metrics"}), "metrics")},
    "/health": {"GET": HEALTH},
    "/healthcheck": {"GET": HEALTH},
    "/health/machine": {"GET": HEALTH},
    "/livez": {"GET": HEALTH},
    "/readyz": {"GET": HEALTH},
    "/healthz": {"GET": HEALTH},
    "/": {"GET": DOCS},
    "/docs": {"GET": DOCS},
    "/docs/{asset:path}": {"GET": DOCS},
    "/openapi.json": {"GET": DOCS},
    "/schema.json": {"GET": DOCS},
    "/studio": {"GET": STUDIO},
    "/studio/{asset:path}": {"GET": STUDIO},
}


_PATTERNS = {path: compile_path(path)[0] for path in TABLE if "{" in path}
ELSEWHERE = "other"


def route_of(path: str) -> str:
    """The template of a path, for figures: `/tasks/{id}` for every task, `other` for whatever is not there."""
    if path in TABLE and "{" not in path:
        return path
    # `fullmatch`: the `$` of a route's own pattern also lets a line's end through.
    return next((template for template, pattern in _PATTERNS.items() if pattern.fullmatch(path)), ELSEWHERE)


class Access:
    """The table, as it holds here.

    Args:
        open_groups: what needs no key.
        keyed: whether there are keys at all; without, nothing needs one.
    """

    def __init__(self, open_groups: Collection[Group] = OPEN, *, keyed: bool = True) -> None:
        self.keyed = keyed
        self._open = frozenset(open_groups)

    def rules(self, path: str) -> dict[str, Rule]:
        """What holds for a path, by method; empty for one that is not there. HEAD is as GET."""
        return TABLE.get(route_of(path), {})

    def free(self, rule: Rule) -> bool:
        """Whether no key is needed."""
        return not self.keyed or rule.signed or rule.group in self._open

    def check(self, caller: Caller, rule: Rule) -> None:
        """Raises Forbidden, naming what would be needed."""
        if rule.scopes and not caller.scopes & (rule.scopes | {"admin"}):
            raise forbidden(rule)


def forbidden(rule: Rule) -> Forbidden:
    scopes = sorted(rule.scopes)
    error = Forbidden(f"This needs a key with the scope {' or '.join(scopes)}")
    challenge = f'Bearer realm="deskterior", error="insufficient_scope", scope="{" ".join(scopes)}"'
    error.headers = ((b"www-authenticate", challenge.encode()),)
    return error


def nothing_there(rules: dict[str, Rule]) -> NotFound | MethodNotAllowed:
    """The error for a method without a rule: of no use at this path, or the path is no use at all."""
    if not rules:
        return NotFound("There is nothing at this path; see /docs")
    error = MethodNotAllowed("See the Allow header, or /docs")
    error.headers = ((b"allow", ", ".join(sorted(rules)).encode()),)
    return error
