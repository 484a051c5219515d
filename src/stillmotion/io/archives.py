"""Archives from elsewhere, unpacked so that nothing of them lands outside of the folder, and not too much in it."""

import errno
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, cast

from stillmotion.errors import InputError
from stillmotion.io.atomic import atomic_folder

MAX_RATIO = 100
"""Of the unpacked bytes to the archive's: above it, from ALWAYS_BYTES on, it is made to fill the disk."""
ALWAYS_BYTES = 1 << 30
MAX_MEMBERS = 1_000_000
_CHUNK = 1 << 20
_BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, RuntimeError, UnicodeDecodeError)


@dataclass(frozen=True, slots=True)
class _Member:
    name: str
    kind: str
    """`file`, `folder`, or what else it is."""
    open: Callable[[], IO[bytes]]


def safe_path(name: str) -> str | None:
    """The path below a folder that a name from elsewhere means; None where it leads out of it, or to no file."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    bad = not parts or not name.isprintable() or ".." in parts or parts[0].startswith("/") or parts[0][1:2] == ":"
    return None if bad else "/".join(parts)


def unpack(archive: Path, target: Path, *, title: str, max_bytes: int) -> None:
    """Unpack a zip or tar archive, compressed or not, into the folder `target`, which is there whole or not at all.

    Args:
        archive: the file, of whatever name.
        target: the folder to make.
        title: what errors call the archive.
        max_bytes: the most that it may unpack to; MAX_RATIO is another limit.

    Raises:
        InputError: it is no archive or broken, or holds what can't be unpacked safely.
        OSError: the machine refuses it, such as a full disk.
    """
    most = min(max_bytes, max(ALWAYS_BYTES, MAX_RATIO * archive.stat().st_size))
    with atomic_folder(target) as folder:
        left = most
        seen: set[str] = set()
        try:
            for member in _members(archive):
                path = safe_path(member.name)
                if member.kind == "folder" and (path or not PurePosixPath(member.name).parts):
                    continue
                if path is None:
                    raise InputError(f"{title}: the member {member.name!r} leads out of the folder; unpack it by hand")
                if member.kind != "file":
                    raise InputError(f"{title}: the member {path!r} is {member.kind}, no file; unpack it by hand")
                if path in seen or len(seen) == MAX_MEMBERS:
                    why = f"{path!r} is there twice" if path in seen else f"more than {MAX_MEMBERS} members"
                    raise InputError(f"{title}: {why}; unpack it by hand")
                seen.add(path)
                left -= _copy(member, folder / path, left)
                if left < 0:
                    raise InputError(
                        f"{title}: unpacks to more than {most} bytes, of an archive of {archive.stat().st_size}; "
                        "if that is right, unpack it by hand"
                    )
        except (*_BROKEN, OSError) as error:
            # EINVAL: its list tells of a place before its start.
            if isinstance(error, OSError) and error.errno not in (None, errno.EEXIST, errno.ENOTDIR, errno.EINVAL):
                raise
            raise InputError(f"{title}: no zip or tar archive that is whole ({type(error).__name__})") from None


def _copy(member: _Member, target: Path, most: int) -> int:
    """Write a member; stops once it is longer than `most`. Returns the bytes written."""
    target.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with member.open() as source, target.open("xb") as out:
        while written <= most and (chunk := source.read(_CHUNK)):
            written += out.write(chunk)
    # It may become a hard link: nobody shall write through that.
    target.chmod(0o444)
    return written


def _members(archive: Path) -> Iterator[_Member]:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            for info in opened.infolist():
                yield _Member(info.filename, _zip_kind(info), partial(opened.open, info))
        return
    with tarfile.open(archive) as opened_tar:
        for entry in opened_tar:
            kind = "file" if entry.isreg() else "folder" if entry.isdir() else _odd(entry)
            yield _Member(entry.name, kind, cast("Callable[[], IO[bytes]]", partial(opened_tar.extractfile, entry)))


def _zip_kind(info: zipfile.ZipInfo) -> str:
    mode = info.external_attr >> 16
    if info.filename.endswith("/"):  # and not is_dir, which an empty name ends in an IndexError
        return "folder"
    # Only Unix writes a type of file there.
    if stat.S_IFMT(mode) in (0, stat.S_IFREG):
        return "file"
    return "a link" if stat.S_ISLNK(mode) else "a device"


def _odd(entry: tarfile.TarInfo) -> str:
    return "a link" if entry.issym() or entry.islnk() else "a device"
