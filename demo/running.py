"""Starts what the demo needs on free ports of loopback, and ends it again: the service, and a server of the photos."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

ROOT = Path(__file__).resolve().parent.parent
READY_WITHIN_S = 120


class ServiceDied(RuntimeError):
    """The service did not start; the text ends with the last lines of its log."""


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


class _Photos(BaseHTTPRequestHandler):
    """Serves a fixed set of files, by number and name, and nothing else of the disk."""

    def __init__(self, files: dict[str, Path], *args: Any) -> None:
        self._files = files
        super().__init__(*args)

    def do_GET(self) -> None:
        if (path := self._files.get(self.path.partition("?")[0])) is None:
            self.send_error(404)
            return
        data = path.read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def photo_server(paths: list[Path]) -> Iterator[dict[Path, str]]:
    """Serve `paths` on loopback; gives the address of each."""
    files = {f"/{number}/{quote(path.name)}": path for number, path in enumerate(paths)}
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Photos, files))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield {path: f"http://127.0.0.1:{server.server_port}{where}" for where, path in files.items()}
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def service(log: Path, bento: Path | None = None, /, **environment: str) -> Iterator[str]:
    """Run `bentoml serve` until the block ends; gives its address once ready.

    It serves the project, or a built Bento from a folder that knows nothing of the project.

    Raises:
        ServiceDied: it ended, or was not ready within two minutes.
    """
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    target, where = ("service:Deskterior", ROOT) if bento is None else (str(bento), log.parent)
    command = [sys.executable, "-m", "bentoml", "serve", target, "--host", "127.0.0.1", "--port", str(port)]
    env = {**os.environ, "PORT": str(port), "BENTOML_DO_NOT_TRACK": "true", **environment}
    if bento:
        env.pop("PYTHONPATH", None)
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=where, env=env, stdout=out, stderr=subprocess.STDOUT)  # noqa: S603
        try:
            _wait_until_ready(process, url, log)
            yield url
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    until = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < until:
        if process.poll() is not None:
            break
        try:
            if httpx.get(f"{url}/readyz", timeout=2, trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-30:])
    raise ServiceDied(f"the service did not become ready; its log ({log}) ends:\n{tail}")
