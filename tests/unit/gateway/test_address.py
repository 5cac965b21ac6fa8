"""Whose address a request came from, whatever it claims."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from deskterior.gateway.address import IPV6_CLIENT, NOWHERE, Proxies, networks

GOOGLE = Proxies(networks("35.191.0.0/16,130.211.0.0/22,34.1.2.3"))
"""A load balancer of Google's: its own machines, and the address that it listens on."""
NOBODY = Proxies()


def scope(peer: str | None, *forwarded: str, proto: str | None = None) -> dict[str, Any]:
    headers = [(b"host", b"test"), *((b"x-forwarded-for", value.encode("latin-1")) for value in forwarded)]
    if proto is not None:
        headers.append((b"x-forwarded-proto", proto.encode("latin-1")))
    return {"client": (peer, 5) if peer is not None else None, "scheme": "http", "headers": headers}


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("8.8.8.8", [], "8.8.8.8"),
        ("8.8.8.8", ["1.1.1.1"], "8.8.8.8"),  # nobody asked this peer
        ("35.191.0.7", [], "35.191.0.7"),
        ("35.191.0.7", ["1.1.1.1, 34.1.2.3"], "1.1.1.1"),  # second from the right: as Google's load balancer writes it
        ("35.191.0.7", ["9.9.9.9, 1.1.1.1, 34.1.2.3"], "1.1.1.1"),  # forged by the client
        ("35.191.0.7", ["35.191.0.9, 34.1.2.3, 1.1.1.1, 34.1.2.3"], "1.1.1.1"),  # forged to look like the proxies'
        ("35.191.0.7", ["9.9.9.9", "1.1.1.1, 34.1.2.3"], "1.1.1.1"),  # in two headers
        ("::ffff:35.191.0.7", ["::ffff:1.1.1.1,34.1.2.3"], "1.1.1.1"),
        ("35.191.0.7", ["1.1.1.1:5555, 34.1.2.3"], "1.1.1.1"),
        ("35.191.0.7", ["[2001:db8:1:2:3::4]:443, 34.1.2.3"], "2001:db8:1:2::/64"),
        ("35.191.0.7", ["1.1.1.1, unknown, 34.1.2.3"], "34.1.2.3"),
        ("35.191.0.7", ["garbage"], "35.191.0.7"),
        ("35.191.0.7", [""], "35.191.0.7"),
        ("2001:db8:1:2:ffff::1", [], "2001:db8:1:2::/64"),
        ("fe80::1%eth0", [], "fe80::/64"),
        (None, ["1.1.1.1"], NOWHERE),  # a Unix socket
        ("testclient", ["1.1.1.1"], NOWHERE),
    ],
)
def test_the_client_is_the_nearest_that_is_no_trusted_proxy(
    peer: str | None, forwarded: list[str], client: str
) -> None:
    assert GOOGLE.look_through(scope(peer, *forwarded)) == client


def test_the_scheme_is_believed_of_a_trusted_proxy_alone() -> None:
    trusted, stranger, odd = (
        scope("34.1.2.3", proto="https"),
        scope("8.8.8.8", proto="https"),
        scope("34.1.2.3", proto="file"),
    )
    for asked in (trusted, stranger, odd):
        GOOGLE.look_through(asked)
    assert (trusted["scheme"], stranger["scheme"], odd["scheme"]) == ("https", "http", "http")


@given(peer=st.ip_addresses().map(str), forwarded=st.lists(st.text(st.characters(max_codepoint=255)), max_size=3))
def test_without_trusted_proxies_no_header_changes_the_client(peer: str, forwarded: list[str]) -> None:
    assert NOBODY.look_through(scope(peer, *forwarded)) == NOBODY.look_through(scope(peer))


@given(
    client=st.ip_addresses(v=4).filter(lambda a: not any(a in n for n in networks("35.191.0.0/16,130.211.0.0/22"))),
    forged=st.lists(st.one_of(st.ip_addresses().map(str), st.text(st.characters(max_codepoint=255))), max_size=5),
)
def test_what_a_client_puts_before_its_own_address_changes_nothing(
    client: ipaddress.IPv4Address, forged: list[str]
) -> None:
    claimed = ", ".join([*forged, str(client)])
    if str(client) != "34.1.2.3":
        assert GOOGLE.look_through(scope("130.211.0.1", claimed)) == str(client)


@given(peer=st.text(max_size=60), forwarded=st.text(st.characters(max_codepoint=255), max_size=200))
@example(peer="35.191.0.1", forwarded="[")
@example(peer="35.191.0.1", forwarded="[]:,::%,%,1:2:3")
def test_nothing_that_is_sent_can_crash_it(peer: str, forwarded: str) -> None:
    assert GOOGLE.look_through(scope(peer, forwarded))


@given(network=st.integers(0, 2**64 - 1), first=st.integers(0, 2**64 - 1), second=st.integers(0, 2**64 - 1))
def test_all_addresses_of_one_ipv6_customer_are_one_client(network: int, first: int, second: int) -> None:
    one, other = (ipaddress.IPv6Address((network << (128 - IPV6_CLIENT)) | host) for host in (first, second))
    if one.ipv4_mapped is None and other.ipv4_mapped is None:
        assert NOBODY.look_through(scope(str(one))) == NOBODY.look_through(scope(str(other)))


@pytest.mark.parametrize("text", ["10.0.0.1/8", "proxy", "1.2.3.4/33", "10.0.0.0/8;10.1.0.0/16"])
def test_a_network_that_is_none_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="no address or network"):
        networks(text)


@pytest.mark.parametrize("text", ["0.0.0.0/0", "10.0.0.0/8,::/0"])
def test_nobody_can_trust_everybody(text: str) -> None:
    with pytest.raises(ValueError, match="believe everybody"):
        networks(text)
