"""Files from addresses, in a folder where each lies under the SHA-256 of its content.

A file is fetched once: what is there already is not asked for again, and what was broken off, by the network or by a
killed process, goes on from where it was, if the server says that it is still the same file.
"""

import hashlib
import threading
import time
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from stillmotion.errors import InputError
from stillmotion.io.addresses import FetchError
from stillmotion.io.fetch_store import Fetched, Partial, Store, Wanted
from stillmotion.io.memo import file_digest
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
