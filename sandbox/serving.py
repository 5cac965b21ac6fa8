"""Runs the sandbox over real HTTP: in a thread of a test, in a process of its own, or until Ctrl-C.

The server is uvicorn with one addition: an application may close the connection under an answer (`exchange.HANG_UP`).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from sandbox.exchange import HANG_UP

ROOT = Path(__file__).resolve().parent.parent
_START_S = 30


class _Protocol(H11Protocol):
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        app = self.config.loaded_app

        def hang_up(at_once: bool) -> None:
            (transport.abort if at_once else transport.close)()

        async def with_hang_up(scope: Scope, receive: Receive, send: Send) -> None:
            scope["extensions"] = {**scope.get("extensions", {}), HANG_UP: hang_up}
            await app(scope, receive, send)

        self.app = with_hang_up


class _Server(uvicorn.Server):
    """Tells when it listens."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()


def _server(app: ASGIApp, ready: Callable[[], None]) -> _Server:
    config = uvicorn.Config(
        app,
        http=_Protocol,
        ws="none",
        lifespan="off",
        log_level="critical",
        access_log=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=1,
    )
    return _Server(config, ready)


def _listening(host: str, port: int) -> tuple[socket.socket, str]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=1024)
    shown = f"[{host}]" if ":" in host else host
    return listener, f"http://{shown}:{listener.getsockname()[1]}"


@contextlib.contextmanager
def in_thread(app: ASGIApp) -> Iterator[str]:
    """Serve on a free port of loopback from a thread until the block ends; gives the address."""
    listener, url = _listening("127.0.0.1", 0)
    listening = threading.Event()
    server = _server(app, listening.set)
    thread = threading.Thread(target=server.run, args=([listener],), name="sandbox", daemon=True)
    thread.start()
    try:
        if not listening.wait(_START_S):
            raise RuntimeError("the sandbox did not start")
        yield url
    finally:
        server.should_exit = True
        thread.join(_START_S)
        listener.close()


@contextlib.asynccontextmanager
async def running(app: ASGIApp) -> AsyncIterator[str]:
    """`in_thread` for asynchronous tests."""
    serving = in_thread(app)
    url = await asyncio.to_thread(serving.__enter__)
    try:
        yield url
    finally:
        await asyncio.to_thread(serving.__exit__, None, None, None)


@contextlib.contextmanager
def in_process(*arguments: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run `python -m sandbox` on a free port with more arguments; gives the address and the process."""
    command = [sys.executable, "-m", "sandbox", "--port", "0", *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        try:
            first = process.stdout.readline() if process.stdout else ""
            url = first.rpartition(" ")[2].strip()
            if not url.startswith("http"):
                raise RuntimeError(f"the sandbox did not start: {first!r}")
            yield url, process
        finally:
            process.terminate()
            process.wait(_START_S)


def serve(app: ASGIApp, host: str, port: int, announce: Callable[[str], None]) -> None:
    """Serve until a signal ends it. Raises OSError where the address is taken."""
    listener, url = _listening(host, port)
    with contextlib.closing(listener):
        _server(app, lambda: announce(url)).run([listener])
