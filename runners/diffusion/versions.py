"""The folder of the drawing model: which versions lie in it, which one is active, and what has changed since last look.

Either the folder is a checkpoint itself, or each of its sub-folders is one and the file `active` names the one that
draws; a single version needs no such file. What is inside a version is left to `checkpoint`. No torch here.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import tempfile
import threading
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deskterior.errors import RunnerFailed

ACTIVE = "active"
INDEX = "model_index.json"
LORAS = "loras"
_NAME = re.compile(r"[^\W_][\w.-]{0,63}")
"""Letters of any script, digits, and . - _ between them."""
READ_BYTES = 1024 * 1024
_SINGLE_FILES = {".safetensors", ".ckpt", ".bin", ".pt", ".pth", ".gguf"}

Fingerprint = tuple[tuple[str, int, int, int], ...]
"""Path, size, time of change and inode of each file: equal means untouched."""
UNREADABLE = -1
"""The size of what is no file with contents: a link to nothing or to a folder, a pipe, a device."""


class VersionUnusable(RunnerFailed):
    """A version of the drawing model cannot be used. `detail` says why and what would mend it."""


class NoRoom(VersionUnusable):
    """There was not enough memory to load a version; with less in it, there may be."""


@dataclass(frozen=True)
class Version:
    """One checkpoint folder. `name` has its letters composed (NFC), however whoever copied it spelt them."""

    name: str
    path: Path


class ModelFolder:
    """`CUSTOM_MODEL_DIR`. It may be missing, and appear later."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def is_one_version(self) -> bool:
        return _has_index(self.path)

    def versions(self) -> list[Version]:
        """By name. Sub-folders that are no checkpoint are versions too, with a problem that `checkpoint.vet` names."""
        if self.is_one_version:
            return [Version(_plain(self.path.name), self.path)]
        try:
            found = sorted(entry for entry in self.path.iterdir() if entry.is_dir())
        except OSError:
            return []
        return [Version(name, entry) for entry in found if _NAME.fullmatch(name := _composed(entry.name))]

    def version(self, name: str) -> Version:
        """Raises `VersionUnusable` for a name that nothing in the folder has."""
        versions = self.versions()
        for version in versions:
            if version.name == _composed(name):
                return version
        raise VersionUnusable(f"There is no version {name!r:.80}; there are: {_names(versions)}")

    def active(self) -> Version | None:
        """The version that draws; None where nothing is installed.

        Raises:
            VersionUnusable: `active` names none that is here, or is missing where there are several.
        """
        versions = self.versions()
        if self.is_one_version:
            return versions[0]
        named = self._named()
        if named:
            return self.version(named)
        whole = [version for version in versions if _has_index(version.path)] or versions
        if len(whole) > 1:
            raise VersionUnusable(
                f"Several versions are installed and none is active: {_names(whole)}. "
                "Choose one: python -m runners.models activate VERSION"
            )
        return whole[0] if whole else None

    def _named(self) -> str:
        try:
            with (self.path / ACTIVE).open("rb") as file:
                return file.read(256).decode("utf-8", "replace").strip()
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise VersionUnusable(f"The file `{ACTIVE}` cannot be read: {error.strerror}") from None

    def activate(self, name: str) -> None:
        """Make a version the one that draws. Whoever reads `active` sees the old name or the new one, never half.

        Raises:
            VersionUnusable: nothing has that name, or the folder is a single checkpoint.
            OSError: the folder cannot be written.
        """
        version = self.version(name)
        if self.is_one_version:
            raise VersionUnusable("The folder is itself one checkpoint: there is nothing to choose from")
        handle, part = tempfile.mkstemp(prefix=".active-", dir=self.path)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(f"{version.name}\n")
                file.flush()
                os.fsync(file.fileno())
            Path(part).chmod(0o644)
            Path(part).replace(self.path / ACTIVE)
        except BaseException:
            Path(part).unlink(missing_ok=True)
            raise

    def remove(self, name: str) -> None:
        """Delete a version's files. A loaded model does not need them any more.

        Raises:
            VersionUnusable: nothing has that name, it is the active one, or the folder is a single checkpoint.
            OSError: it cannot be deleted.
        """
        version = self.version(name)
        if self.is_one_version:
            raise VersionUnusable("The folder is itself one checkpoint: delete it by hand")
        try:
            active = self.active()
        except VersionUnusable:
            active = None
        if active == version:
            raise VersionUnusable(f"{name} is the active version: activate another one first")
        if version.path.is_symlink():
            version.path.unlink()
            return
        # Out of sight first, so that nobody sees half a version.
        doomed = self.path / f".removed-{version.name}"
        shutil.rmtree(doomed, ignore_errors=True)
        version.path.rename(doomed)
        shutil.rmtree(doomed)

    def stray(self) -> str:
        """What lies there as if it were a version and is none, and why; `""` if nothing does."""
        try:
            entries = sorted(self.path.iterdir())
        except FileNotFoundError:
            return ""
        except OSError as error:
            return f"The folder itself cannot be read: {error.strerror}"
        for entry in entries:
            if entry.suffix in _SINGLE_FILES:
                return f"{entry.name:.80} is a checkpoint in a single file: save it with diffusers' save_pretrained"
            named = entry.name.startswith(".") or _NAME.fullmatch(_composed(entry.name))
            if not named and _has_index(entry):
                return f"The folder {entry.name!r:.80} is no version by its name: letters, digits, . - _ and 64 at most"
        return ""

    def fingerprint(self) -> tuple[str, Fingerprint]:
        """Of everything that matters, without reading a file of weights: cheap enough for every second."""
        try:
            named = self._named()
        except VersionUnusable as error:
            named = error.detail
        return named, tuple(each for version in self.versions() for each in fingerprint(version.path))


