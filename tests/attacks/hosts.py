"""What a hostile host tries once it is asked: by its name, by redirects, and by its answers."""

# ruff: noqa: E501 - one attack, one line
from __future__ import annotations

import asyncio
import gzip
import zlib
from dataclasses import dataclass, field

from tests.attacks.attack import ACCEPTED, FORBIDDEN, TOO_LARGE, UNREACHABLE, UNREADABLE, UNSUPPORTED, Attack
from tests.attacks.world import ATTACKER
from tests.downloads import PHOTO, for_ever, photo, saying
from tests.websites import Answer, Visit

SOON = 0.3
"""Seconds for a whole download from hosts that never finish."""
MAX_BYTES = 200_000


@dataclass(frozen=True)
class Name(Attack):
    """`leads_to`: the answers of one look-up after another. The last fetch gives `answer`; it is the second if `again`."""

    leads_to: tuple[tuple[str, ...], ...]
    again: bool = False


@dataclass(frozen=True)
class Hop(Attack):
    location: str


@dataclass(frozen=True)
class Host(Attack):
    says: Answer = field(compare=False)
    slow: bool = False
    """It never finishes: the download's time is `SOON`."""


NAMES = [
    Name("name-inside", "a name that leads to a private address", FORBIDDEN, (("10.0.0.1",),)),
    Name("name-loopback", "a name that leads to this machine", FORBIDDEN, (("127.0.0.1",),)),
    Name("name-metadata", "a name that leads to a metadata server", FORBIDDEN, (("169.254.169.254",),)),
    Name("name-mapped", "a name whose only address is IPv4 mapped into IPv6", FORBIDDEN, (("::ffff:8.8.8.8",),)),
    Name("name-nat64", "a name that leads through NAT64 to a private address", FORBIDDEN, (("64:ff9b::a00:1",),)),
    Name("name-zone", "a name that leads to a link-local address with a zone", FORBIDDEN, (("fe80::1%eth0",),)),
    Name("name-mixed", "a private address behind a public one", FORBIDDEN, ((ATTACKER, "10.0.0.1"),)),
    Name("name-mixed-families", "::1 behind a public IPv4 address", FORBIDDEN, ((ATTACKER, "::1"),)),
    Name("name-without-address", "a name without any address", UNREACHABLE, ((),)),
    Name("rebinding", "another address on the look-up after the check: there is no second one", ACCEPTED,
         ((ATTACKER,), ("127.0.0.1",))),
    Name("rebinding-later", "another address at the next photo", FORBIDDEN, ((ATTACKER,), ("127.0.0.1",)), again=True),
]  # fmt: skip

HOPS = [
    Hop("redirect-inside", "a redirect to a private address", FORBIDDEN, "http://10.0.0.66/desk.jpg"),
    Hop("redirect-loopback", "a redirect to this machine", FORBIDDEN, "http://127.0.0.1:8080/desk.jpg"),
    Hop("redirect-metadata", "a redirect to the cloud's metadata", FORBIDDEN, "http://169.254.169.254/latest/meta-data/"),
    Hop("redirect-name", "a redirect to a name that leads inside", FORBIDDEN, "http://inside.test/desk.jpg"),
    Hop("redirect-scheme-relative", "a redirect that changes the host alone", FORBIDDEN, "//127.0.0.1/desk.jpg"),
    Hop("redirect-file", "a redirect to a file", FORBIDDEN, "file:///etc/passwd"),
    Hop("redirect-ftp", "a redirect to another scheme", FORBIDDEN, "ftp://photos.test/desk.jpg"),
    Hop("redirect-data", "a redirect to the photo itself", FORBIDDEN, "data:image/png;base64,iVBORw0KGgo="),
    Hop("redirect-port", "a redirect to a port that is no web server's", FORBIDDEN, "http://photos.test:6379/"),
    Hop("redirect-userinfo", "a redirect with a user name", FORBIDDEN, "http://a:b@photos.test/"),
    Hop("redirect-broken", "a redirect to what is no address", FORBIDDEN, "http://["),
    Hop("redirect-loop", "a redirect to itself", UNREACHABLE, "/desk.jpg"),
    Hop("redirect-nowhere", "a redirect that does not say where to", UNREACHABLE, ""),
]  # fmt: skip


