"""What a request shows to prove who it is from: one credential in one of two headers, never in the address."""

from __future__ import annotations

from collections.abc import Iterable

from deskterior.errors import Unauthenticated

LONGEST = 8192
"""Characters of a credential. Tokens of large issuers have some 4,000."""
_CHALLENGE = 'Bearer realm="deskterior"'


def unauthenticated(detail: str, *, shown: bool = True) -> Unauthenticated:
    """A 401 as RFC 6750 wants it. `shown`: there was a credential, and it is wrong."""
    error = Unauthenticated(detail)
    challenge = _CHALLENGE + (', error="invalid_token"' if shown else "")
    error.headers = ((b"www-authenticate", challenge.encode()),)
    return error


def credential(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The one credential of a request.

    Raises:
        Unauthenticated: there is none, or not one, or it is no text that could be a key. The value is never repeated.
    """
    bearers: list[bytes] = []
    keys: list[bytes] = []
    for name, value in headers:
        if name == b"authorization":
            bearers.append(value)
        elif name == b"x-api-key":
            keys.append(value)
    if not bearers and not keys:
        raise unauthenticated("Send a key: `Authorization: Bearer <key>` or `X-API-Key: <key>`", shown=False)
    if len(bearers) > 1 or len(keys) > 1:
        raise unauthenticated("Send one key: this request has a header for it more than once")
    found = {_bearer(value) for value in bearers} | {value.strip() for value in keys}
    if len(found) > 1:
        raise unauthenticated("Authorization and X-API-Key differ: send one of them")
    (value,) = found
    if not value:
        raise unauthenticated("The key is empty")
    if len(value) > LONGEST:
        raise unauthenticated("This is too long for a key")
    if not value.isascii() or not value.decode("ascii").isprintable():
        raise unauthenticated("The key has characters that no key has")
    return value.decode("ascii")


def _bearer(value: bytes) -> bytes:
    scheme, _, rest = value.strip().partition(b" ")
    if scheme.lower() != b"bearer":
        raise unauthenticated("Authorization must be `Bearer <key>`")
    return rest.strip()
