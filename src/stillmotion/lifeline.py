"""What a process knows of the dvc that has started it, and its end where that was killed: another run owns its outs."""

import contextlib
import ctypes
import os
import select
import signal
import sys
import threading
import time
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


def dvc_started_s() -> float | None:
    """When the dvc that has started this process as a stage was itself started, in seconds since 1970.

    None where no dvc has, or the system doesn't say.
    """
    if _STAGE not in os.environ:
        return None
    try:
        ticks = int(_status(_starter())[19])
    except OSError:
        return None
    # Not by /proc/uptime, which is the container's where ticks are the machine's.
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + ticks / os.sysconf("SC_CLK_TCK")


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
            process = int(_status(process)[1])
    return process


def _status(process: int) -> list[str]:
    """What the kernel says of a process, behind its name: its state, its parent and so on."""
    return Path(f"/proc/{process}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
