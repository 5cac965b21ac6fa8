"""Servers under test: started on a free port, timed until ready, weighed, and ended with all that they started."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import psutil

ROOT = Path(__file__).resolve().parent.parent
READY_WITHIN_S = 120.0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


class Server:
    """One server and its processes."""

    def __init__(self, argv: Sequence[str], ready: str, log: Path, env: dict[str, str]) -> None:
        self.peak_mb = 0.0
        """Most memory that it held at once, all its processes together: shared pages are split between them (PSS)."""
        began = time.monotonic()
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                [sys.executable, *argv],
                cwd=ROOT,
                env=os.environ | {"PYTHONPATH": str(ROOT), "BENTOML_DO_NOT_TRACK": "true"} | env,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        try:
            self._wait(ready, log)
        except BaseException:
            self.end()
            raise
        self.ready_s = time.monotonic() - began
        self._ended = threading.Event()
        self._scale = threading.Thread(target=self._weigh, daemon=True)
        self._scale.start()

    def end(self) -> None:
        if hasattr(self, "_ended"):
            self._ended.set()
            self._scale.join()
        family = self.family()
        self._process.send_signal(signal.SIGTERM)
        _, alive = psutil.wait_procs(family, timeout=15)
        for process in alive:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait()

    def _wait(self, ready: str, log: Path) -> None:
        until = time.monotonic() + READY_WITHIN_S
        with httpx.Client(trust_env=False, timeout=2) as client:
            while self._process.poll() is None and time.monotonic() < until:
                with suppress(httpx.TransportError):
                    if client.get(ready).status_code == 200:
                        return
                time.sleep(0.05)
        raise RuntimeError(f"{' '.join(map(str, self._process.args))} did not start:\n{log.read_text()[-3000:]}")  # type: ignore[arg-type]

    def cpu_s(self) -> float:
        """Processor time that it has used so far, all its processes together."""
        total = 0.0
        for process in self.family():
            with suppress(psutil.Error):
                times = process.cpu_times()
                total += times.user + times.system
        return total

    def family(self) -> list[psutil.Process]:
        """The process, and all that it has started."""
        with suppress(psutil.NoSuchProcess):
            main = psutil.Process(self._process.pid)
            return [main, *main.children(recursive=True)]
        return []

    def _weigh(self) -> None:
        while not self._ended.wait(0.5):
            total = 0
            for process in self.family():
                with suppress(psutil.Error):
                    total += process.memory_full_info().pss
            self.peak_mb = max(self.peak_mb, total / 1e6)


@contextmanager
def serving(argv: Sequence[str], ready: str, log: Path, **env: str) -> Iterator[Server]:
    """Run `python ARGV` until the block ends. Raises `RuntimeError` with its log if it does not answer `ready`."""
    server = Server(argv, ready, log, env)
    try:
        yield server
    finally:
        server.end()
