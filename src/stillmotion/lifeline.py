"""The end of a process whose starter was killed, before it writes into what another run owns by then."""

import contextlib
import ctypes
import os
import select
import signal
import sys
import threading
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_STAGE = "DVC_STAGE"
"""What dvc sets for the commands of a stage."""


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent is gone, even in the middle of a decode."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def end_with_dvc() -> None:
    """End this process, which dvc has started as a stage, at once when that dvc is gone.

    The parent may be a shell, which outlives a killed dvc, so a thread waits for dvc itself. Nothing is done where dvc
    has not started it, or on a system without file descriptors of processes (Linux has them since 5.3).
    """
    if _STAGE not in os.environ or not hasattr(os, "pidfd_open"):
        return
    dvc = _starter()
    try:
        watched = os.pidfd_open(dvc)
        # dvc starts stages in its own session: where it was killed before this, another process has adopted them.
        gone = os.getsid(dvc) != os.getsid(0) or _starter() != dvc
    except ProcessLookupError:
        gone = True
    except OSError:  # the kernel or the container refuses
        return
    if gone:
        _end()
    threading.Thread(target=_end_after, args=(watched,), daemon=True).start()


def _end_after(watched: int) -> None:
    select.select([watched], [], [])
    _end()


def _end() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _starter() -> int:
    """The nearest ancestor whose environment lacks the name of the stage: the shells between have it from dvc."""
    mark = f"{_STAGE}={os.environ[_STAGE]}".encode()
    process = os.getppid()
    with contextlib.suppress(OSError):  # it has ended, or is another user's
        while mark in Path(f"/proc/{process}/environ").read_bytes().split(b"\0"):
            process = int(Path(f"/proc/{process}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()[1])
    return process
