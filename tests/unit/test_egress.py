"""Which addresses photos may come from: every spelling of a forbidden one is forbidden."""

from __future__ import annotations

import ipaddress

import pytest

from deskterior.config import SettingsError
from deskterior.egress import PhotoHosts, is_private, is_public
from deskterior.errors import PhotoUrlForbidden

ANY = PhotoHosts([], development=True)


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "172.32.0.1", "2606:4700::1111", "64:ff9b::808:808"])
def test_public_addresses(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address",
    [
        *(
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.100.100.200",
            "127.0.0.1",
            "127.1.2.3",
            "169.254.169.254",
        ),
        *("168.63.129.16", "172.16.0.1", "172.31.255.255", "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.1.1"),
        *("198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255"),
        *("::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::ffff:0:8.8.8.8", "64:ff9b::7f00:1"),
        *(
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::808:808",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2001:10::1",
            "2002:7f00:1::",
        ),
        *(
            "2002:808:808::",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fe80::1%eth0",
            "fec0::1",
            "ff02::1",
        ),
    ],
)
def test_addresses_that_are_not_the_internet(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["169.254.169.254", "fe80::1", "0.0.0.0", "::", "224.0.0.1", "::ffff:127.0.0.1"])
def test_development_never_allows_metadata_or_wildcards(address: str) -> None:
    assert not is_private(ipaddress.ip_address(address))
    with pytest.raises(PhotoUrlForbidden):
        PhotoHosts(["photos.test"], development=True).judge("photos.test", [address])


@pytest.mark.parametrize(
    ("url", "host", "path"),
    [
        ("http://PHOTOS.test/a", "photos.test", b"/a"),
        ("https://photos.test./a", "photos.test", b"/a"),
        ("http://photos.test", "photos.test", b"/"),
        ("http://photos.test?a=b", "photos.test", b"/?a=b"),
        ("http://photos.test/a#b", "photos.test", b"/a"),
        ("http://사진.kr/책상 1.jpg", "xn--vf4bi0o.kr", b"/%EC%B1%85%EC%83%81%201.jpg"),
        ("http://a_b.photos.test/%7Ea/%2F?X-Sig=a%2Fb%3D&y=1+2", "a_b.photos.test", b"/%7Ea/%2F?X-Sig=a%2Fb%3D&y=1+2"),
    ],
)
def test_an_address_is_normalised_but_its_path_is_kept(url: str, host: str, path: bytes) -> None:
    checked = ANY.check(url)
    assert checked.raw_host.decode() == host
    assert checked.raw_path == path
    assert checked.netloc.decode() == host


@pytest.mark.parametrize(
    ("written", "url"),
    [
        ("Photos.Test", "http://photos.test:9000/a"),
        ("photos.test.", "http://photos.test/a"),
        ("photos.test", "http://PHOTOS.TEST./a"),
        ("사진.kr", "http://xn--vf4bi0o.kr/a"),
        ("xn--vf4bi0o.kr", "http://사진.kr/a"),
        ("127.0.0.1", "http://127.0.0.1:9000/a"),
        ("::1", "http://[::1]:9000/a"),
        ("[::1]", "http://[::1]/a"),
        ("localhost", "http://LOCALHOST:1/a"),
    ],
)
def test_a_host_in_the_list_is_allowed_at_every_port(written: str, url: str) -> None:
    assert PhotoHosts([written], development=True).check(url)


@pytest.mark.parametrize("development", [True, False])
@pytest.mark.parametrize(
    "host",
    [
        *(
            "localhost",
            "2130706433",
            "0x7f000001",
            "0x7f.1",
            "0177.0.0.1",
            "127.1",
            "127.0.1",
            "127.0.0.1.",
            "127.0.0.01",
        ),
        *(
            "[::1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[0:0:0:0:0:0:0:1]",
            "0",
            "0.0.0.0",
            "127.0.0.2",
            "evil.test",
        ),
        *("127.0.0.1..", "127.0.0.1.evil.test", "evil.127.0.0.1", "127.0.0.1%00.evil.test", "127。0。0。1"),
    ],
)
def test_no_other_spelling_of_an_allowed_host_is_allowed(host: str, development: bool) -> None:
    with pytest.raises(PhotoUrlForbidden):
        PhotoHosts(["127.0.0.1"], development=development).check(f"http://{host}/desk.jpg")


def test_an_empty_list_is_any_public_host_in_development_and_none_in_production() -> None:
    assert ANY.check("https://photos.test/desk.jpg")
    with pytest.raises(PhotoUrlForbidden, match="PHOTO_ALLOWED_HOSTS"):
        PhotoHosts([], development=False).check("https://photos.test/desk.jpg")


def test_one_private_answer_among_public_ones_forbids_the_host() -> None:
    ANY.judge("photos.test", ["8.8.8.8", "2606:4700::1111"])
    with pytest.raises(PhotoUrlForbidden) as refused:
        ANY.judge("photos.test", ["8.8.8.8", "10.1.2.3"])
    assert "10.1.2.3" not in refused.value.detail


def test_a_private_address_needs_development_and_the_very_host() -> None:
    PhotoHosts(["photos.test"], development=True).judge("photos.test", ["10.1.2.3", "::1"])
    for hosts in (PhotoHosts(["photos.test"], development=False), PhotoHosts(["other.test"], development=True)):
        with pytest.raises(PhotoUrlForbidden):
            hosts.judge("photos.test", ["10.1.2.3"])


@pytest.mark.parametrize(
    "entry",
    [
        "http://photos.test",
        "photos.test:9000",
        "photos.test/a",
        "*.photos.test",
        "user@photos.test",
        "*",
        "a b",
        "::1::",
    ],
)
def test_a_setting_that_is_no_host_stops_the_start(entry: str) -> None:
    with pytest.raises(SettingsError, match="PHOTO_ALLOWED_HOSTS"):
        PhotoHosts([entry], development=True)


@pytest.mark.parametrize("host", ["photos.test..", "photos..test", ".photos.test", "254.0.0..", "."])
def test_a_name_with_an_empty_part_is_none(host: str) -> None:
    with pytest.raises(PhotoUrlForbidden, match="no valid host"):
        ANY.check(f"http://{host}/desk.jpg")
