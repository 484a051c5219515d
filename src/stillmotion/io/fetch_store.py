"""The folder of fetched files, which processes may share: they wait for each other.

- `content/ab/<SHA-256>`: files, read-only
- `addresses/ab/<key>.json`: the SHA-256 of what an address without a stated one gave
- `partial/<key>` and `<key>.json`: a file that is on its way, and what the server says of it
"""

import contextlib
import fcntl
import hashlib
import logging
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from stillmotion.io.addresses import FetchError
from stillmotion.io.memo import file_digest
from stillmotion.io.tables import read_json, write_json

log = logging.getLogger("stillmotion")


@dataclass(frozen=True, slots=True)
class Wanted:
    """An address, and what is stated of its file."""

    url: str
    sha256: str | None = None
    size: int | None = None
    """Bytes."""

    @property
    def key(self) -> str:
        """The same for all that are to become one file."""
        return hashlib.sha256((self.sha256 or self.url).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file, and the SHA-256 of its content."""

    file: Path
    sha256: str


@dataclass(frozen=True)
class Store:
    """The folder of fetched files."""

    root: Path

    def find(self, wanted: Wanted) -> Fetched | None:
        """The file of an address, where it is there, read whole before it is believed."""
        digest = wanted.sha256
        if digest is None:
            with contextlib.suppress(OSError, KeyError, ValueError):
                digest = read_json(self._address(wanted))["sha256"]
        file = None if digest is None else self._content(digest)
        if digest is None or file is None or not file.is_file():
            return None
        if file_digest(file) == digest:
            return Fetched(file, digest)
        log.warning("%s: not the bytes that were fetched; removed, and fetched again", file)
        file.unlink(missing_ok=True)
        return None

    def keep(self, wanted: Wanted, partial: "Partial", digest: str) -> Fetched:
        """Make a file that is whole the content of its address."""
        if wanted.sha256 is None:
            # First: killed in between, the next run finds the whole file on its way, and asks for nothing.
            write_json(self._address(wanted), {"sha256": digest})
        file = self._content(digest)
        file.parent.mkdir(parents=True, exist_ok=True)
        os.fsync(partial.file.fileno())
        partial.path.replace(file)
        # It becomes a hard link in a workspace: nobody shall write through that. And not before: killed in between, the
        # next run could not go on with it.
        file.chmod(0o444)
        return Fetched(file, digest)

    @contextlib.contextmanager
    def partial(self, wanted: Wanted, stop: threading.Event) -> Iterator["Partial"]:
        """The file that is on its way, which no other thread or process touches meanwhile."""
        path = self.root / "partial" / wanted.key
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            with path.open("ab") as file:
                _lock(file, stop)
                # Whoever had it may have finished it.
                if not _stands_at(file, path):
                    continue
                partial = Partial(path, file)
                try:
                    yield partial
                finally:
                    if not path.exists() or not partial.length:
                        path.unlink(missing_ok=True)
                        partial.about.unlink(missing_ok=True)
                return

    def _content(self, digest: str) -> Path:
        return self.root / "content" / digest[:2] / digest

    def _address(self, wanted: Wanted) -> Path:
        return self.root / "addresses" / wanted.key[:2] / f"{wanted.key}.json"


@dataclass(frozen=True)
class Partial:
    """A file that is on its way."""

    path: Path
    file: BinaryIO
    """Open to append to."""

    @property
    def about(self) -> Path:
        return self.path.with_name(f"{self.path.name}.json")

    @property
    def length(self) -> int:
        return os.fstat(self.file.fileno()).st_size

    def known(self) -> dict[str, Any]:
        """What the server said of the file that has come so far."""
        with contextlib.suppress(OSError, ValueError):
            known = read_json(self.about)
            return {"validator": known["validator"], "size": known["size"]}
        return {"validator": None, "size": None}

    def note(self, validator: str | None, size: int | None) -> None:
        """Write down what the server says of the file."""
        write_json(self.about, {"validator": validator, "size": size})

    def clear(self) -> None:
        """Begin anew."""
        self.file.truncate(0)


def _stands_at(file: BinaryIO, path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    return False


def _lock(file: BinaryIO, stop: threading.Event) -> None:
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if stop.wait(0.1):
                raise FetchError("stopped", again=True) from None