@contextmanager
def reading(folder: Path) -> Iterator[None]:
    """What goes wrong in a version's folder, a missing right perhaps, is `VersionUnusable` by the file's name."""
    try:
        yield
    except OSError as error:
        path = Path(error.filename or folder)
        name = where(folder, path) if path.is_relative_to(folder) else INDEX
        raise VersionUnusable(f"{name} cannot be read: {error.strerror}") from None


def where(folder: Path, path: Path) -> str:
    """The path within the folder, fit to be told: names on a disk need not be UTF-8."""
    return path.relative_to(folder).as_posix().encode("utf-8", "replace").decode()


def files(folder: Path) -> Iterator[Path]:
    """Every file below `folder`, hidden ones left out, in a fixed order. A link to a folder is itself one of them: it
    could lead anywhere, also back here."""
    for place, folders, names in os.walk(folder):
        linked = [name for name in folders if Path(place, name).is_symlink()]
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in linked)
        for name in sorted(names + linked):
            if not name.startswith("."):
                yield Path(place, name)


def fingerprint(folder: Path) -> Fingerprint:
    found = []
    for path in files(folder):
        try:
            status = path.stat()
        except OSError:  # a dangling link, or deleted just now
            status = None
        if status is not None and stat.S_ISREG(status.st_mode):
            found.append((str(path), status.st_size, status.st_mtime_ns, status.st_ino))
        else:
            found.append((str(path), UNREADABLE, 0, 0))
    return tuple(found)


class Digests:
    """SHA-256 of versions. A file is read again only when its size or time changed. For any thread."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int, int, int], str] = {}
        self._reading = threading.Lock()
        self._stopped = threading.Event()

    def of(self, version: Version) -> str:
        """`sha256:` of the names and SHA-256 of all files; `""` if one cannot be read."""
        whole = hashlib.sha256()
        with self._reading:  # the disk gains nothing from two
            for key in fingerprint(version.path):
                path, size, *_ = key
                try:
                    digest = self._known.get(key) or (self._sha256(Path(path)) if size != UNREADABLE else "")
                except OSError:
                    digest = ""
                if not digest:
                    return ""
                self._known[key] = digest
                # As the disk has the name, which need not be UTF-8.
                whole.update(os.fsencode(Path(path).relative_to(version.path)) + f"\0{digest}\n".encode())
        return f"sha256:{whole.hexdigest()}"

    def stop(self) -> None:
        """Let whoever reads give up: a process that ends waits for its threads, and 10 GB take a while."""
        self._stopped.set()

    def _sha256(self, path: Path) -> str:
        whole = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(READ_BYTES):
                if self._stopped.is_set():
                    return ""
                whole.update(block)
        return whole.hexdigest()


def _has_index(folder: Path) -> bool:
    try:
        return (folder / INDEX).is_file()
    except OSError:
        return False


def _names(versions: list[Version]) -> str:
    return ", ".join(version.name for version in versions[:20]) or "none"


def _plain(name: str) -> str:
    return name if _NAME.fullmatch(name := _composed(name)) else "custom"


def _composed(name: str) -> str:
    """As keyboards spell it: macOS takes letters apart, and the same name would be two."""
    return unicodedata.normalize("NFC", name)
