"""The secrets that this process holds, so that they can be cut out of whatever it is about to write.

Reading the settings fills it. What it is for is the text of others: an outside service that repeats our key in its
error, a driver that names the address it could not reach.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote, unquote, urlsplit

from pydantic import BaseModel, SecretStr

SHORTEST = 6
"""Characters of a secret that is looked for. A shorter one is no secret, and common words would go with it."""
AWS = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
"""Read by the AWS SDK itself."""
_ENTRY = re.compile(r"[^\s,;:\"'{}\[\]]{16,}")
_INSTEAD = "[secret]"
_known: set[str] = set()
_pattern: re.Pattern[str] | None = None


def conceal(secrets: Iterable[str]) -> None:
    """Cut these out of every text from now on, also in the spelling of addresses."""
    global _pattern
    found = {spelled for secret in secrets for spelled in (secret, quote(secret, safe=""), quote(secret))}
    _known.update(text for text in found if len(text) >= SHORTEST)
    # The longest first: one may be the beginning of another.
    _pattern = re.compile("|".join(map(re.escape, sorted(_known, key=len, reverse=True)))) if _known else None


def without_secrets(text: str) -> str:
    return _pattern.sub(_INSTEAD, text) if _pattern else text


def secrets_of(settings: BaseModel) -> Iterator[str]:
    """Every secret of the settings and of the AWS SDK's environment."""
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            yield from _parts(value.get_secret_value())
        elif isinstance(value, str):
            yield from _password(value)
    yield from (os.environ.get(name, "") for name in AWS)


def _parts(secret: str) -> Iterator[str]:
    """A secret that is an address is secret by its password; a list is, by each of its entries."""
    if "://" in secret:
        yield from _password(secret)
        return
    yield secret
    yield from _ENTRY.findall(secret)
    if secret.startswith("whsec_"):
        yield secret.removeprefix("whsec_")


def _password(address: str) -> Iterator[str]:
    try:
        password = urlsplit(address).password
    except ValueError:
        return
    if password:
        yield from (password, unquote(password))
