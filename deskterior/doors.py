"""Settings of the doors beside the clients': web pages of other sites (CORS), and the wire between API and runners.

What is done with them is `browsers.py` and `runners/token.py`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

ANY_ORIGIN = "*"
_DEFAULT_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[a-z0-9._-]+|[0-9a-f:.]*:[0-9a-f:.]*")
_TOKEN = re.compile(r"[\x21-\x7e]{16,256}")


class DoorSettings(BaseSettings):
    model_config = SettingsConfigDict(use_attribute_docstrings=True)

    cors_origins: Annotated[frozenset[str], NoDecode] = frozenset()
    """Sites whose pages may call the service from a browser, by commas: `https://desk.example,http://localhost:5173`.
    `*` is any, in development only. Cookies are never allowed: a page sends its key itself."""
    runner_token: SecretStr = SecretStr("")
    """What the API shows to a runner and a runner demands, the same on both. Made anew at every start for runners that
    the service starts itself; production wants one for a runner on another machine."""

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _origins(cls, value: object) -> object:
        if isinstance(value, str):
            return frozenset(_origin(part.strip()) for part in value.split(",") if part.strip())
        return value

    @field_validator("runner_token")
    @classmethod
    def _sendable(cls, value: SecretStr) -> SecretStr:
        if value.get_secret_value() and not _TOKEN.fullmatch(value.get_secret_value()):
            raise ValueError("must be 16 to 256 letters, digits and signs without blanks: `openssl rand -hex 32`")
        return value

    def check_doors(self, runner_places: Iterable[str]) -> None:
        """Refuse doors that production must not have open. Raises ValueError naming the setting.

        `runner_places` are the placements of all runners.
        """
        if ANY_ORIGIN in self.cors_origins:
            raise ValueError("CORS_ORIGINS is *: ENV=production needs the list of sites")
        for place in runner_places:
            host = urlsplit(place).hostname
            if host and not _is_loopback(host) and not self.runner_token.get_secret_value():
                raise ValueError(
                    f"RUNNER_TOKEN is missing: ENV=production does not show photos to a runner at {host} without it"
                )


def _origin(text: str) -> str:
    """`text` as a browser spells it in `Origin`. Raises ValueError for what no browser will ever send."""
    if text == ANY_ORIGIN:
        return text
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        parts, host, port = urlsplit(""), "", None
    if parts.scheme not in _DEFAULT_PORTS or not _HOST.fullmatch(host) or parts.username is not None:
        shown = text.rpartition("@")[2][:100]  # before it may stand a password
        raise ValueError(f"has {shown!r}, which is no origin: write https://host or https://host:port")
    where = f"[{host}]" if ":" in host else host
    spelled = f"{parts.scheme}://{where}" + (f":{port}" if port not in {None, _DEFAULT_PORTS[parts.scheme]} else "")
    if text.lower() != spelled:
        raise ValueError(f"has {text[:100]!r}, which browsers do not send: write {spelled}")
    return spelled


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
