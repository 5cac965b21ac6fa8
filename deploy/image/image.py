"""Makes the image of a Bento with the engine at hand: what is copied into it, its labels, and its SBOM beside it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from deploy.image.variants import ROOT, Variant

HERE = Path(__file__).resolve().parent
SBOM = "/home/bentoml/sbom.cdx.json"
"""Within the image."""
BASE = "docker.io/library/python:3.11-slim-bookworm"


class NoEngine(RuntimeError):
    """Nothing here can build an image."""


@dataclass(frozen=True)
class Engine:
    """The program that builds and runs containers: `docker`, or `podman` with the same arguments."""

    program: str

    @classmethod
    def at_hand(cls, wanted: str = "") -> Engine:
        """Docker if its daemon answers, else podman.

        Raises:
            NoEngine: neither is there, or the one wanted is not.
        """
        for program in [wanted] if wanted else ["docker", "podman"]:
            if shutil.which(program) and cls(program)._answers():
                return cls(program)
        raise NoEngine(f"No {wanted or 'Docker or podman'} answers here: install one, or start Docker's daemon")

    def _answers(self) -> bool:
        done = subprocess.run([self.program, "info"], capture_output=True)  # noqa: S603 - docker or podman
        return done.returncode == 0

    def run(self, *arguments: str) -> str:
        """What it says. Its complaints go to our own.

        Raises:
            subprocess.CalledProcessError: it failed.
        """
        command = [self.program, *arguments]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout  # noqa: S603 - as above

    def build(self, *arguments: str) -> None:
        # Docker's own format: OCI's has no HEALTHCHECK, and podman would leave it out.
        form = ["--format", "docker"] if self.program == "podman" else []
        environment = {**os.environ, "DOCKER_BUILDKIT": "1"}
        subprocess.run([self.program, "build", *form, *arguments], check=True, env=environment)  # noqa: S603 - as above


def build_image(
    engine: Engine, bento: Path, variant: Variant, tag: str, base: str = BASE, certificates: Path | None = None
) -> Path:
    """Build the image of a Bento, and return its SBOM's file in `build/`.

    Args:
        bento: the Bento's folder.
        certificates: a file of those that the package registry is known by, where a proxy has its own.

    Raises:
        subprocess.CalledProcessError: the engine failed, and has said why.
    """
    with TemporaryDirectory(prefix="image-") as folder:
        context = Path(folder)
        _fill(context, bento)
        when = _commit_time()
        labels = {
            "title": "deskterior",
            "description": "Desk photos in; restyled pictures and the products to buy out.",
            "licenses": "Apache-2.0",
            "version": (ROOT / "VERSION").read_text().strip(),
            "revision": _git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*") or "unknown",
            "created": datetime.fromtimestamp(int(when), UTC).isoformat(),
            "base.name": base,
            "base.digest": _digest_of(engine, base),
        }
        own = {"variant": variant.value, "bento": bento.name, "source.digest": digest(context / "bento" / "src")}
        arguments = ["--file", str(HERE / "Dockerfile"), "--tag", tag]
        arguments += ["--build-arg", f"BASE={base}", "--build-arg", f"SOURCE_DATE_EPOCH={when}"]
        arguments += ["--build-arg", f"VARIANT={Path(variant.requirements).stem.removeprefix('requirements-')}"]
        for name, value in labels.items():
            arguments += ["--label", f"org.opencontainers.image.{name}={value}"]
        for name, value in own.items():
            arguments += ["--label", f"deskterior.{name}={value}"]
        if certificates:
            arguments += ["--secret", f"id=ca,src={certificates}"]
        engine.build(*arguments, str(context))
    return _sbom(engine, tag)


def digest(folder: Path) -> str:
    """A digest of every file's path and content, whoever built the folder and whenever."""
    lines = (
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder).as_posix()}\n"
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    )
    return "sha256:" + hashlib.sha256("".join(lines).encode()).hexdigest()


def _fill(context: Path, bento: Path) -> None:
    """What the Dockerfile copies, readable to all whatever this user's umask is."""
    (context / "bento").mkdir()
    shutil.copytree(bento / "src", context / "bento" / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(bento / "bento.yaml", context / "bento")
    (context / "image").mkdir()
    for name in ("health.py", "sbom.py"):
        shutil.copy(HERE / name, context / "image")
    shutil.copy(ROOT / "requirements-image.txt", context)
    for path in [context, *context.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)


def _digest_of(engine: Engine, base: str) -> str:
    """The base image's digest in its registry; empty for one that was made here."""
    inspect = ("image", "inspect", base, "--format", "{{json .RepoDigests}}")
    try:
        found: list[str] | None = json.loads(engine.run(*inspect))
    except subprocess.CalledProcessError:
        engine.run("pull", "--quiet", base)
        found = json.loads(engine.run(*inspect))
    return next((name.partition("@")[2] for name in found or []), "")


def _sbom(engine: Engine, tag: str) -> Path:
    where = ROOT / "build" / f"{tag.rpartition('/')[2].replace(':', '-')}.cdx.json"
    where.parent.mkdir(exist_ok=True)
    container = engine.run("create", "--no-healthcheck", tag).strip()
    try:
        engine.run("cp", f"{container}:{SBOM}", str(where))
    finally:
        engine.run("rm", "--volumes", container)
    return where


def _commit_time() -> str:
    """Seconds since 1970, of the last commit unless SOURCE_DATE_EPOCH says otherwise."""
    return os.environ.get("SOURCE_DATE_EPOCH") or _git("log", "-1", "--format=%ct") or "0"


def _git(*arguments: str) -> str:
    if not shutil.which("git"):  # an archive of the source, on a machine that only builds
        return ""
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)  # noqa: S603,S607 - ours
    return done.stdout.strip() if done.returncode == 0 else ""
