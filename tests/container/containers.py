"""Containers to test the image in: an engine that works on this machine, and what runs in it.

With Docker they are Docker's. Otherwise podman's, in a store of its own and on a stand-in for the base image: a
machine without Docker often has no registry of images either.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.image.image import BASE, Engine

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
INSIDE = (HERE / "inside.py").read_text()
STAND_IN = "localhost/python-stand-in:3.11"
NEEDED = ("podman", "runc", "mmdebstrap")
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
HARDENED = ("--read-only", "--cap-drop", "all", "--security-opt", "no-new-privileges", "--network", "none")
"""How every deployment in deploy/ runs it, and without a network."""
TMP = ("--tmpfs", "/tmp:mode=1777,size=1g")
READY_WITHIN_S = 90


class CannotRun(RuntimeError):
    """Containers cannot be run here; the text says what is missing."""


@dataclass(frozen=True)
class Place:
    """An engine, the base image to build on, and what the engine's programs are told by environment."""

    engine: Engine
    base: str
    store: Path | None = None
    """podman's, which is removed at the end."""

    @classmethod
    def find(cls, folder: Path) -> Place:
        """Docker, or podman with its store in `folder`.

        Raises:
            CannotRun: naming what is missing.
        """
        if shutil.which("docker") and _succeeds("docker", "info"):
            return cls(Engine("docker"), BASE)
        if missing := [program for program in NEEDED if not shutil.which(program)]:
            raise CannotRun(f"no Docker answers, and {', '.join(missing)} is not here: as root, `make containers`")
        if os.getuid() != 0:
            raise CannotRun("no Docker answers, and podman with a store of its own needs root here")
        _configure(folder)
        subprocess.run([ROOT / "deploy/image/standin.sh", STAND_IN], check=True)
        return cls(Engine("podman"), STAND_IN, folder)

    def clear(self) -> None:
        """Remove podman's store; with Docker, what was tagged for the test is removed by whoever tagged it."""
        if self.store:
            for words in (["rm", "--all", "--force", "--time", "0"], ["rmi", "--all", "--force"], ["unmount", "--all"]):
                _succeeds(self.engine.program, *words)
            shutil.rmtree(self.store, ignore_errors=True)


def _configure(folder: Path) -> None:
    """No systemd, no bridge and no limits above this machine's own are needed."""
    files = min(4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    (folder / "containers.conf").write_text(
        f'[containers]\nnetns = "host"\ndefault_ulimits = ["nofile={files}:{files}", "nproc=4096:4096"]\n'
        '[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
    )
    (folder / "storage.conf").write_text(
        f'[storage]\ndriver = "overlay"\ngraphroot = "{folder}/graph"\nrunroot = "{folder}/run"\n'
    )
    os.environ["CONTAINERS_CONF"] = str(folder / "containers.conf")
    os.environ["CONTAINERS_STORAGE_CONF"] = str(folder / "storage.conf")


def _succeeds(*command: str) -> bool:
    return subprocess.run(command, capture_output=True).returncode == 0


@dataclass(frozen=True)
class Container:
    """One that was started, and may have ended."""

    engine: Engine
    name: str

    @classmethod
    def start(cls, engine: Engine, image: str, *command: str, options: tuple[str, ...] = (), **env: str) -> Container:
        """Start it in the background, as deployments do."""
        given = [word for name, value in env.items() for word in ("--env", f"{name}={value}")]
        name = engine.run("run", "--detach", "--no-healthcheck", *HARDENED, *TMP, *options, *given, image, *command)
        return cls(engine, name.strip())

    def wait_ready(self, *check: str) -> None:
        """Wait until the image's own health check is content.

        Raises:
            AssertionError: it ended, or was not in time; the text ends with its log.
        """
        until = time.monotonic() + READY_WITHIN_S
        while time.monotonic() < until and self.state["Running"]:
            if self.exec("python", "-I", "-S", "/home/bentoml/image/health.py", *check).returncode == 0:
                return
            time.sleep(0.5)
        raise AssertionError(f"it did not become ready; its log ends:\n{self.log()[-3000:]}")

    @property
    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.engine.run("inspect", self.name, "--format", "{{json .State}}"))
        return found

    def exec(self, *command: str, detach: bool = False) -> subprocess.CompletedProcess[str]:
        background = ["--detach"] if detach else []
        words = [self.engine.program, "exec", *background, self.name, *command]
        return subprocess.run(words, capture_output=True, text=True)

    def sh(self, script: str) -> str:
        """What a shell in it says; a script that fails fails the test."""
        done = self.exec("/bin/sh", "-c", script)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def ask(self, path: str, body: dict[str, Any] | None = None, prefer: str = "") -> tuple[int, str]:
        """The status and the body of an answer, asked for from within."""
        done = self.exec(*self.asking(path, body, prefer))
        status, _, text = done.stdout.partition(" ")
        assert status.isdigit(), done.stderr
        return int(status), text.rstrip("\n")

    @staticmethod
    def asking(path: str, body: dict[str, Any] | None = None, prefer: str = "") -> list[str]:
        """The command that asks."""
        return ["python", "-c", INSIDE, path, json.dumps(body) if body else "", prefer]

    def wait(self) -> int:
        """Its exit code, once it has ended."""
        return int(self.engine.run("wait", self.name))

    def log(self) -> str:
        done = subprocess.run([self.engine.program, "logs", self.name], capture_output=True, text=True)
        return done.stdout + done.stderr

    def remove(self) -> None:
        _succeeds(self.engine.program, "rm", "--force", "--volumes", self.name)
