"""A disk that is full whenever an attack wants it: a tmpfs, which only root can mount."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

PAGE = 4096


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path | None]:
    """Yield the folder with a disk of its own; None where none can be mounted."""
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], check=False).returncode:
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def resize(disk: Path, size: int) -> int:
    """Give a disk so many bytes, in whole pages, but no less than are used and a page; the bytes that it has then."""
    whole = max(size // PAGE, used(disk) // PAGE + 1) * PAGE
    subprocess.run(["mount", "-o", f"remount,size={whole}", disk], check=True)
    return whole


def used(disk: Path) -> int:
    """Bytes that are used of a disk."""
    state = os.statvfs(disk)
    return (state.f_blocks - state.f_bfree) * state.f_frsize
