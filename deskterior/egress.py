"""Which addresses photos may be fetched from, and a network that connects to no others.

`PhotoHosts` judges an address as written, `CheckedNetwork` the machine that is really connected to: it looks the name
up once, judges every answer and connects to one of those, so a name that changes its answer in between gains nothing.
Talking HTTP is left to `deskterior.download`.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

import httpcore
import httpx

from deskterior.config import SettingsError
from deskterior.errors import PhotoUnreachable, PhotoUrlForbidden

MAX_URL = 4096
WEB_PORTS = frozenset({80, 443, 8080, 8443})
"""Where any public host may be asked; a host that the settings name may be asked at every port."""
CONNECT_TIMEOUT_S = 3.0
"""For one address of a name, so that a dead one leaves time for the next."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], Awaitable[list[str]]]
"""Host and port to every address of it, as text. Raises `OSError` where there is none."""

_NAME = re.compile(r"[a-z0-9_][a-z0-9_-]*(\.[a-z0-9_-]+)*")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
# Public by Python's tables, and still not the public Internet.
_NOT_PUBLIC = [
    ipaddress.ip_network(network)
    for network in (
        "168.63.129.16/32",  # Azure's metadata and DNS
        "192.0.0.0/24",  # protocols; Oracle's metadata
        "192.88.99.0/24",  # 6to4 relays (RFC 7526)
        "2001::/23",  # Teredo and other protocols: an IPv4 address of the sender's choice is inside
        "2002::/16",  # 6to4, the same
        "3fff::/20",  # documentation (RFC 9637)
    )
]
_PRIVATE = [
    ipaddress.ip_network(network)
    for network in (
        "127.0.0.0/8",
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",
        "::1/128",
        "fc00::/7",
    )
]


def is_public(address: Address) -> bool:
    """Whether a packet to `address` goes out to the Internet, and not to this machine, network or cloud.

    IPv6 is public only within 2000::/3, which leaves out IPv4-mapped, link-local, site-local and multicast addresses;
    an address of NAT64 (RFC 6052) is judged by the IPv4 address in it.
    """
    if isinstance(address, ipaddress.IPv6Address):
        if address in _NAT64:
            return is_public(ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF))
        if address not in _GLOBAL_UNICAST:
            return False
    return address.is_global and not address.is_multicast and not any(_within(address, net) for net in _NOT_PUBLIC)


def is_private(address: Address) -> bool:
    """Whether `address` is loopback or on a private network: what development may allow. Never link-local."""
    return any(_within(address, network) for network in _PRIVATE)


