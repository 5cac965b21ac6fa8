"""The server's side of a connection, with an end to what never becomes a request, and to answers that nobody reads.

uvicorn's own reads headers of any size for as long as they drip, keeps connections that say nothing, answers what is no
HTTP in a shape of its own, takes trailers for headers, and loses the body of a request that offers another protocol:
the JDK's HttpClient offers HTTP/2 with every one. Requests are `front`'s business.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sys
import termios
from contextlib import suppress
from typing import Any, ClassVar, Literal

import httptools
import structlog
from uvicorn import config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from deskterior import telemetry
from deskterior.errors import AddressTooLong, ClientError, HeadersTooLarge, NotHttp, RequestTimeout
from deskterior.problems import problem_response

log = structlog.get_logger(__name__)

READ_AT_ONCE = 256 * 1024
"""What a transport gives at most, headers and body together."""
HEADER_OVERHEAD = 4
"""Bytes of `: ` and the end of the line."""
MAX_HEADERS = 100
READ_AT_LEAST = 64 * 1024
"""Bytes in `read_within_s`: 1 KB a second, a tenth of what the slowest mobile networks do."""
LINGER_S = 2.0
"""How long what a refused client still sends is read and thrown away."""


class BoundedConnection(HttpToolsProtocol):
    """A connection on which a head has a size and a time, and so has waiting for one."""

    head_max_bytes: ClassVar[int] = 32 * 1024
    head_within_s: ClassVar[float] = 10.0
    read_within_s: ClassVar[float] = 60.0
    """In which a client takes `READ_AT_LEAST` of what waits for it: who never reads would hold a place for ever."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._part: Literal["none", "head", "body"] = "none"  # of a message: what has begun to arrive
        self._head_fed = 0  # bytes that arrived while a head was not whole
        self._head_read = 0  # bytes of the head that the parser has made sense of
        self._refused: ClientError | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._waiting = 0  # bytes, when that timer began

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._unwatch()
        self._taken()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._await_reader()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._taken()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._leave()

    def _leave(self) -> None:
        """A transport that is closed waits for its last bytes to be taken, however few, and for ever."""
        if self._unread is None and self.transport.get_write_buffer_size():
            self._await_reader()

    def _await_reader(self) -> None:
        self._waiting = self._unsent()
        self._unread = self.loop.call_later(self.read_within_s, self._judge_reader)

    def _judge_reader(self) -> None:
        """A slow one may need minutes until there is room again, of which alone a transport tells: an answer may be
        written as a whole, and the kernel takes more only when a third of its megabytes has gone."""
        if self._waiting - self._unsent() < READ_AT_LEAST:
            self.transport.abort()
        else:
            self._await_reader()

    def _unsent(self) -> int:
        """Bytes that the client has not taken, here and in the kernel."""
        in_kernel = bytes(4)
        with suppress(OSError):  # a kind of socket that cannot tell
            in_kernel = fcntl.ioctl(self.transport.get_extra_info("socket"), termios.TIOCOUTQ, in_kernel)
        return self.transport.get_write_buffer_size() + int.from_bytes(in_kernel, sys.byteorder)

    def _taken(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self._feed(memoryview(data))
        if self._part == "head":
            self._head_fed += len(data)
            if self._head_fed > self.head_max_bytes + READ_AT_ONCE:
                self._refuse(self._too_large())
        if self._part == "head" or not self._busy:
            self._watch()  # also while the rest of a body comes for which nobody waits
        else:
            self._unwatch()

    def _feed(self, data: memoryview) -> None:
        """As uvicorn's own `data_received`, but a protocol that is not spoken here is an offer that is declined."""
        self._unset_keepalive_if_required()
        try:
            while data:
                try:
                    self.parser.feed_data(data)
                    return
                except httptools.HttpParserUpgrade as pause:  # at the end of the head, whatever comes after it
                    data = data[pause.args[0] :]
                if not self._declines:
                    break
                head = self._head_without_offer()
                self.parser = _parser(self)  # the old one is done with the connection where it is not to be kept
                self.parser.feed_data(head)
        except httptools.HttpParserError:
            self.send_400_response("")
            return
        if self.parser.should_upgrade() and self._should_upgrade():
            self.handle_websocket_upgrade()

    @property
    def _declines(self) -> bool:
        """Whether the message offers a protocol that is not spoken here (RFC 9110, 7.8): it is read without the offer.

        CONNECT is answered as it stands, like any method that a path does not take.
        """
        return self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT" and not self._should_upgrade()

    def _head_without_offer(self) -> bytes:
        first = b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
        fields = [name + b": " + value for name, value in self.headers if name != b"upgrade"]
        return b"\r\n".join([first, *fields, b"", b""])

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._part, self._head_fed, self._head_read = "head", 0, 0
        self._unwatch()  # its own time begins

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > self.head_max_bytes // 2:
            self._refused = AddressTooLong(f"An address may have {self.head_max_bytes // 2} bytes")
            raise self._refused

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_read += len(name) + len(value) + HEADER_OVERHEAD
        if self._head_read + len(self.url) > self.head_max_bytes or len(self.headers) >= MAX_HEADERS:
            self._refused = self._too_large()
            raise self._refused
        if self._part == "head":  # what stands in a trailer no proxy has looked at
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        version, hosts = self.parser.get_http_version(), [name for name, _ in self.headers].count(b"host")
        if version not in {"1.0", "1.1"}:  # the parser also takes 0.9, and a head that merely says 2.0
            self._refused = NotHttp("What is spoken here is HTTP/1.1")
            raise self._refused
        if hosts > 1 or (version == "1.1" and not hosts):
            self._refused = NotHttp("A request of HTTP/1.1 has one Host header (RFC 9112, 3.2)")
            raise self._refused
        if not self._declines:
            super().on_headers_complete()
            self._part = "body"

    def on_message_complete(self) -> None:
        if self._declines:
            return
        self._part = "none"
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._leave()
        elif self._part == "body":
            self._watch()

    def handle_websocket_upgrade(self) -> None:
        super().handle_websocket_upgrade()
        self._part = "none"
        self._unwatch()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's words
        self._refuse(self._refused or NotHttp("The server could not read this as a request of HTTP/1.1"))

    @property
    def _busy(self) -> bool:
        """Whether a request is being answered."""
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def _may_speak(self) -> bool:
        """Whether an answer from here would be taken for that to the message which is arriving."""
        if self._part == "body":
            return self._busy and not self.cycle.response_started and not self.pipeline
        return not self._busy

    def _too_large(self) -> HeadersTooLarge:
        return HeadersTooLarge(
            f"The address and headers together may have {self.head_max_bytes} bytes, in {MAX_HEADERS} headers at most"
        )

    def _watch(self) -> None:
        # A connection that has become a WebSocket is another protocol's.
        if self._deadline is None and not self.transport.is_closing() and self.transport.get_protocol() is self:
            self._deadline = self.loop.call_later(self.head_within_s, self._too_late)

    def _unwatch(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_late(self) -> None:
        self._deadline = None
        if self._part == "head":
            self._refuse(RequestTimeout(f"The headers did not arrive within {self.head_within_s:.0f} s"))
        else:
            self.transport.close()
            self._leave()

    def _refuse(self, error: ClientError) -> None:
        """Say why, where that can be said, and end the connection."""
        self._refused = error
        self._unwatch()
        if self._may_speak and not self.transport.is_closing():
            # The client may be sending yet: closed on unread bytes, the connection takes the answer with it.
            self.loop.call_later(LINGER_S, self.transport.close)
            request_id = telemetry.request_id(None)
            headers, body = problem_response(error, request_id)
            headers += [(b"x-request-id", request_id.encode()), (b"connection", b"close")]
            lines = [STATUS_LINE[error.status], *(name + b": " + value + b"\r\n" for name, value in headers)]
            self.transport.write(b"".join([*lines, b"\r\n", body]))
            log.info("request.refused", slug=error.slug, request_id=request_id)
            if self.transport.can_write_eof():
                self.transport.write_eof()
                return
        self.transport.close()


def _parser(of: BoundedConnection) -> httptools.HttpRequestParser:
    """As uvicorn makes it."""
    parser = httptools.HttpRequestParser(of)
    parser.set_dangerous_leniencies(lenient_data_after_close=True)
    return parser


def bound_connections(head_max_bytes: int, head_within_s: float) -> None:
    """Have every uvicorn of this process use it: BentoML starts its own, with no say in the protocol.

    uvicorn also believes what this machine's own addresses write into `X-Forwarded-For`: not here, where
    `address.Proxies` knows whom to believe.
    """
    os.environ["FORWARDED_ALLOW_IPS"] = ""
    BoundedConnection.head_max_bytes = head_max_bytes
    BoundedConnection.head_within_s = head_within_s
    config.HTTP_PROTOCOLS["auto"] = f"{__name__}:{BoundedConnection.__name__}"
