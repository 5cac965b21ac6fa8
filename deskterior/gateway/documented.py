"""What the gateway asks for, in the OpenAPI document; /docs has its "Authorize" from here."""

from __future__ import annotations

from typing import Any

from deskterior.gateway.access import Access, Rule

_SCHEMES = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "`Authorization: Bearer ...` with an API key, or a token of the issuer that is trusted here.",
    },
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same key in another header."},
}
_PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
_UNAUTHENTICATED = {
    "description": "There is no key, or a wrong one.",
    "headers": {"WWW-Authenticate": {"description": "RFC 6750", "schema": {"type": "string"}}},
    "content": _PROBLEM,
}
_FORBIDDEN = {"description": "The key may not do that.", "content": _PROBLEM}


def document(schema: dict[str, Any], access: Access) -> None:
    """Say of every operation of an OpenAPI 3.1 document which keys it needs, and what it answers without."""
    schema["components"]["securitySchemes"] = _SCHEMES
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            _describe(operation, access.rules(path)[method.upper()], access)


def _describe(operation: dict[str, Any], rule: Rule, access: Access) -> None:
    if access.keyed and access.free(rule):
        operation["security"] = []
        return
    needed: list[str] = [*sorted(rule.scopes)] or [""]
    # Each of these will do by itself. The names are of scopes, as 3.1 allows for keys too.
    operation["security"] = [{scheme: [scope] if scope else []} for scheme in _SCHEMES for scope in needed]
    if not access.keyed:
        operation["security"].insert(0, {})
    scopes = " or ".join(f"`{scope}`" for scope in needed if scope)
    say = f"Needs a key with the scope {scopes}." if scopes else "Needs a key."
    operation["description"] = f"{operation.get('description', '')}\n\n{say}".strip()
    operation["responses"] |= {"401": _UNAUTHENTICATED} | ({"403": _FORBIDDEN} if scopes else {})
