"""The folder in which the processes of one service leave their figures, so that each of them can tell those of all.

The files, and adding them up, are prometheus_client's multiprocess mode. BentoML's folder for it is one for all
services of a user, and each empties it as it starts; so the main process makes another one, which ends with it.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import shutil
import struct
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

SETTING = "DESKTERIOR_METRICS_DIR"
"""How the main process tells the others; BentoML gives its workers its own `PROMETHEUS_MULTIPROC_DIR`."""
MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"
PREFIX = "deskterior-metrics-"
LOCK = "lock"
NOBODY = "0"
"""No process has this number: that of the files with what the dead have counted."""
ROOM = {"counter": 2**17, "histogram": 2**20, "gauge_livesum": 2**16, "gauge_mostrecent": 2**16}
"""Bytes of each file of a process. One that has answered every method at every route has used 45, 849, 8 and 1 KiB."""
_ADDED = ("counter", "histogram", "summary")
"""Kinds of families that outlive their processes. A gauge is of now."""


def share() -> None:
    """Make the folder. For the main process, before it starts any other; one that was itself started uses its
    starter's."""
    if Path(os.environ.get(SETTING, "/nowhere")).is_dir():
        return
    made = Path(tempfile.mkdtemp(prefix=f".{PREFIX}"))  # by this name nobody sweeps it
    (made / LOCK).touch(0o600)
    _held(made)  # for as long as this process lives: nobody closes it
    folder = made.rename(made.with_name(made.name.removeprefix(".")))
    os.environ[SETTING] = str(folder)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    _sweep(folder.parent)


def use() -> None:
    """Leave figures in the shared folder, if there is one. Before the first family is made: it opens its file then.

    Raises:
        OSError: there is no room for them.
    """
    if (folder := os.environ.get(SETTING)) and Path(folder).is_dir():
        os.environ[MULTIPROCESS] = folder
        for kind, room in ROOM.items():
            _make_room(Path(folder) / f"{kind}_{os.getpid()}.db", room)


def _make_room(path: Path, room: int) -> None:
    """The files are written through memory: where a full disk has no page for a new figure, the kernel ends the process
    in the middle of a request. Raises OSError where there is no room. On Linux; elsewhere it does nothing."""
    if sys.platform != "linux":
        return
    # Not to append: on a file system that cannot do it (NFS 3, say), glibc writes zeros, and refuses to append them.
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.posix_fallocate(handle, 0, room)
    finally:
        os.close(handle)


def settle() -> None:
    """Put what dead processes have counted into one file of each kind, and drop their gauges.

    Without it a process that dies again and again fills the folder, and makes each scrape dearer than the one before.
    """
    folder = Path(os.environ.get(MULTIPROCESS, "/nowhere"))
    if not folder.is_dir():
        return
    with _locked(folder, fcntl.LOCK_EX), suppress(OSError):  # without room they stay where they are
        for path in folder.glob("*_*.db"):
            kind, *_, pid = path.stem.split("_")
            if pid == NOBODY or not pid.isdigit() or _lives(int(pid)):
                continue
            if kind in _ADDED:
                _add(path, folder / f"{kind}_{NOBODY}.db")
            path.unlink(missing_ok=True)


@contextmanager
def looked_at() -> Iterator[None]:
    """While somebody adds the files up, nobody moves figures from one to another."""
    folder = Path(os.environ.get(MULTIPROCESS, "/nowhere"))
    if not folder.is_dir():
        yield
        return
    with _locked(folder, fcntl.LOCK_SH):
        yield


def _add(dead: Path, to: Path) -> None:
    from prometheus_client.mmap_dict import MmapedDict

    _make_room(to, ROOM["histogram"])
    with suppress(struct.error, RuntimeError, ValueError):  # cut off in the middle of its making
        told = [(key, value) for key, value, *_ in MmapedDict.read_all_values_from_file(dead)]  # type: ignore[no-untyped-call]
        all_dead = MmapedDict(to)  # type: ignore[no-untyped-call]
        for key, value in told:
            all_dead.write_value(key, all_dead.read_value(key)[0] + value, 0.0)  # type: ignore[no-untyped-call]
        all_dead.close()  # type: ignore[no-untyped-call]


def _sweep(place: Path) -> None:
    """Remove the folders of services that were killed: whoever lives holds his."""
    for lock in place.glob(f"{PREFIX}*/{LOCK}"):
        with suppress(OSError):  # held, another user's, or gone meanwhile
            handle = _held(lock.parent)
            shutil.rmtree(lock.parent, ignore_errors=True)
            os.close(handle)


def _held(folder: Path) -> int:
    """The folder, open and locked. Raises OSError where somebody else holds it."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise
    return handle


@contextmanager
def _locked(folder: Path, how: int) -> Iterator[None]:
    handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, how)
        yield
    finally:
        os.close(handle)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
