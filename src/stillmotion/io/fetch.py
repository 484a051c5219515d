"""Files from addresses, in a folder where each lies under the SHA-256 of its content.

A file is fetched once: what is there already is not asked for again, and what was broken off, by the network or by a
killed process, goes on from where it was, if the server says that it is still the same file. Processes that share the
folder wait for each other. Under the folder:

    content/ab/<SHA-256>       files, read-only
    addresses/ab/<key>.json    the SHA-256 of what an address without a stated one gave
    partial/<key>, <key>.json  a file that is on its way, and what the server says of it
"""

import contextlib
import fcntl
import hashlib
import logging
import os
import threading
import time
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from stillmotion.errors import InputError
from stillmotion.io.addresses import FetchError
from stillmotion.io.memo import file_digest
from stillmotion.io.tables import read_json, write_json
from stillmotion.io.transport import Body, Transport, too_slow
from stillmotion.stage import Progress

TRIES = 5
"""In a row that bring nothing new, before a file is given up."""
FIRST_WAIT_S = 0.5
MAX_WAIT_S = 30.0
MAX_ASKED_WAIT_S = 600.0
"""A server that wants to be left alone for longer is given up."""
LEAST_BYTES_S = 1024
"""Over STILLMOTION_FETCH_TIMEOUT: a server that sends less is stuck."""

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


def fetch_all(
    wanted: Collection[Wanted], root: Path, transport: Transport, *, parallel: int, timeout_s: float, max_bytes: int
) -> dict[Wanted, Fetched | FetchError]:
    """The files of all addresses in the folder `root`, or why they can't be had.

    Args:
        wanted: what to fetch.
        root: the folder; it may be shared.
        transport: what opens addresses.
        parallel: how many are fetched at once.
        timeout_s: a server that sends nothing for so long, or next to nothing, is taken for stuck.
        max_bytes: a longer file is refused.
    """
    store, stop = Store(root), threading.Event()
    results: dict[Wanted, Fetched | FetchError] = {}

    def fetch(one: Wanted) -> tuple[Fetched | FetchError, bool]:
        """The answer, and whether it was there."""
        try:
            found = store.find(one)
            if found is not None:
                return found, True
            return _fetch(one, store, transport, stop, timeout_s=timeout_s, max_bytes=max_bytes), False
        except FetchError as error:
            return error, False

    left = dict.fromkeys(wanted)
    with Progress("files fetched", len(left)) as progress, ThreadPoolExecutor(parallel) as pool:
        try:
            futures = {pool.submit(fetch, one): one for one in left}
            for future in as_completed(futures):
                results[futures[future]], was_there = future.result()
                if was_there:
                    progress.skip(1)
                else:
                    progress.advance()
        except OSError as error:  # of the network's faults each is a FetchError
            mend = "make room, or set STILLMOTION_MEMO to another folder"
            raise InputError(f"{root}: can't be written ({error.strerror}); {mend}") from None
        finally:
            # Threads can't be interrupted: they look at this after each chunk.
            stop.set()
            pool.shutdown(cancel_futures=True)
    return results


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
        # It becomes a hard link in a workspace: nobody shall write through that.
        partial.path.chmod(0o444)
        partial.path.replace(file)
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


def _fetch(
    wanted: Wanted, store: Store, transport: Transport, stop: threading.Event, *, timeout_s: float, max_bytes: int
) -> Fetched:
    with store.partial(wanted, stop) as partial:
        found = store.find(wanted)
        if found is not None:
            partial.clear()
            return found
        tries, longest = 0, partial.length
        while True:
            try:
                whole = _read(wanted, partial, transport, stop, timeout_s=timeout_s, max_bytes=max_bytes)
                digest = file_digest(partial.path)
                if wanted.sha256 in (None, digest):
                    return store.keep(wanted, partial, digest)
                # One that came in parts may be of two files; one that came as a whole is what the server has.
                reason = f"its SHA-256 is {digest}, not the {wanted.sha256} that is stated"
                raise FetchError(reason, again=not whole, anew=True)
            except FetchError as error:
                if error.anew or not error.again:
                    partial.clear()
                tries = 1 if partial.length > longest else tries + 1
                longest = max(longest, partial.length)
                if not error.again or tries >= TRIES or error.wait_s > MAX_ASKED_WAIT_S:
                    raise
                if stop.wait(max(error.wait_s, _wait_s(wanted, tries))):
                    raise FetchError("stopped", again=True) from None


def _wait_s(wanted: Wanted, tries: int) -> float:
    """Twice as long after each try; and not the same for all files, which would come back all at once."""
    jitter = hashlib.sha256(f"{wanted.key} {tries}".encode()).digest()[0] / 255
    return min(FIRST_WAIT_S * 2 ** (tries - 1), MAX_WAIT_S) * (0.5 + 0.5 * jitter)


def _read(
    wanted: Wanted, partial: Partial, transport: Transport, stop: threading.Event, *, timeout_s: float, max_bytes: int
) -> bool:
    """Append what is lacking of the file; True when all of it came at once."""
    known = partial.known()
    if known["validator"] is None and wanted.sha256 is None:
        # Nothing could tell that the rest is of another file.
        partial.clear()
    offset = partial.length
    if offset and offset == known["size"]:
        return False
    with transport.open_at(wanted.url, offset, known["validator"]) as body:
        if body.start == 0:
            partial.clear()
        elif body.start != offset or body.validator != known["validator"] or known["size"] not in (None, body.size):
            raise FetchError("it changes while it is read", again=True, anew=True)
        partial.note(body.validator, body.size)
        most = max_bytes if wanted.size is None else wanted.size
        if (body.size or 0) > most:
            raise _too_long(wanted, most)
        _append(body, partial, stop, timeout_s=timeout_s, most=most, wanted=wanted)
    length = partial.length
    if body.size is not None and length < body.size:
        raise FetchError("the connection broke off", again=True)
    if wanted.size is not None and length < wanted.size:
        raise FetchError(f"it is shorter than the {wanted.size} bytes that are stated")
    if body.size is None:
        partial.note(body.validator, length)
    return body.start == 0


def _append(
    body: Body, partial: Partial, stop: threading.Event, *, timeout_s: float, most: int, wanted: Wanted
) -> None:
    length = since = partial.length
    started = time.monotonic()
    for chunk in body.chunks:
        if stop.is_set():
            raise FetchError("stopped", again=True)
        length += len(chunk)
        if length > most:
            raise _too_long(wanted, most)
        partial.file.write(chunk)
        partial.file.flush()  # what has come outlives the process
        now = time.monotonic()
        if now - started > timeout_s:
            if length - since < LEAST_BYTES_S * timeout_s:
                raise too_slow(timeout_s)
            started, since = now, length


def _too_long(wanted: Wanted, most: int) -> FetchError:
    limit = "are stated" if wanted.size is not None else "max_bytes of source.yaml allows"
    return FetchError(f"it is longer than the {most} bytes that {limit}")
