"""Processes that run beside the API: started before its workers, kept alive, and stopped after it has drained.

BentoML stops the services it starts itself before the API has answered what it still holds. A child of this module
outlives the API's workers, and dies with the main process even if that is killed.
"""

from __future__ import annotations

import atexit
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import IO, Self

import httpx
import structlog

from deskterior.config import ROOT, Settings
from runners import drawing_placement, token

log = structlog.get_logger(__name__)

READY_WITHIN_S = 90.0
STOP_WITHIN_S = 60.0
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
STEADY_AFTER_S = 60.0
"""A child that lived so long is restarted at once; the pauses grow for one that keeps dying."""
TAIL_LINES = 25

# Runs before the child's own program: asks the kernel for SIGTERM when the thread that started it is gone, and ends at
# once if that has happened already. Not a `preexec_fn`: Python code between fork and exec can deadlock beside threads.
_BOUND = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
if os.getppid() != int(sys.argv[1]):
    sys.exit("its parent is gone")
os.execv(sys.argv[2], sys.argv[2:])
"""


class ChildFailed(RuntimeError):
    """A child did not become ready; the text holds the end of its log."""


class Child:
    """A server process that belongs to this one.

    It runs in a session of its own, so that Ctrl-C reaches the API first. It is restarted when it ends by itself, at
    once the first time and then after growing pauses. `ready_url` answers 200 when it can work. Its output is ours.

    Args:
        argv: the program, by its full path, and its arguments.
        env: on top of this process's environment.
        awaited: whether `wait_ready` is called. One that nobody waits for is restarted even if it never was ready.
        listener: a listening socket that the child inherits. It stays open here, so while the child restarts, its
            clients wait in the socket's queue instead of being refused.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        ready_url: str,
        env: Mapping[str, str] | None = None,
        *,
        awaited: bool = True,
        listener: socket.socket | None = None,
    ) -> None:
        self.name = name
        self._argv = list(argv)
        self._ready_url = ready_url
        self._env = {**os.environ, **(env or {})}  # as it is now: a restart is the same program in the same world
        self.awaited = awaited
        self._listener = listener
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._process: subprocess.Popen[str] | None = None
        self._code: int | None = None
        self._lock = threading.Lock()  # around `_process`: while it is held, the process's id is its own
        self._stopping = threading.Event()
        self._ready = threading.Event()
        self._gone = threading.Event()
        # Linux binds the child's life to the thread that started it, so one thread does it all and stays.
        self._keeper = threading.Thread(target=self._keep, name=f"{name}-keeper", daemon=True)

    @property
    def pid(self) -> int | None:
        """The process now running, if one is."""
        with self._lock:
            return None if self._process is None else self._process.pid

    def start(self) -> Self:
        """Start it, and return at once."""
        self._keeper.start()
        return self

    def wait_ready(self, within_s: float = READY_WITHIN_S) -> None:
        """Wait until it answers, saying so now and then.

        Raises:
            ChildFailed: it ended, or was not ready in time; it is stopped then.
        """
        began = said = time.monotonic()
        with httpx.Client(trust_env=False, timeout=1) as client:
            while not self._gone.wait(0.05):
                with suppress(httpx.HTTPError):
                    if client.get(self._ready_url).status_code == 200:
                        self._ready.set()
                        log.info("child.ready", name=self.name, seconds=round(time.monotonic() - began, 1))
                        return
                now = time.monotonic()
                if now - began > within_s:
                    self.stop(0)
                    raise ChildFailed(f"{self.name} was not ready within {within_s:.0f} s. {self._log_end()}")
                if now - said > 2:
                    said = now
                    log.info("child.starting", name=self.name, seconds=round(now - began))
        raise ChildFailed(f"{self.name} ended with code {self._code} before it was ready. {self._log_end()}")

    def ask_to_end(self) -> None:
        """Have it finish what it holds and end, and do not wait for that."""
        with self._lock:
            if self._process is not None and not self._stopping.is_set():
                os.kill(self._process.pid, signal.SIGTERM)
            self._stopping.set()

    def stop(self, within_s: float = STOP_WITHIN_S) -> None:
        """Ask it to finish what it holds and end; kill it if that takes over `within_s`. Safe to call twice."""
        self.ask_to_end()
        if self._keeper.is_alive() and not self._gone.wait(within_s):
            log.warning("child.killed", name=self.name, after_s=within_s)
            with self._lock:
                if self._process is not None:
                    _kill_session(self._process.pid)
            self._gone.wait()
        if self._listener is not None:
            self._listener.close()

    def _keep(self) -> None:
        pause = 0.0
        try:
            while True:
                with self._lock:
                    if self._stopping.is_set():
                        return
                    self._process = process = self._spawn()
                began = time.monotonic()
                self._code = self._until_end(process)
                if self._stopping.is_set() or (self.awaited and not self._ready.is_set()):
                    return
                pause = 0.0 if time.monotonic() - began > STEADY_AFTER_S else pause
                log.error("child.died", name=self.name, code=self._code, restart_in_s=pause)
                self._stopping.wait(pause)
                pause = min(LONGEST_PAUSE_S, max(FIRST_PAUSE_S, 2 * pause))
        finally:
            self._gone.set()

    def _spawn(self) -> subprocess.Popen[str]:
        bound = [sys.executable, "-I", "-S", "-c", _BOUND, str(os.getpid()), *self._argv]
        process = subprocess.Popen(  # noqa: S603 - our own programs
            bound,
            cwd=ROOT,
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
            pass_fds=() if self._listener is None else (self._listener.fileno(),),
        )
        self._echoing = threading.Thread(
            target=self._echo, args=(process.stdout,), name=f"{self.name}-log", daemon=True
        )
        self._echoing.start()
        return process

    def _echo(self, output: IO[str]) -> None:
        with output:
            for line in output:
                self._tail.append(line)
                with suppress(OSError, ValueError):  # our own output may be closed before the child's is
                    sys.stdout.write(line)
                    sys.stdout.flush()

    def _until_end(self, process: subprocess.Popen[str]) -> int:
        # Until it is waited for, the dead process keeps its id, so that nothing here can hit another's.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with self._lock:
            _kill_session(process.pid)
            self._process = None
            code = process.wait()
        self._echoing.join(5)  # its last words count most
        return code

    def _log_end(self) -> str:
        return "Its log ends:\n" + "".join(self._tail) if self._tail else "It logged nothing."


