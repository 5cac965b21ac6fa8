"""Whose address a request came from: the peer's, or what proxies that are trusted say of it.

Nobody else is believed: `X-Forwarded-For` is a header like any other, and whoever likes writes it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, MutableMapping
from typing import Any

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

NOWHERE = "unknown"
"""All requests without a readable address count as one client: there are none over TCP."""
IPV6_CLIENT = 64
"""Bits of an IPv6 address that are one client's: a single machine may have all the others to choose from."""


def networks(text: str) -> tuple[Network, ...]:
    """Networks and addresses, by commas. Raises ValueError naming the part that is none."""
    found: list[Network] = []
    for part in (part.strip() for part in text.split(",")):
        if not part:
            continue
        try:
            network = ipaddress.ip_network(part)
        except ValueError as error:
            raise ValueError(f"{part} is no address or network such as 10.0.0.0/8 ({error})") from None
        if network.prefixlen == 0:
            raise ValueError(f"{part} would believe everybody: name the proxies' own networks")
        found.append(network)
    return tuple(found)


class Proxies:
    """The proxies that are believed; none by default."""

    def __init__(self, trusted: Iterable[Network] = ()) -> None:
        self._trusted = tuple(trusted)

    def look_through(self, scope: MutableMapping[str, Any]) -> str:
        """Put what trusted proxies say of the client and its scheme into `scope`, and name the client to count it by.

        The client is the right-most address that is no trusted proxy's: each proxy appends the one that it was called
        from. An entry that cannot be read ends the search at the proxy that wrote it.
        """
        peer = client = _address(scope["client"][0]) if scope.get("client") else None
        if peer is None or not self._trusts(peer):
            return counted_as(peer)
        forwarded = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
        for entry in reversed(b",".join(forwarded).decode("latin-1").split(",")):
            hop = _address(_without_port(entry.strip()))
            if hop is None:
                break
            client = hop
            if not self._trusts(hop):
                break
        scheme = [value for name, value in scope["headers"] if name == b"x-forwarded-proto"]
        if scheme in ([b"http"], [b"https"]):
            scope["scheme"] = scheme[0].decode()
        scope["client"] = (str(client), 0)
        return counted_as(client)

    def _trusts(self, address: Address) -> bool:
        return any(address in network for network in self._trusted)


def counted_as(address: Address | None) -> str:
    """The name under which a client is counted: an IPv4 address, or the network of an IPv6 one."""
    if address is None:
        return NOWHERE
    if address.version == 4:
        return str(address)
    return str(ipaddress.ip_network((int(address), IPV6_CLIENT), strict=False))


def _address(text: str) -> Address | None:
    """The address in `text`. IPv4 in IPv6's clothes is IPv4: a socket for both sees all clients so."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _without_port(entry: str) -> str:
    """`1.2.3.4:5` and `[::1]:5` are what some proxies write."""
    if entry.startswith("["):
        return entry[1:].partition("]")[0]
    return entry.partition(":")[0] if entry.count(":") == 1 else entry
