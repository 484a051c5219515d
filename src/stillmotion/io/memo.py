"""Work that outlives a stage's outs.

DVC empties the outs of a stage before it runs, so what took long (decoded frames, embeddings, training
checkpoints) is also kept in the memo folder, under the hash of everything it depends on: the content of the
inputs, the params, the code and the libraries. A stage that was interrupted finds there what it had done; a
dataset that gained one video finds all the others. Entries are written whole, and what is put in the place
of one is as good (a checkpoint further on), so any number of processes on any number of hosts may share the folder,
and deleting any of it loses nothing but time.

An entry is the read-only file `<kind>/<two digits>/<digest of the key>-<digest of the content><suffix>`. It is read
whole before it is believed: what a bad disk, a power cut or a careless hand made of it is removed and made anew. Files
without a digest of their content are of an earlier layout, and not looked at.
"""

import contextlib
import errno
import functools
import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from stillmotion.errors import InputError
from stillmotion.io.atomic import atomic_file, link_or_copy, partial_file, remove_abandoned, sync

Loaded = TypeVar("Loaded")
DIGITS = 32
"""Of the digest of an entry's content, of the 64 that SHA-256 has."""
_log = logging.getLogger("stillmotion")


def file_digest(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's content, in hex."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_digest(path: str | os.PathLike[str], *, without: Collection[str] = ()) -> str:
    """SHA-256 over the names and contents of the files below a folder, but for those of some names, in hex."""
    root = Path(path)
    listing = [
        [file.relative_to(root).as_posix(), file_digest(file)]
        for file in sorted(root.rglob("*"))
        if file.is_file() and file.name not in without
    ]
    return hashlib.sha256(json.dumps(listing).encode()).hexdigest()


@dataclass(frozen=True)
class Memo:
    """A folder of finished work, or none at all (`root` None: everything is made anew)."""

    root: Path | None
    keeps: bool = True
    """Whether it takes what is made: a colleague's, perhaps, is for reading alone."""

    def _place(self, kind: str, key: Mapping[str, Any], suffix: str) -> Path | None:
        """An entry's path but for the digest of its content."""
        if self.root is None:
            return None
        name = hashlib.sha256(json.dumps(key, sort_keys=True, allow_nan=False).encode()).hexdigest()
        return self.root / kind / name[:2] / f"{name}{suffix}"

    def find(self, kind: str, key: Mapping[str, Any], *, suffix: str) -> Path | None:
        """The entry's file, whose bytes are those that were stored; None where there is none.

        A file of other bytes is told and removed.
        """
        place = self._place(kind, key, suffix)
        for entry, digest in [] if place is None else _stored(place):
            try:
                if file_digest(entry)[:DIGITS] == digest:
                    return entry
                fault = "not the bytes that were stored there"
            except FileNotFoundError:  # another process has put a newer one in its place
                continue
            except OSError as error:
                fault = f"can't be read ({error.strerror})"
            _log.warning("%s: %s; removed, and made anew", entry, fault)
            with contextlib.suppress(OSError):
                entry.unlink()
        return None

    def read(self, kind: str, key: Mapping[str, Any], load: Callable[[Path], Loaded], *, suffix: str) -> Loaded | None:
        """What `load` makes of the entry's file; None where `find` finds none."""
        entry = self.find(kind, key, suffix=suffix)
        try:
            return None if entry is None else load(entry)
        except (FileNotFoundError, InputError):
            if entry is not None and entry.exists():
                raise
            return None  # another process has put a newer one in its place

    def store(self, kind: str, key: Mapping[str, Any], write: Callable[[Path], None], *, suffix: str) -> None:
        """Make an entry by letting `write` fill the path it is given; no memo, no work; a full one, a warning.

        That file becomes read-only, as it may be a hard link of an out: nobody shall write through that.
        """
        place = self._place(kind, key, suffix)
        if place is None or self.root is None or not self.keeps:
            return
        try:
            self._store(place, write)
        except OSError as error:
            _warn_once(self.root, error.strerror or str(error))

    @staticmethod
    def _store(place: Path, write: Callable[[Path], None]) -> None:
        place.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(place.parent, os.W_OK | os.X_OK):  # another user has made it
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        remove_abandoned(place)
        with partial_file(place) as partial:
            write(partial)
            partial.chmod(0o444)
            entry = place.with_stem(f"{place.stem}-{file_digest(partial)[:DIGITS]}")
            # Listed before this one is there: two processes that store at once do not remove both.
            replaced = [old for old in place.parent.glob(f"{place.stem}*{place.suffix}") if old != entry]
            if replaced:
                sync(partial)
            partial.replace(entry)
        if replaced:
            sync(entry.parent)
        for old in replaced:
            old.unlink(missing_ok=True)

    def recall(
        self,
        kind: str,
        key: Mapping[str, Any],
        make: Callable[[], Loaded],
        *,
        load: Callable[[Path], Loaded],
        save: Callable[[Path, Loaded], None],
        suffix: str,
    ) -> tuple[Loaded, bool]:
        """What `make` makes, from its entry where that is there and else to it; and whether it was there."""
        found = self.read(kind, key, load, suffix=suffix)
        if found is not None:
            return found, True
        made = make()
        self.store(kind, key, lambda path: save(path, made), suffix=suffix)
        return made, False

    def fetch(
        self, kind: str, key: Mapping[str, Any], target: Path, make: Callable[[Path], None], *, suffix: str
    ) -> bool:
        """Put the entry's bytes at `target`, making them first where they are not there yet.

        Returns:
            True when the work had been done before.
        """

        def link(entry: Path) -> bool:
            link_or_copy(entry, target)
            return True

        if self.read(kind, key, link, suffix=suffix):
            return True
        # Made beside the target and not in the memo: what a killed process leaves goes with that folder.
        with atomic_file(target) as partial:
            make(partial)
        self.store(kind, key, lambda entry: link_or_copy(target, entry), suffix=suffix)
        return False

    def size_bytes(self) -> int:
        """Bytes that the entries take."""
        if self.root is None or not self.root.exists():
            return 0
        return sum(file.stat().st_size for file in self.root.rglob("*") if file.is_file())

    def clear(self) -> None:
        """Remove every entry."""
        if self.root is not None:
            shutil.rmtree(self.root, ignore_errors=True)


def open_memo(root: Path | None) -> Memo:
    """The memo in a folder, which is made; where it can't be written to, a warning, and what can be read there."""
    if root is None:
        return Memo(None)
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=root):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        with contextlib.suppress(OSError), os.scandir(root):
            _warn_once(root, reason, " but for what is there: this run")
            return Memo(root, keeps=False)
        _warn_once(root, reason)
        return Memo(None)
    return Memo(root)


@functools.cache
def _warn_once(root: Path, reason: str, rest: str = "; this run goes on without, and") -> None:
    _log.warning(
        "%s: the memo can't be used (%s)%s keeps nothing for the next. "
        "Set STILLMOTION_MEMO to another folder, or to off",
        root,
        reason.lower(),
        rest,
    )


def _stored(place: Path) -> list[tuple[Path, str]]:
    """The files of one key and the digests in their names, newest first: as a rule one, or none."""
    named = re.compile(f"{place.stem}-([0-9a-f]{{{DIGITS}}}){re.escape(place.suffix)}")
    found = []
    with contextlib.suppress(OSError):  # not there yet, or not to be read
        for file in os.scandir(place.parent):
            match = named.fullmatch(file.name)
            if match:
                found.append((file.stat().st_mtime_ns, Path(file.path), match[1]))
    return [(entry, digest) for _, entry, digest in sorted(found, reverse=True)]