def _kill_session(pid: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def listen_on_loopback() -> socket.socket:
    """A listening socket on a free port of 127.0.0.1."""
    return socket.create_server(("127.0.0.1", 0), backlog=2048)


def desk_classifier() -> tuple[Child, str]:
    """The desk classifier's runner, not yet started, and its address."""
    return _served("desk-classifier", "runners.desk_classifier:DeskClassifier")


def custom_generator() -> tuple[Child, str]:
    """The runner of our own drawing model, not yet started, and its address.

    Nobody waits for it: whoever asks it while it loads waits in its socket's queue, and what needs no drawing goes on.
    """
    return _served("custom-generator", "runners.custom_generator:CustomGenerator", awaited=False)


def job_worker(number: int) -> tuple[Child, str]:
    """A job worker, not yet started, and its address.

    Nobody waits for it: what is to be done meanwhile waits in the database.
    """
    return _served(f"job-worker-{number}", "deskterior.job_worker:JobWorker", awaited=False)


def _served(name: str, service: str, *, awaited: bool = True) -> tuple[Child, str]:
    listener = listen_on_loopback()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    argv = [sys.executable, "-m", "runners.serve", service, "--fd", str(listener.fileno())]
    return Child(name, argv, f"{url}/readyz", awaited=awaited, listener=listener), url


def sandbox() -> tuple[Child, str]:
    """The stand-ins for OpenAI and Naver, not yet started, and their address."""
    with listen_on_loopback() as reserved:
        port = reserved.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    return Child("sandbox", [sys.executable, "-m", "sandbox", "--port", str(port)], f"{url}/healthz"), url


def start_beside(settings: Settings) -> None:
    """Start the runners and the sandbox where the settings place them beside, wait for them, and tell the workers by
    environment where they are.

    For the main process of `bentoml serve`, before it starts its workers: they inherit the environment. What is started
    ends when this process does, after its workers have.

    Raises:
        ChildFailed: something did not start.
    """
    children: list[Child] = []
    atexit.register(_stop_all, children)
    beside = "process" in {settings.desk_placement, settings.custom_placement}
    if beside and not settings.runner_token.get_secret_value():
        # By environment, which no other user of the machine can read, unlike a command line.
        os.environ[token.SETTING] = token.new_token()
    if settings.desk_placement == "process":
        child, os.environ["DESK_RUNNER"] = desk_classifier()
        children.append(child.start())
    if (settings.openai_is_sandbox or settings.naver_is_sandbox) and "sandbox_url" not in settings.model_fields_set:
        child, os.environ["SANDBOX_URL"] = sandbox()
        children.append(child.start())
    if settings.custom_placement == "process":
        child, os.environ["CUSTOM_RUNNER"] = custom_generator()
        children.append(child.start())
    if said := drawing_placement.notice(settings):
        log.warning("drawing_model.unusable", detail=said)
    for child in children:
        if child.awaited:
            child.wait_ready()


def start_job_workers(settings: Settings) -> None:
    """Start the job workers beside an API, after what they work with: they end before it. Waits for nothing."""
    children = [job_worker(number)[0] for number in range(1, settings.job_workers_beside + 1)]
    atexit.register(_stop_all, children)  # the last that was registered is called first
    for child in children:
        child.start()


def _stop_all(children: list[Child]) -> None:
    for child in children:
        child.ask_to_end()
    for child in reversed(children):
        child.stop()
