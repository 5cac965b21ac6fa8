"""The settings of who may come in, as a part of the one settings class. API_KEYS itself is read by the keyring."""

from __future__ import annotations

from typing import Annotated, Self, cast
from urllib.parse import urlsplit

from pydantic import SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from deskterior.gateway.access import GROUPS, OPEN, Access, Group

NOTHING_OPEN = "none"


class AccessSettings(BaseSettings):
    model_config = SettingsConfigDict(use_attribute_docstrings=True)

    api_keys: SecretStr = SecretStr("")
    """The keys that are good, as a JSON list of salted hashes, or `@` and the path of a file with one, which is read
    again when it changes. `python -m deskterior.keys` makes them. Empty: all may do all, in development alone."""
    open_paths: Annotated[frozenset[Group], NoDecode] = OPEN
    """What needs no key, by commas: `docs`, `studio`, `health`, `info`, `metrics`; or `none`. Of the rest, `metrics`
    needs a key with that scope, and the others any key."""
    jwt_jwks_url: str = ""
    """Where the issuer of tokens publishes its keys; with the next two, tokens are taken beside API keys."""
    jwt_issuer: str = ""
    """The `iss` of its tokens."""
    jwt_audience: str = ""
    """The `aud` that tokens for this service have."""

    @field_validator("open_paths", mode="before")
    @classmethod
    def _groups(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        names = frozenset(part.strip() for part in value.split(",") if part.strip())
        if names == {NOTHING_OPEN}:
            return frozenset()
        if wrong := sorted(names - GROUPS):
            raise ValueError(f"has {wrong[0][:40]!r}, which is none of {', '.join(sorted(GROUPS))}, nor `none` alone")
        return cast(frozenset[Group], names)

    @model_validator(mode="after")
    def _tokens(self) -> Self:
        parts = {name: getattr(self, name) for name in ("jwt_jwks_url", "jwt_issuer", "jwt_audience")}
        missing = [name.upper() for name, value in parts.items() if not value]
        if 0 < len(missing) < len(parts):
            raise ValueError(
                f"{' and '.join(missing)} missing: JWT_JWKS_URL, JWT_ISSUER and JWT_AUDIENCE go together, all or none"
            )
        if self.jwt_jwks_url:
            address = urlsplit(self.jwt_jwks_url)
            if address.scheme not in {"http", "https"} or not address.hostname:
                raise ValueError("JWT_JWKS_URL is not an http(s) address")
        return self

    @property
    def access(self) -> Access:
        """Who may do what, by these settings."""
        keyed = bool(self.api_keys.get_secret_value().strip() or self.jwt_jwks_url)
        return Access(self.open_paths, keyed=keyed)

    def check_access(self) -> None:
        """Refuse what production must not do. Raises ValueError naming the setting."""
        if not self.api_keys.get_secret_value().strip():
            raise ValueError("API_KEYS is missing: ENV=production does not start without keys")
        if self.jwt_jwks_url and not self.jwt_jwks_url.startswith("https://"):
            raise ValueError("JWT_JWKS_URL must begin with https://: whoever answers there decides who comes in")
