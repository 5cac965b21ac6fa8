"""TCP and TLS for httpcore on asyncio's own streams.

httpcore's default goes through anyio and reads 64 KiB at a time; with 64 photos of 4 MB in flight that took 11 ms of
processor time a photo, a third of decoding it, and this takes 7. HTTP is left to httpcore.
"""

from __future__ import annotations

import asyncio
import select
import ssl
from collections.abc import Iterable

import httpcore

CHUNK = 256 * 1024
"""Bytes taken from a connection at once; asyncio itself reads as much from the socket."""
HEAD_CHUNK = 16 * 1024
MAX_HEAD = 128 * 1024
"""Bytes before an answer's body. A flood of interim answers (1xx) has no other limit, and each 30 bytes of them take
30 us of the event loop: 256 KB at once held it up for 0.4 s."""


class AsyncioNetwork(httpcore.AsyncNetworkBackend):
    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Raises: httpcore.ConnectTimeout, httpcore.ConnectError."""
        source = (local_address, 0) if local_address else None
        try:
            async with asyncio.timeout(timeout):
                reader, writer = await asyncio.open_connection(host, port, limit=CHUNK, local_addr=source)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(str(error)) from error
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from error
        for option in socket_options or ():
            writer.get_extra_info("socket").setsockopt(*option)
        return AsyncioStream(reader, writer)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class AsyncioStream(httpcore.AsyncNetworkStream):
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._head: int | None = 0
        """Bytes read of an answer's head; None while its body is read."""

    def head_ended(self) -> None:
        """The next bytes are of the body, until something is written again."""
        self._head = None

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        try:
            async with asyncio.timeout(timeout):
                data = await self._reader.read(max(max_bytes, CHUNK) if self._head is None else HEAD_CHUNK)
        except TimeoutError as error:
            raise httpcore.ReadTimeout(str(error)) from error
        except OSError as error:
            raise httpcore.ReadError(str(error)) from error
        if self._head is not None:
            self._head += len(data)
            if self._head > MAX_HEAD:
                raise httpcore.RemoteProtocolError("the head of the answer has no end")
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._head = 0
        try:
            async with asyncio.timeout(timeout):
                self._writer.write(buffer)
                await self._writer.drain()
        except TimeoutError as error:
            raise httpcore.WriteTimeout(str(error)) from error
        except OSError as error:
            raise httpcore.WriteError(str(error)) from error

    async def aclose(self) -> None:
        # Not `close`: over TLS that waits for the other side's goodbye, which a rude one never says.
        self._writer.transport.abort()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        """Raises: httpcore.ConnectTimeout, httpcore.ConnectError (a wrong certificate, say). Both close."""
        try:
            async with asyncio.timeout(timeout):
                await self._writer.start_tls(ssl_context, server_hostname=server_hostname)
        except BaseException as error:
            self._writer.transport.abort()
            if isinstance(error, TimeoutError):
                raise httpcore.ConnectTimeout(str(error)) from error
            if isinstance(error, OSError):
                raise httpcore.ConnectError(str(error)) from error
            raise
        return self

    def get_extra_info(self, info: str) -> object:
        if info == "is_readable":  # asked of a kept connection: has the other side closed it?
            return self._writer.is_closing() or self._reader.at_eof() or _readable(self._writer)
        return self._writer.get_extra_info(info)


def _readable(writer: asyncio.StreamWriter) -> bool:
    socket = writer.get_extra_info("socket")
    if socket.fileno() < 0:
        return True
    waiting = select.poll()
    waiting.register(socket.fileno(), select.POLLIN)
    return bool(waiting.poll(0))
