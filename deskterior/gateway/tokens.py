"""Tokens (JWT) of an issuer: PyJWT checks them; what they grant, and to whom, is said here.

The issuer's keys are left to `issuer_keys`.
"""

from __future__ import annotations

import hashlib
from typing import Any

import jwt

from deskterior.gateway.caller import SCOPES, Caller, Scope
from deskterior.gateway.credentials import unauthenticated
from deskterior.gateway.issuer_keys import ALGORITHMS, IssuerKeys

LEEWAY_S = 30
"""By which clocks may differ."""


class Tokens:
    """Tokens of one issuer, for one audience."""

    def __init__(self, issuer: str, audience: str, keys: IssuerKeys) -> None:
        self._issuer = issuer
        self._audience = audience
        self._keys = keys

    async def find(self, text: str) -> Caller:
        """Whose token this is.

        Raises:
            Unauthenticated: it is not good; says why.
            IssuerAway: the issuer's keys are not to be had just now.
        """
        try:
            header = jwt.get_unverified_header(text)
        except jwt.PyJWTError:
            raise unauthenticated("This is neither a key of ours nor a token") from None
        if header.get("alg") not in ALGORITHMS:
            raise unauthenticated("The token's algorithm is none that is taken here")
        if "crit" in header or not isinstance(kid := header.get("kid"), str):
            raise unauthenticated("The token must name its issuer's key (kid), and ask for no extension (crit)")
        if (key := await self._keys.find(kid)) is None:
            raise unauthenticated("The token is signed by a key that its issuer does not have")
        try:
            claims = jwt.decode(
                text,
                key,
                ALGORITHMS,
                options={"require": ["exp", "iss", "aud", "sub"], "enforce_minimum_key_length": True},
                audience=self._audience,
                issuer=self._issuer,
                leeway=LEEWAY_S,
            )
        except jwt.ExpiredSignatureError:
            raise unauthenticated("The token has expired") from None
        except jwt.ImmatureSignatureError:
            raise unauthenticated("The token is not good yet") from None
        except jwt.InvalidAudienceError:
            raise unauthenticated("The token is for another audience") from None
        except jwt.InvalidIssuerError:
            raise unauthenticated("The token is of another issuer") from None
        except jwt.MissingRequiredClaimError as error:
            raise unauthenticated(f"The token has no claim `{error.claim}`") from None
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError):
            raise unauthenticated("The token is not signed by its issuer, or is no token") from None
        if not claims["sub"]:
            raise unauthenticated("The token has no claim `sub`")
        return Caller(owner(self._issuer, claims["sub"]), _scopes(claims))

    async def aclose(self) -> None:
        await self._keys.aclose()


def owner(issuer: str, subject: str) -> str:
    """The name of a subject: the same for every token of theirs, and no API key's, since those have no colon.

    A digest, because subjects may be of any length and are often addresses of people.
    """
    parts = f"{len(issuer)}:{issuer}{subject}".encode("utf-8", "surrogatepass")
    return f"jwt:{hashlib.sha256(parts).hexdigest()[:40]}"


def _scopes(claims: dict[str, Any]) -> frozenset[Scope]:
    """Those of ours among the token's; RFC 8693 has `scope`, by blanks, and some issuers a list `scp`."""
    found: set[str] = set()
    for claim in (claims.get("scope"), claims.get("scp")):
        if isinstance(claim, str):
            found.update(claim.split())
        elif isinstance(claim, list):
            found.update(item for item in claim if isinstance(item, str))
    return SCOPES & found
