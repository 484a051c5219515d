"""Work that outlives a stage's outs.

DVC empties the outs of a stage before it runs, so what took long (decoded frames, embeddings, training
checkpoints) is also kept in the memo folder, under the hash of everything it depends on: the content of the
inputs, the params, the code and the libraries. A stage that was interrupted finds there what it had done; a
dataset that gained one video finds all the others. Entries are written whole, and what is put in the place
of one is as good (a checkpoint further on), so any number of processes may share the folder, and deleting
any of it loses nothing but time.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillmotion.io.atomic import atomic_file, link_or_copy


def file_digest(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's content, in hex."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_digest(path: str | os.PathLike[str]) -> str:
    """SHA-256 over the names and contents of the files below a folder, in hex."""
    root = Path(path)
    listing = [
        [file.relative_to(root).as_posix(), file_digest(file)] for file in sorted(root.rglob("*")) if file.is_file()
    ]
    return hashlib.sha256(json.dumps(listing).encode()).hexdigest()


@dataclass(frozen=True)
class Memo:
    """A folder of finished work, or none at all (`root` None: everything is made anew)."""

    root: Path | None

    def _entry(self, kind: str, key: Mapping[str, Any], suffix: str) -> Path | None:
        if self.root is None:
            return None
        name = hashlib.sha256(json.dumps(key, sort_keys=True, allow_nan=False).encode()).hexdigest()
        return self.root / kind / name[:2] / f"{name}{suffix}"

    def find(self, kind: str, key: Mapping[str, Any], *, suffix: str) -> Path | None:
        """The entry's file, or None where there is none yet."""
        entry = self._entry(kind, key, suffix)
        return entry if entry is not None and entry.is_file() else None

    def store(self, kind: str, key: Mapping[str, Any], write: Callable[[Path], None], *, suffix: str) -> None:
        """Make an entry by letting `write` fill the path it is given; no memo, no work."""
        entry = self._entry(kind, key, suffix)
        if entry is not None:
            with atomic_file(entry) as partial:
                write(partial)

    def fetch(
        self, kind: str, key: Mapping[str, Any], target: Path, make: Callable[[Path], None], *, suffix: str
    ) -> bool:
        """Put the entry's bytes at `target`, making them first where they are not there yet.

        Returns:
            True when the work had been done before.
        """
        entry = self._entry(kind, key, suffix)
        if entry is None:
            with atomic_file(target) as partial:
                make(partial)
            return False
        found = entry.is_file()
        if not found:
            with atomic_file(entry) as partial:
                make(partial)
                # It may become a hard link: nobody shall write through that.
                partial.chmod(0o444)
        link_or_copy(entry, target)
        return found

    def size_bytes(self) -> int:
        """Bytes that the entries take."""
        if self.root is None or not self.root.exists():
            return 0
        return sum(file.stat().st_size for file in self.root.rglob("*") if file.is_file())

    def clear(self) -> None:
        """Remove every entry."""
        if self.root is not None:
            shutil.rmtree(self.root, ignore_errors=True)
