"""The gateway: asked once for every request, before its body is read. Who asks, and may they?

The table of what needs which scope is `access`; keys are the keyring's, tokens of an issuer `tokens`'.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any, Self

import structlog
from starlette._utils import get_route_path

from deskterior.config import Settings
from deskterior.errors import Forbidden, Unauthenticated
from deskterior.gateway.access import Access, Rule, nothing_there
from deskterior.gateway.address import Proxies
from deskterior.gateway.caller import EVERYONE, STRANGER, Caller, Entry
from deskterior.gateway.credentials import credential, unauthenticated
from deskterior.gateway.issuer_keys import IssuerKeys
from deskterior.gateway.keyring import Keyring
from deskterior.gateway.keys import PREFIX, key_id
from deskterior.gateway.limits import Limits
from deskterior.gateway.tokens import Tokens

log = structlog.get_logger(__name__)

ORDERS = "/v1/generate"
"""Where makeovers are asked for."""


class Gateway:
    """`open` before use, `aclose` after."""

    def __init__(
        self,
        access: Access,
        keyring: Keyring | None = None,
        tokens: Tokens | None = None,
        limits: Limits | None = None,
        proxies: Proxies | None = None,
    ) -> None:
        self._access = access
        self._keyring = keyring
        self._tokens = tokens
        self._limits = limits or Limits.none()
        self._proxies = proxies or Proxies()

    @classmethod
    def open(cls, settings: Settings) -> Self:
        """Raises SettingsError where API_KEYS cannot be used."""
        keyring = Keyring.of(settings.api_keys.get_secret_value())
        tokens = None
        if settings.jwt_jwks_url:
            tokens = Tokens(settings.jwt_issuer, settings.jwt_audience, IssuerKeys(settings.jwt_jwks_url))
        limits = Limits.open(settings, settings.database_url.get_secret_value())
        gateway = cls(settings.access, keyring, tokens, limits, Proxies(settings.trusted_proxies))
        if not settings.access.keyed:
            log.warning("gateway.open_to_all", reason="there are no API_KEYS: everybody may do everything")
        return gateway

    async def aclose(self) -> None:
        await self._limits.aclose()
        if self._tokens:
            await self._tokens.aclose()

    async def enter(self, scope: MutableMapping[str, Any]) -> Entry:
        """Let a request in, or say why not. Nothing of its body has been read.

        Args:
            scope: ASGI's, with the path in the spelling that the routes know. What trusted proxies say of the client
                and its scheme is put into it.

        Raises:
            Unauthenticated, Forbidden, NotFound, MethodNotAllowed: their `headers` go with the answer.
            IssuerAway: a token cannot be checked just now.
            RateLimited
        """
        address = self._proxies.look_through(scope)
        path = get_route_path(scope)  # the very path that the router will look at
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        rules = self._access.rules(path)
        rule = rules.get(method)
        caller = await self._caller(scope, method, rules, rule, address)
        headers = await self._limits.count(caller, address, method, path)
        if rule is None:
            raise nothing_there(rules)
        if not self._access.free(rule):
            self._check(caller, rule)
        return Entry(caller, headers)

    async def admit_order(self, caller: Caller, scope: MutableMapping[str, Any]) -> None:
        """Let a request that came in for something else start a makeover, by the rules of asking for one.

        Raises:
            Forbidden, RateLimited
        """
        rule = self._access.rules(ORDERS)["POST"]
        if not self._access.free(rule):
            self._check(caller, rule)
        await self._limits.count_order(caller, self._proxies.look_through(scope))

    async def _caller(
        self, scope: MutableMapping[str, Any], method: str, rules: dict[str, Rule], rule: Rule | None, address: str
    ) -> Caller:
        """Who asks, as far as it matters: what needs no key does not look at one."""
        if not self._access.keyed:
            return EVERYONE
        of_interest = [rule] if rule else rules.values()
        if method == "OPTIONS" or (of_interest and all(self._access.free(one) for one in of_interest)):
            return STRANGER
        try:
            shown = credential(scope["headers"])
        except Unauthenticated:
            await self._limits.count(STRANGER, address, method, get_route_path(scope))
            raise
        try:
            return await self._find(shown)
        except Unauthenticated as error:
            await self._limits.wrong_key(address)
            log.warning("gateway.unauthenticated", key_id=key_id(shown), reason=error.detail)
            raise

    async def _find(self, shown: str) -> Caller:
        if shown.startswith(PREFIX) or self._tokens is None:
            found = await self._keyring.find(shown) if self._keyring else None
            if found is None:
                raise unauthenticated("This key is not known here, or not any more")
            return found
        return await self._tokens.find(shown)

    def _check(self, caller: Caller, rule: Rule) -> None:
        try:
            self._access.check(caller, rule)
        except Forbidden as error:
            log.warning("gateway.forbidden", caller=caller.name, reason=error.detail)
            raise
