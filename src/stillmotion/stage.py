"""What every stage script shares: its entry point, how it imports, its log and its progress."""

import atexit
import contextlib
import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import typer

from stillmotion.config.interrupts import LINES, Terminated, leave_at_once, raise_instead, status_of
from stillmotion.config.steady import steady_params
from stillmotion.errors import InputError, machine_refusal
from stillmotion.lifeline import dvc_started_s, end_with_dvc
from stillmotion.printed import OneLine, one_line
from stillmotion.provenance import refuse_edited

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

SECONDS_BETWEEN_LINES = 15.0


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Imports of models and what they need, in `main` so that `--help` and a wrong option are answered without them.

    Python's search for garbage rests meanwhile: among the 400,000 objects of torch and open_clip, which stay, it finds
    none in a quarter of the time.
    """
    searched = gc.isenabled()
    gc.disable()
    leave_at_once()
    try:
        yield
    finally:
        raise_instead()
        if searched:
            gc.enable()


def run_stage(main: Callable[..., Any]) -> None:
    """Run a stage script's `main` as a command.

    An InputError, and what the machine refuses, ends in one line on standard error and exit status 2, a signal in one
    line and its own status. Other exceptions are bugs and keep their traceback. A process that has succeeded leaves its
    memory to the system: freeing torch's and open_clip's objects one by one would take half a second and more.
    """
    succeeded = False

    def leave() -> None:
        if succeeded:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(0)

    if main.__module__ == "__main__":  # otherwise the process is another's, a test's for one
        end_with_dvc()
        # What is registered first runs last, after what torch and others do at exit.
        atexit.register(leave)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine("%(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("stillmotion").setLevel(logging.INFO)
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command(help=main.__doc__)(steady_params(Path(sys.argv[0]))(main))
    raise_instead()
    try:
        _hold_code()
        app()
    except (InputError, OSError, MemoryError) as error:
        line = str(error) if isinstance(error, InputError) else machine_refusal(error)
        if line is None:
            raise
        print(one_line(f"{Path(sys.argv[0]).stem}: error: {line}"), file=sys.stderr)
        sys.exit(2)
    except Terminated:
        _tell_of(signal.SIGTERM)
        sys.exit(status_of(signal.SIGTERM))
    except SystemExit as end:
        succeeded = not end.code
        if end.code == status_of(signal.SIGINT):  # which typer has made of it
            _tell_of(signal.SIGINT)
        raise


def _hold_code() -> None:
    script, since_s = Path(sys.argv[0]), dvc_started_s()
    stated = Path("code", f"{script.stem}.txt")  # stage code has none while it runs
    if since_s is not None and stated.is_file():
        refuse_edited(script, stated, since_s)


def _tell_of(number: signal.Signals) -> None:
    print(f"{Path(sys.argv[0]).stem}: {LINES[number]}", file=sys.stderr)


class Progress:
    """Counts what is done and estimates what is left: a bar on a terminal, a line now and then elsewhere.

    Use it as a context manager and call `advance` for each item.
    """

    def __init__(self, label: str, total: int, *, silent: bool = False):
        """Begin at nothing done; `silent` where something else tells of the whole."""
        self.label = one_line(label)
        self.total = total
        self.silent = silent
        self.done = 0
        self._log = logging.getLogger("stillmotion")
        self._bar: RichProgress | None = None
        self._started = self._last_line = 0.0

    def __enter__(self) -> "Progress":
        self._started = self._last_line = time.monotonic()
        if sys.stderr.isatty() and not self.silent:
            self._show_bar()
        return self

    def _show_bar(self) -> None:
        # rich is a fifth of what a stage takes to start, and a pipeline runs most stages without a terminal.
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        label = TextColumn("{task.description}", markup=False)
        columns = (label, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        self._bar = RichProgress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._bar.add_task(self.label, total=self.total)
        self._bar.start()

    def skip(self, count: int) -> None:
        """Leave out `count` items that an earlier run has done; they don't enter the estimate."""
        self.total -= count
        if self._bar is not None:
            self._bar.update(self._task, total=self.total)

    def advance(self, count: int = 1) -> None:
        """Count `count` more items as done."""
        self.done += count
        if self._bar is not None:
            self._bar.update(self._task, advance=count)
            return
        now = time.monotonic()
        if not self.silent and now - self._last_line >= SECONDS_BETWEEN_LINES and self.done < self.total:
            self._last_line = now
            left = (now - self._started) / self.done * (self.total - self.done)
            self._log.info("%s: %d of %d, about %.0f s left", self.label, self.done, self.total, left)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        if kind is None and not self.silent:
            self._log.info("%s: %d in %.1f s", self.label, self.done, time.monotonic() - self._started)
