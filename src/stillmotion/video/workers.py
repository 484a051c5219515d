"""Worker processes that outlive a decoder that hangs, crashes or is killed.

A decoder can hang inside C while it holds the interpreter lock, so only another process can stop it, and a
pool that loses a process must not lose the rest of its work: concurrent.futures breaks whole in that case,
and multiprocessing.Pool waits for ever.
"""

import contextlib
import itertools
import math
import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Generic, TypeVar

from stillmotion.errors import InputError, machine_refusal
from stillmotion.lifeline import die_with
from stillmotion.video.probe import VideoError

Item = TypeVar("Item")
Result = TypeVar("Result")

Answer = tuple[str, Any]

_CONTEXT = multiprocessing.get_context("spawn")


def _serve(connection: Connection, function: Callable[[Any], Any], parent: int) -> None:
    """Answer items until the other end of the pipe closes."""
    die_with(parent)
    # Ctrl-C reaches the whole process group; the parent decides what becomes of the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        connection.send(("ready", None))
        while True:
            item = connection.recv()
            try:
                answer: Answer = "result", function(item)
            except VideoError as error:
                answer = "lost", error.reason
            except Exception as error:
                is_refusal = isinstance(error, OSError | MemoryError) and machine_refusal(error)
                refused = is_refusal or isinstance(error, InputError)
                answer = ("refused", error) if refused else ("bug", traceback.format_exc())
            connection.send(answer)


class _Worker(Generic[Item]):
    """A process and the item it is at."""

    def __init__(self, function: Callable[[Item], Any]):
        self.connection, theirs = _CONTEXT.Pipe()
        self.process: BaseProcess = _CONTEXT.Process(target=_serve, args=(theirs, function, os.getpid()), daemon=True)
        # A Ctrl-C while it imports would print its traceback; this process has its own when the mask is off again.
        resource_tracker.ensure_running()  # which takes the mask off
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        try:
            self.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        theirs.close()
        self.items: list[Item] = []
        self.is_second = False
        # What a process needs to start is no time of its first item: that begins when it says `ready`.
        self.is_ready = False
        self.deadline = math.inf

    def give(self, item: Item, timeout_s: float, *, is_second: bool = False) -> None:
        """Send an item, for the second time where it outlived another process."""
        self.items, self.is_second = [item], is_second
        if self.is_ready:
            self.deadline = time.monotonic() + timeout_s
        # A process that has died meanwhile says how in `answer`.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.connection.send(item)

    def answer(self, timeout_s: float) -> Answer | None:
        """What has become of its item; None while that is not known."""
        try:
            if self.connection.poll():
                answer: Answer = self.connection.recv()
                if answer[0] != "ready":
                    return answer
                self.is_ready, self.deadline = True, time.monotonic() + timeout_s
                return None
        except (EOFError, ConnectionResetError):
            pass
        else:
            if time.monotonic() >= self.deadline:
                return "killed", f"decoding took longer than {timeout_s:g} s (STILLMOTION_VIDEO_TIMEOUT)"
            if self.process.is_alive():
                return None
        self.process.join()
        code = self.process.exitcode or 0
        cause = signal.Signals(-code).name if code < 0 else f"exit status {code}"
        return "died", f"decoder process died ({cause})"

    def kill(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


def run_in_workers(
    function: Callable[[Item], Result], items: Iterable[Item], *, workers: int, timeout_s: float
) -> Iterator[tuple[Item, Result | VideoError]]:
    """Call `function` on each item in worker processes; yield results as they come.

    An item that takes longer than `timeout_s` has its process killed, one whose process dies takes nothing
    else with it, and in both cases a fresh process takes over. It begins with the item whose process died: it was not
    the item's doing where the system killed that, for want of memory, and what dies twice is lost. All processes end
    with this one, however it ends, and with the iteration.

    Args:
        function: Importable by name. Its VideoErrors are results.
        items: Drawn as processes become free, so they may be many.
        workers: Number of processes.
        timeout_s: Seconds for one item.

    Yields:
        (item, what `function` returned or the VideoError in its place), in order of completion.

    Raises:
        OSError, MemoryError: the machine refused something, such as room on a disk.
        InputError: `function` raised it.
        RuntimeError: `function` raised something else: a bug, with the traceback of the worker.
    """
    queue = iter(items)
    busy: list[_Worker[Item]] = []
    idle: list[_Worker[Item]] = []
    try:
        while True:
            for item in itertools.islice(queue, workers - len(busy)):
                worker = idle.pop() if idle else _Worker(function)
                busy.append(worker)
                worker.give(item, timeout_s)
            if not busy:
                return
            left = max(0.0, min(worker.deadline for worker in busy) - time.monotonic())
            signals = [source for worker in busy for source in (worker.connection, worker.process.sentinel)]
            wait(signals, timeout=None if math.isinf(left) else left)
            for worker in list(busy):
                answer = worker.answer(timeout_s)
                if answer is None:
                    continue
                kind, value = answer
                item = worker.items.pop()
                busy.remove(worker)
                if kind in ("killed", "died"):
                    worker.kill()
                    if kind == "died" and not worker.is_second:
                        second = _Worker(function)
                        second.give(item, timeout_s, is_second=True)
                        busy.append(second)
                        continue
                else:
                    idle.append(worker)
                if kind == "refused":
                    raise value
                if kind == "bug":
                    raise RuntimeError(f"while working on {item!r}:\n{value}")
                yield item, value if kind == "result" else VideoError(value)
    finally:
        for worker in busy + idle:
            worker.kill()
