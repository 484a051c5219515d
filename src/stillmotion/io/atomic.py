"""Files and folders that are there whole or not at all.

What is not whole yet, or is to be removed, has a hidden name beside its place:
`.<name>.partial-<host>-<process>-<random>`, and a folder that a new one is about to replace `.<name>.former-…`. A
process on another host may be alive, whatever has its number here, so `host` says where the number counts.
"""

import contextlib
import errno
import functools
import hashlib
import os
import re
import shutil
import socket
import stat
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from stillmotion.errors import InputError

ABANDONED_S = 7 * 24 * 3600
"""What nobody has written to for so long is given up, whoever's it was: a week."""
_OWNER = re.compile(r"-([0-9a-f]{12})-([0-9]{1,9})-[0-9a-f]{8}$")
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FILE, _FOLDER = "a file", "a folder"
_KINDS = {
    stat.S_IFREG: _FILE,
    stat.S_IFDIR: _FOLDER,
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
}


@functools.cache
def _host() -> str:
    """A digest of what hands out the numbers of processes: this boot of the kernel, and its container."""
    try:
        system = Path("/proc/sys/kernel/random/boot_id").read_text() + str(Path("/proc/self/ns/pid").readlink())
    except OSError:  # no Linux
        system = f"{socket.gethostname()} {uuid.getnode()}"
    return hashlib.sha256(system.encode()).hexdigest()[:12]


def _beside(path: Path, kind: str) -> Path:
    return path.with_name(f".{path.name}.{kind}-{_host()}-{os.getpid()}-{uuid.uuid4().hex[:8]}")


def _is_running(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _is_abandoned(path: Path) -> bool:
    """Whether the process that the name tells of is surely dead, or has long done nothing."""
    found = _OWNER.search(path.name)
    if found and found[1] == _host() and not _is_running(int(found[2])):
        return True
    with contextlib.suppress(OSError):  # its owner has just put it in its place, or removed it
        return time.time() - max(file.lstat().st_mtime for file in (path, *path.rglob("*"))) > ABANDONED_S
    return False


def _abandoned(path: Path, kind: str) -> list[Path]:
    """What dead processes have left of this kind beside `path`; two dots where one was written in the place of one."""
    prefixes = tuple(f"{dots}{path.name}.{kind}-" for dots in (".", ".."))
    return [left for left in path.parent.iterdir() if left.name.startswith(prefixes) and _is_abandoned(left)]


def remove_abandoned(path: Path) -> None:
    """Remove what dead processes left half-written beside `path`, whose folder there is; another user's may stay."""
    for left in _abandoned(path, "partial"):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                left.unlink()


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder where the file system can tell, would survive a power cut."""
    with contextlib.suppress(OSError) if path.is_dir() else contextlib.nullcontext():
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def writable_place(path: str | os.PathLike[str], *, folder: bool = False) -> Path:
    """Where to write what shall be at `path`: parent folders are made, and a link is followed.

    Raises:
        InputError: a device, a pipe, a socket, a folder for a file or the other way round is there; a link leads to a
            read-only file, as DVC's to its cache, or to a folder that is not there, as on a disk that is not mounted;
            or the parent can't be made or written to.
    """
    path = Path(path)
    wanted = _FOLDER if folder else _FILE
    try:
        mode = None
        with contextlib.suppress(FileNotFoundError):
            mode = path.stat().st_mode
        kind = wanted if mode is None else _KINDS.get(stat.S_IFMT(mode), "something else")
        if kind != wanted:
            raise InputError(f"{path}: is {kind}; name {wanted}" + (" in it" if kind == _FOLDER else ""))
        place = Path(os.path.realpath(path)) if path.is_symlink() else path
        if place == path:
            place.parent.mkdir(parents=True, exist_ok=True)
        elif not place.parent.is_dir() or (mode is not None and not mode & 0o222):
            what = "read-only" if place.parent.is_dir() else "in no folder"
            raise InputError(f"{path}: leads to {place}, which is {what}; remove the link, or let it lead elsewhere")
    except (FileExistsError, NotADirectoryError):
        raise InputError(f"{path}: a folder on the way there is a file; move it, or name another path") from None
    except OSError as error:
        raise InputError(f"{path}: can't be written there ({error.strerror}); name another path") from None
    effective = os.access in os.supports_effective_ids
    if not os.access(place.parent, os.W_OK | os.X_OK, effective_ids=effective):
        raise InputError(f"{path}: the folder {place.parent} is read-only; allow writing, or name another path")
    return place


@contextlib.contextmanager
def _named(hidden: Path, place: Path) -> Iterator[None]:
    """Have errors name the place where something was to be, and not the hidden one that is gone when they are read."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno in _NO_ROOM:  # of what is open already
            error.filename = str(place)
        for name in ("filename", "filename2"):
            if getattr(error, name) is not None:
                setattr(error, name, str(getattr(error, name)).replace(str(hidden), str(place)))
        raise


@contextlib.contextmanager
def partial_file(place: Path) -> Iterator[Path]:
    """Yield a path beside `place` to write to; what is still there when the block ends is removed."""
    partial = _beside(place, "partial")
    try:
        with _named(partial, place):
            yield partial
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a path beside `path` to write to; it becomes `path` when the block ends without an error.

    Parent folders are made, a link is followed. On an error nothing is left behind and an existing `path` stays as it
    was; a power cut leaves it, or the new one whole. What killed processes left half-written beside it is removed.

    Raises:
        InputError: see `writable_place`.
    """
    place = writable_place(path)
    if not any(map(_OWNER.search, place.parent.parts)):  # in a folder that is none yet, they go with that
        remove_abandoned(place)
    with partial_file(place) as partial:
        yield partial
        if place.exists():
            sync(partial)
        partial.replace(place)


@contextlib.contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield an empty folder to fill; it becomes `path` when the block ends without an error.

    An existing `path` is replaced, a link followed. A folder that a killed run had put aside for its new one comes back
    first, and what killed runs left half-written beside it is removed, and what a killed worker of this one left in it.

    Raises:
        InputError: see `writable_place`; or what is there can't be replaced.
    """
    place = writable_place(path, folder=True)
    for former in _abandoned(place, "former"):
        if place.exists():  # the new one
            _discard(former, place)
        else:
            with contextlib.suppress(OSError):
                former.rename(place)
    remove_abandoned(place)
    partial = _beside(place, "partial")
    try:
        with _named(partial, place):
            partial.mkdir()
            yield partial
        try:
            _put_in_place(partial, place)
        except OSError as error:
            raise InputError(f"{path}: can't be replaced ({error.strerror}); remove it and run this again") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _put_in_place(new: Path, place: Path) -> None:
    """Rename a folder to `place`; the one that is there stands aside meanwhile, and comes back where that fails."""
    for left in new.rglob(".*.partial-*"):  # a killed worker's
        if _OWNER.search(left.name):
            left.unlink(missing_ok=True)
    former = _beside(place, "former")
    try:
        if place.exists():
            for file in new.rglob("*"):
                sync(file)
            place.rename(former)
        new.rename(place)
    except BaseException:
        with contextlib.suppress(OSError):
            former.rename(place)
        raise
    _discard(former, place)


def _discard(former: Path, place: Path) -> None:
    """Remove a folder that stood aside, under another name, as one that is half gone must not come back."""
    with contextlib.suppress(OSError):
        shutil.rmtree(former.rename(_beside(place, "partial")), ignore_errors=True)


def link_or_copy(source: Path, target: Path) -> None:
    """Make `target` the same bytes as `source`: a hard link where the file system allows, else a copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        with atomic_file(target) as partial:
            shutil.copyfile(source, partial)
