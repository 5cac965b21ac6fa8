"""The settings of the limits, as a part of the one settings class."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from deskterior.gateway.address import Network, networks

Rate = Annotated[int | None, Field(ge=0, le=10_000_000)]
RateName = Literal[
    "key_requests_per_minute",
    "key_generates_per_minute",
    "address_requests_per_minute",
    "address_failures_per_minute",
    "address_files_per_minute",
]

_BY_ENV: dict[RateName, tuple[int, int]] = {
    "key_requests_per_minute": (60_000, 3_000),
    "key_generates_per_minute": (6_000, 60),
    "address_requests_per_minute": (60_000, 300),
    "address_failures_per_minute": (600, 20),
    "address_files_per_minute": (60_000, 1_200),
}
"""In development, which load tests should not notice, and in production."""
RATES = tuple(_BY_ENV)


class LimitSettings(BaseSettings):
    model_config = SettingsConfigDict(use_attribute_docstrings=True)

    trusted_proxies: Annotated[tuple[Network, ...], NoDecode] = ()
    """Networks of the proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed, by commas. For
    Google's load balancer: `130.211.0.0/22,35.191.0.0/16` and the address that it listens on."""
    key_requests_per_minute: Rate = None
    """Requests a minute by one key that has no limit of its own; 0 is no limit, here and below. 60000 in development,
    3000 in production."""
    key_generates_per_minute: Rate = None
    """Prompts, generates and retries among them. 6000 in development, 60 in production."""
    address_requests_per_minute: Rate = None
    """Requests a minute without a key from one address (IPv6: one /64). 60000 in development, 300 in production."""
    address_failures_per_minute: Rate = None
    """Wrong keys a minute from one address; beyond it each is 429 and not logged, and right ones pass. 600 in
    development, 20 in production."""
    address_files_per_minute: Rate = None
    """Requests of `/files/` a minute from one address. 60000 in development, 1200 in production."""
    key_usd_per_day: float = Field(default=0.0, ge=0)
    """New makeovers of a key that has no cap of its own stop before its day's cost (UTC) would pass it; 0 is no cap."""
    key_tasks_waiting: int = Field(default=200, ge=0)
    """Tasks of a key without a limit of its own that may wait for a place at once; beyond it 429. 0 is no limit."""
    tasks_waiting: int = Field(default=2000, ge=0)
    """Tasks that may wait for a place at once, of all keys; beyond it 503. 0 is no limit."""
    header_max_bytes: int = Field(default=32 * 1024, ge=8 * 1024, le=1024 * 1024)
    """Largest head of a request: its address, and all headers together."""
    header_timeout_s: float = Field(default=10.0, gt=0, le=120)
    """A head that has not arrived whole within this time ends the connection, as does one that says nothing."""

    @field_validator("trusted_proxies", mode="before")
    @classmethod
    def _networks(cls, value: object) -> object:
        return networks(value) if isinstance(value, str) else value

    def rate(self, name: RateName) -> int:
        """A rate as it holds here, by `ENV` where it was not set; 0 is no limit."""
        found: int | None = getattr(self, name)
        if found is None:
            return _BY_ENV[name][getattr(self, "env", "development") == "production"]
        return found
