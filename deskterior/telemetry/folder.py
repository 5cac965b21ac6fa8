"""The folder in which the processes of one service leave their figures, so that each of them can tell those of all.

The files, and adding them up, are prometheus_client's multiprocess mode. BentoML's folder for it is one for all
services of a user, and each empties it as it starts; so the main process makes another one, which ends with it.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

SETTING = "DESKTERIOR_METRICS_DIR"
"""How the main process tells the others; BentoML gives its workers its own `PROMETHEUS_MULTIPROC_DIR`."""
MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"


def share() -> None:
    """Make the folder. For the main process, before it starts any other; one that was itself started uses its
    starter's."""
    if Path(os.environ.get(SETTING, "/nowhere")).is_dir():
        return
    folder = os.environ[SETTING] = tempfile.mkdtemp(prefix="deskterior-metrics-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)


def use() -> None:
    """Leave figures in the shared folder, if there is one. Before the first family is made: it opens its file then."""
    if (folder := os.environ.get(SETTING)) and Path(folder).is_dir():
        os.environ[MULTIPROCESS] = folder


def forget_dead() -> None:
    """Drop the gauges of processes that have died. What they have counted stays counted."""
    from prometheus_client.multiprocess import mark_process_dead

    if not (folder := os.environ.get(MULTIPROCESS)):
        return
    for path in Path(folder).glob("gauge_live*_*.db"):
        pid = path.stem.rpartition("_")[2]
        if pid.isdigit() and not _lives(int(pid)):
            mark_process_dead(int(pid))  # type: ignore[no-untyped-call]


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