async def endless_redirects(visit: Visit) -> None:
    await visit.redirect(visit.target + "x")


async def far_redirect(visit: Visit) -> None:
    await visit.say(b"HTTP/1.1 302 Found\r\nLocation: /")
    while True:
        await visit.say(b"x" * 1000)


def dripping(head: bytes, drop: bytes) -> Answer:
    async def answer(visit: Visit) -> None:
        await visit.say(head)
        while True:
            await visit.say(drop)
            await asyncio.sleep(SOON / 20)

    return answer


def hanging(*parts: bytes) -> Answer:
    return saying(*parts, then="hang")


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
ONE_CHUNK = b"%x\r\n%b\r\n" % (len(PHOTO), PHOTO)


def length(of: int | str) -> bytes:
    return OK + f"Content-Length: {of}\r\n\r\n".encode()


def packed(body: bytes, by: str) -> Answer:
    return saying(OK + f"Content-Encoding: {by}\r\nContent-Length: {len(body)}\r\n\r\n".encode(), body)


_BOMB = gzip.compress(bytes(30_000_000), 9)

HOSTS = [
    Host("redirect-for-ever", "redirects, each to a new address", UNREACHABLE, endless_redirects),
    Host("redirect-endless-location", "a redirect to an address without end", UNREACHABLE, far_redirect),
    Host("silent", "a host that takes the connection and says nothing", UNREACHABLE, hanging(), slow=True),
    Host("stops-in-head", "a host that stops in the midst of its headers", UNREACHABLE, hanging(OK), slow=True),
    Host("stops-in-body", "a host that stops in the midst of the photo", UNREACHABLE, hanging(length(5000), PHOTO[:99]), slow=True),
    Host("drips-headers", "headers, a byte at a time", UNREACHABLE, dripping(OK + b"X: ", b"x"), slow=True),
    Host("drips-body", "a body, a byte at a time", UNREACHABLE, dripping(length(90_000), b"x"), slow=True),
    Host("drips-chunks", "chunks, a byte in each", UNREACHABLE, dripping(CHUNKED, b"1\r\nx\r\n"), slow=True),
    Host("drips-1xx", "interim answers for ever, slowly", UNREACHABLE, dripping(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"), slow=True),
    Host("floods-1xx", "interim answers for ever, as fast as can be", UNREACHABLE, for_ever(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 50)),
    Host("endless-body", "a body without length and without end", TOO_LARGE, for_ever(OK + b"\r\n", bytes(5000))),
    Host("endless-chunks", "chunks without end", TOO_LARGE, for_ever(CHUNKED, b"3e8\r\n" + bytes(1000) + b"\r\n")),
    Host("tiny-chunks", "chunks of a byte without end, as fast as can be", UNREACHABLE, for_ever(CHUNKED, b"1\r\nx\r\n" * 1000)),
    Host("endless-headers", "headers without end", UNREACHABLE, for_ever(OK, b"X-More: of it\r\n" * 100)),
    Host("one-endless-header", "one header without end", UNREACHABLE, for_ever(OK + b"X: ", b"x" * 5000)),
    Host("endless-status", "a status line without end", UNREACHABLE, for_ever(b"HTTP/1.1 200 ", b"x" * 5000)),
    Host("endless-trailers", "trailers without end behind the photo", UNREACHABLE, for_ever(CHUNKED + ONE_CHUNK + b"0\r\n", b"X: y\r\n" * 500)),
    Host("chunk-extensions", "a chunk whose extension has no end", UNREACHABLE, for_ever(CHUNKED + b"5;", b"x=y;" * 1000)),
    Host("long-length", "a length over the limit", TOO_LARGE, hanging(length(MAX_BYTES + 1))),
    Host("huge-length", "a length of a hundred digits", UNREACHABLE, hanging(length("9" * 100))),
    Host("lying-length-long", "a length longer than the body", UNREACHABLE, saying(length(len(PHOTO) + 1), PHOTO)),
    Host("lying-length-short", "a length shorter than the body", UNREADABLE, saying(length(500), PHOTO)),
    Host("negative-length", "a negative length", UNREACHABLE, saying(length(-5), PHOTO)),
    Host("word-for-length", "a length that is no number", UNREACHABLE, saying(length("0x10"), PHOTO)),
    Host("two-lengths", "two lengths that differ", UNREACHABLE, saying(OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n", PHOTO)),
    Host("length-and-chunks", "a length and chunks at once: chunks count", ACCEPTED, saying(OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", ONE_CHUNK + b"0\r\n\r\n")),
    Host("huge-chunk", "a chunk of 2^400 bytes", UNREACHABLE, saying(CHUNKED, b"f" * 100 + b"\r\n", PHOTO)),
    Host("large-chunk", "a chunk said to be of 1 TB", TOO_LARGE, for_ever(CHUNKED + b"10000000000\r\n", bytes(5000))),
    Host("negative-chunk", "a chunk of negative size", UNREACHABLE, saying(CHUNKED, b"-1\r\n", PHOTO)),
    Host("no-last-chunk", "chunks that just stop", UNREACHABLE, saying(CHUNKED, ONE_CHUNK)),
    Host("strange-transfer", "a transfer encoding nobody knows", UNREACHABLE, saying(OK + b"Transfer-Encoding: mystery\r\n\r\n", PHOTO)),
    Host("gzip-bomb", "30 MB packed into 30 kB: not unpacked, so no photo", UNSUPPORTED, packed(_BOMB, "gzip")),
    Host("gzip-bomb-twice", "packed twice", UNSUPPORTED, packed(gzip.compress(_BOMB), "gzip, gzip")),
    Host("deflate-bomb", "packed by deflate", UNSUPPORTED, packed(zlib.compress(bytes(1_000_000)), "deflate")),
    Host("packed-photo", "a photo packed though nobody asked for it", UNSUPPORTED, packed(gzip.compress(PHOTO), "gzip")),
    Host("lying-encoding", "a plain photo said to be packed", ACCEPTED, packed(PHOTO, "br")),
    Host("http-0.9", "a photo without any header", UNREACHABLE, saying(PHOTO)),
    Host("http-2", "an answer in HTTP/2", UNREACHABLE, saying(b"\0\0\x12\4\0\0\0\0\0" + bytes(18))),
    Host("other-protocol", "SSH where HTTP was asked for", UNREACHABLE, saying(b"SSH-2.0-OpenSSH_9.6\r\n")),
    Host("tls", "TLS where HTTP was asked for", UNREACHABLE, saying(b"\x16\x03\x01\x02\x00\x01")),
    Host("broken-header", "a header without a colon", UNREACHABLE, saying(OK + b"broken header\r\n\r\n", PHOTO)),
    Host("folded-header", "a header over two lines", ACCEPTED, saying(OK + b"X: a\r\n b\r\n\r\n", PHOTO)),
    Host("upgrade", "an upgrade to another protocol", UNREACHABLE, saying(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n")),
    Host("strange-status", "status 999999", UNREACHABLE, saying(b"HTTP/1.1 999999 ?\r\n\r\n")),
    Host("null-in-header", "a NUL in a header", UNREACHABLE, saying(OK + b"X: a\0b\r\n\r\n", PHOTO)),
    Host("hangs-up", "a connection closed at once", UNREACHABLE, saying()),
    Host("not-found", "an error page of 404", UNREACHABLE, saying(b"HTTP/1.1 404 No\r\nContent-Length: 4\r\n\r\nnone")),
    Host("part", "a part of the photo, as 206", UNREACHABLE, saying(b"HTTP/1.1 206 Partial\r\nContent-Length: 4\r\n\r\n\xff\xd8\xff\xe0")),
    Host("lying-type", "a photo said to be a web page", ACCEPTED, saying(OK + b"Content-Type: text/html\r\n\r\n", PHOTO)),
    Host("lying-name", "a web page said to be a photo", UNSUPPORTED, saying(OK + b"Content-Type: image/jpeg\r\n\r\n", b"<html>no photo</html>")),
    Host("empty", "a photo of 0 bytes", UNREADABLE, saying(length(0))),
    Host("cookies", "cookies, which are not kept", ACCEPTED, saying(OK + b"Set-Cookie: a=b; Path=/\r\n\r\n", PHOTO)),
    Host("honest", "nothing: a photo, to see that the world works", ACCEPTED, photo),
]  # fmt: skip
