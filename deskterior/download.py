"""Downloads photos by addresses that strangers wrote: time, bytes and redirects limited, hosts checked at every hop.

It talks through httpcore, the engine under httpx: httpx has no public place for a network that checks addresses, logs
whole addresses with their signatures, keeps strangers' cookies and unpacks gzip bombs. The nearest library for this,
httpx-secure 2.0.0, connects to an address before it judges it, judges no other answer of the name, lets multicast and
6to4 pass, cannot allow one private host and has no deadline for the whole.
"""

from __future__ import annotations

import asyncio
import http
import io
import ssl
from functools import cache
from urllib.parse import urljoin

import httpcore
import httpx

from deskterior.egress import CheckedNetwork, PhotoHosts, Resolve, SystemResolver, port_of
from deskterior.errors import PhotoTooLarge, PhotoUnreachable, PhotoUrlForbidden
from deskterior.network import AsyncioNetwork, AsyncioStream

MAX_REDIRECTS = 5
FEW_PIECES, LEAST_PIECE = 4_000, 512
"""So many pieces of a body may be of any size, all others of so many bytes on average. Each takes 25 us of the event
loop: chunks of a byte, as fast as they came, held it up for seconds."""
A_TURN = 200
"""Pieces after which others have theirs."""
_REDIRECTS = {301, 302, 303, 307, 308}
_HEADERS = [
    (b"User-Agent", b"Deskterior"),
    (b"Accept", b"image/jpeg, image/png, image/webp, image/heic, */*;q=0.1"),
    # Photos do not shrink further; a body that is packed all the same is not unpacked, and then is no photo.
    (b"Accept-Encoding", b"identity"),
]


@cache
def public_authorities() -> ssl.SSLContext:
    """Read once: httpcore by itself reads them for each connection, which holds up the event loop for 40 ms."""
    return httpcore.default_ssl_context()


class PhotoDownloader:
    """One pool of connections for all photos.

    Args:
        hosts: where photos may come from.
        max_bytes: of one photo.
        timeout_s: for a whole download: name look-up, redirects and the last byte.
        connections: open at once.
        resolve: looks names up; the system's by default.
        network: opens connections to judged addresses; the machine's own by default.
        trust: whose certificates are believed; the public authorities' by default.
    """

    def __init__(
        self,
        hosts: PhotoHosts,
        *,
        max_bytes: int,
        timeout_s: float,
        connections: int,
        resolve: Resolve | None = None,
        network: httpcore.AsyncNetworkBackend | None = None,
        trust: ssl.SSLContext | None = None,
    ) -> None:
        self._hosts = hosts
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._resolve = resolve or SystemResolver()
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=trust or public_authorities(),
            max_connections=connections,
            keepalive_expiry=5.0,
            network_backend=CheckedNetwork(hosts, self._resolve, network or AsyncioNetwork()),
        )

    async def fetch(self, url: str) -> bytes:
        """The bytes at `url`, whatever they are; at most `max_bytes`.

        Raises:
            PhotoUrlForbidden: the address, or one that it leads to, is not allowed or not an address.
            PhotoUnreachable: no answer, another answer than 200, too slow, or cut off; the detail says which.
            PhotoTooLarge: found by the announced length, or by counting.
        """
        target = self._hosts.check(url)
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._follow(target)
        except (TimeoutError, httpcore.TimeoutException) as error:
            raise PhotoUnreachable(
                f"The photo did not arrive within {self._timeout_s:g} seconds", internal=repr(error)
            ) from error
        except httpcore.ConnectError as error:
            raise PhotoUnreachable("The photo's host took no connection", internal=repr(error)) from error
        except (httpcore.NetworkError, httpcore.ProtocolError, OSError) as error:
            raise PhotoUnreachable(
                "The photo's host cut its answer off, or does not speak HTTP", internal=repr(error)
            ) from error

    async def aclose(self) -> None:
        await self._pool.aclose()
        if isinstance(self._resolve, SystemResolver):
            self._resolve.close()

    async def _follow(self, target: httpx.URL) -> bytes:
        for _ in range(MAX_REDIRECTS + 1):
            response = await self._ask(target)
            try:
                if response.status not in _REDIRECTS:
                    return await self._read(response)
                target = self._next(target, response)
            finally:
                await response.aclose()
        raise PhotoUnreachable(f"The photo's address was redirected more than {MAX_REDIRECTS} times")

    async def _ask(self, target: httpx.URL) -> httpcore.Response:
        request = httpcore.Request(
            "GET",
            httpcore.URL(scheme=target.raw_scheme, host=target.raw_host, port=port_of(target), target=target.raw_path),
            headers=[(b"Host", target.netloc), *_HEADERS],
            # Reads and writes need no clock of their own: the whole download has one.
            extensions={"timeout": {"connect": self._timeout_s, "pool": self._timeout_s}},
        )
        try:
            response = await self._pool.handle_async_request(request)
        except (httpcore.RemoteProtocolError, httpcore.ReadError, httpcore.WriteError):
            # The host may close a kept connection in the moment that we use it again: ask once more.
            response = await self._pool.handle_async_request(request)
        if isinstance(stream := response.extensions.get("network_stream"), AsyncioStream):
            stream.head_ended()
        return response

    async def _read(self, response: httpcore.Response) -> bytes:
        if response.status != http.HTTPStatus.OK:
            raise PhotoUnreachable(f"The photo's host answered {response.status} where 200 was expected")
        if int(_header(response, b"content-length") or 0) > self._max_bytes:
            raise self._too_large()
        body = io.BytesIO()  # grows in place and is handed over without a copy
        pieces = 0
        async for chunk in response.aiter_stream():
            if body.tell() + len(chunk) > self._max_bytes:
                raise self._too_large()
            body.write(chunk)
            pieces += 1
            if pieces > FEW_PIECES + body.tell() // LEAST_PIECE:
                raise PhotoUnreachable("The photo's host sends it in too many pieces")
            if pieces % A_TURN == 0:
                await asyncio.sleep(0)
        return body.getvalue()

    def _next(self, here: httpx.URL, response: httpcore.Response) -> httpx.URL:
        location = _header(response, b"location")
        if location is None:
            raise PhotoUnreachable(f"The photo's host answered {response.status} without saying where to go")
        try:
            return self._hosts.check(urljoin(str(here), location.decode()))
        except ValueError as error:
            raise PhotoUrlForbidden("The photo's address is redirected to something that is no address") from error
        except PhotoUrlForbidden as error:
            raise PhotoUrlForbidden(f"The photo's address is redirected to a forbidden one. {error.detail}") from error

    def _too_large(self) -> PhotoTooLarge:
        return PhotoTooLarge(
            f"The photo is over the limit of {self._max_bytes} bytes: scale it down or compress it more"
        )


def _header(response: httpcore.Response, name: bytes) -> bytes | None:
    return next((value for key, value in response.headers if key.lower() == name), None)
