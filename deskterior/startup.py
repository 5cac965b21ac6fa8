"""What a process that serves does once, between loading and its first request."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys
import traceback
from types import TracebackType

MAIN = "DESKTERIOR_MAIN_PROCESS"
_PR_SET_PDEATHSIG = 1


def be_main() -> None:
    """Tell the processes that this one is about to start whose they are, and say in a sentence why it cannot listen.

    BentoML binds its address last of all, and a port that is taken ends it with a traceback.
    """
    os.environ[MAIN] = str(os.getpid())
    sys.excepthook = _explain


def _explain(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    binding = any("circus" in frame.filename and "socket" in frame.filename for frame in traceback.extract_tb(trace))
    if isinstance(error, OSError) and binding:
        where = "the address that it is given (--host; PORT or --port)"
        print(f"Deskterior does not start. It cannot listen at {where}: {error.strerror}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


def end_with_main() -> None:
    """Have the kernel send this process SIGTERM when the main process is gone, however it died: nobody else would.

    A worker that its main process left behind would hold the port for ever, and answer with what was installed then.
    On Linux, and under a main process of ours; elsewhere it does nothing.
    """
    main = os.environ.get(MAIN)
    if main is None or sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(main):  # it has died meanwhile
        os.kill(os.getpid(), signal.SIGTERM)


def keep_loaded() -> None:
    """What has been loaded stays: to look through it again and again cost an empty handler 200 ms at p99."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