def _within(address: Address, network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
    return address.version == network.version and address in network


class PhotoHosts:
    """The hosts that photos may come from (`PHOTO_ALLOWED_HOSTS`), compared as they are written.

    Letters' case, a final dot and the two spellings of an international name are the same host; nothing else is, so
    that `127.0.0.1` allows neither `localhost` nor `2130706433`.

    Raises:
        SettingsError: an entry is not the name or address of a host.
    """

    def __init__(self, allowed: Iterable[str], *, development: bool) -> None:
        self._allowed = frozenset(map(_setting, allowed))
        self._development = development

    def check(self, url: str) -> httpx.URL:
        """The address to ask, normalised.

        Raises:
            PhotoUrlForbidden: not an http(s) address, one with a user name, or one of a host or port not allowed.
        """
        parsed = _parse(url)
        if self._allowed:
            if host_of(parsed) not in self._allowed:
                raise PhotoUrlForbidden("Photos may not come from this host: PHOTO_ALLOWED_HOSTS names those allowed")
        elif not self._development:
            raise PhotoUrlForbidden("Photos come from no host yet: name their hosts in PHOTO_ALLOWED_HOSTS")
        elif port_of(parsed) not in WEB_PORTS:
            raise PhotoUrlForbidden("Photos are fetched from this port only where PHOTO_ALLOWED_HOSTS names the host")
        return parsed

    def judge(self, host: str, addresses: list[str]) -> None:
        """Refuse `host` if even one of the addresses that it leads to may not be connected to.

        Raises:
            PhotoUrlForbidden: without the address, which is nobody's business outside.
        """
        named = self._development and host in self._allowed
        for address in map(ipaddress.ip_address, addresses):
            if not is_public(address) and not (named and is_private(address)):
                raise PhotoUrlForbidden(
                    "This host leads to an address that is not on the public Internet"
                    + (": name this very host in PHOTO_ALLOWED_HOSTS" if self._development and not named else ""),
                    internal=f"{host} is {address}",
                )


def host_of(url: httpx.URL) -> str:
    """In ASCII: an international name as it is looked up."""
    return url.raw_host.decode("ascii")


def port_of(url: httpx.URL) -> int:
    return url.port if url.port is not None else {"http": 80, "https": 443}[url.scheme]


def _parse(url: str) -> httpx.URL:
    if len(url) > MAX_URL:
        raise PhotoUrlForbidden(f"The photo's address is longer than {MAX_URL} characters")
    try:
        authority, parsed = urlsplit(url).netloc, httpx.URL(url)
        host = _host(parsed, authority)
        port = parsed.port
    except (httpx.InvalidURL, ValueError) as error:  # a lone surrogate is a ValueError too
        raise PhotoUrlForbidden("The photo's address is not a valid http or https address") from error
    if parsed.scheme not in {"http", "https"}:
        raise PhotoUrlForbidden("A photo's address starts with http:// or https://")
    if "@" in authority:
        raise PhotoUrlForbidden("The photo's address holds a user name or password: leave it out")
    digits = authority.rpartition("]")[2].partition(":")[2]  # +80, or digits of another script, are none
    if not host or (port is not None and not 1 <= port <= 65535) or (digits and not re.fullmatch("[0-9]+", digits)):
        raise PhotoUrlForbidden("The photo's address names no valid host and port")
    return parsed.copy_with(host=host, fragment=None)


def _host(parsed: httpx.URL, authority: str) -> str:
    """The host in one spelling: lower case, ASCII, no final dot; empty where it is not one."""
    host = parsed.raw_host.decode("ascii").lower()
    if literal(host):
        # Characters that only normalise to an address are another spelling of it.
        return host if authority.isascii() and "%" not in host else ""
    host = host.removesuffix(".")
    return host if _NAME.fullmatch(host) and not literal(host) else ""


def literal(host: str) -> bool:
    """Whether `host` is an address and not a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _setting(entry: str) -> str:
    bare = entry.strip("[]")
    try:
        parsed = _parse(f"http://[{bare}]/" if ":" in bare else f"http://{bare}/")
    except PhotoUrlForbidden:
        parsed = None
    if parsed is None or parsed.raw_path != b"/" or parsed.port is not None:
        raise SettingsError(f"PHOTO_ALLOWED_HOSTS: {entry} is not the name of a host; leave scheme, port and path out")
    return host_of(parsed)


LookUp = Callable[[str, int], list[str]]


def look_up(host: str, port: int) -> list[str]:
    """Every address of `host`, by the system. Blocks, for half a minute where a name server does not answer."""
    # As bytes: Python's own IDNA codec would throw on names that it finds too long.
    found = socket.getaddrinfo(host.encode("ascii"), port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class SystemResolver:
    """Names looked up by the system, in threads of its own: slow names must not hold up the rest of the service.

    Nor one another. A thread cannot be called back, and goes on when nobody waits for its answer any more; so those who
    ask for one name at one time share a thread, and the names of one zone (their last two labels) share a quarter.
    """

    def __init__(self, threads: int = 64, look_up: LookUp = look_up) -> None:
        self._threads = ThreadPoolExecutor(threads, "photo-dns")
        self._look_up = look_up
        self._share = max(1, threads // 4)
        self._zones: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._pending: dict[str, asyncio.Future[list[str]]] = {}

    async def __call__(self, host: str, port: int) -> list[str]:
        if host not in self._pending:
            zone = self._zones.setdefault(".".join(host.rsplit(".", 2)[-2:]), asyncio.Semaphore(self._share))
            await zone.acquire()
            if host in self._pending:  # somebody was quicker
                zone.release()
            else:
                self._begin(host, port, zone)
        return await asyncio.shield(self._pending[host])

    def _begin(self, host: str, port: int, zone: asyncio.Semaphore) -> None:
        def finished(answer: asyncio.Future[list[str]]) -> None:
            del self._pending[host]
            zone.release()
            if not answer.cancelled():
                answer.exception()  # whoever still waits is told; that nobody may is no news

        answer = asyncio.get_running_loop().run_in_executor(self._threads, self._look_up, host, port)
        self._pending[host] = answer
        answer.add_done_callback(finished)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


class CheckedNetwork(httpcore.AsyncNetworkBackend):
    """TCP connections to judged addresses alone. Name, TLS name and Host header stay what they were."""

    def __init__(self, hosts: PhotoHosts, resolve: Resolve, network: httpcore.AsyncNetworkBackend) -> None:
        self._hosts = hosts
        self._resolve = resolve
        self._network = network

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first address of `host` that answers.

        Raises:
            PhotoUrlForbidden: one of its addresses is not allowed. No packet was sent to any.
            PhotoUnreachable: the name has no address.
            httpcore.ConnectError, httpcore.ConnectTimeout: no address answers.
        """
        addresses = [host] if literal(host) else await self._addresses(host, port)
        self._hosts.judge(host, addresses)
        patience = CONNECT_TIMEOUT_S if timeout is None else min(timeout, CONNECT_TIMEOUT_S)
        failure: Exception = httpcore.ConnectError("no address")
        for address in addresses:
            try:
                return await self._network.connect_tcp(address, port, patience, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    async def _addresses(self, host: str, port: int) -> list[str]:
        try:
            if addresses := await self._resolve(host, port):
                return addresses
            reason = "no answer"
        except (OSError, UnicodeError) as error:
            reason = str(error)
        raise PhotoUnreachable("The photo's host has no address: is its name right?", internal=reason)

    async def sleep(self, seconds: float) -> None:
        await self._network.sleep(seconds)
