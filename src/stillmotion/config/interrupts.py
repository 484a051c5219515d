"""What Ctrl-C and a request to end do: one line, and the status that shells know.

While modules are imported, the process leaves at once: an exception there comes out as whatever the module that was
being imported makes of it. Later it is an exception, so that what is half-written is removed.
"""

import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import NoReturn

AGAIN_S = 0.05
LINES = {signal.SIGINT: "interrupted", signal.SIGTERM: "told to end"}


class Terminated(BaseException):
    """SIGTERM, as KeyboardInterrupt is SIGINT."""


def status_of(number: signal.Signals) -> int:
    """The exit status for a signal, as shells have it: 130 and 143."""
    return 128 + number


def _leave(number: int, _: FrameType | None) -> None:
    line = f"{Path(sys.argv[0]).stem}: {LINES[signal.Signals(number)]}\n"
    os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, line.encode())
    os._exit(status_of(signal.Signals(number)))


def _terminate(_number: int, _: FrameType | None) -> NoReturn:
    raise Terminated


_RAISING = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: _terminate}


def leave_at_once() -> None:
    """Have a signal end the process without more ado, unless somebody else has said what it does."""
    # A process that multiprocessing has started is its parent's to end.
    if "multiprocessing.spawn" not in sys.modules and threading.current_thread() is threading.main_thread():
        for number, raising in _RAISING.items():
            if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler, raising):
                signal.signal(number, _leave)


def leave_to_python() -> None:
    """Have a signal do what it does without us, in a program that is somebody else's."""
    for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
        if signal.getsignal(number) in (_leave, _RAISING[number]):
            signal.signal(number, usual)


def raise_instead() -> None:
    """Have a signal raise KeyboardInterrupt or `Terminated` where `leave_at_once` had it end the process."""
    usual = sys.unraisablehook
    number = signal.SIGTERM

    def raise_again(lost: "sys.UnraisableHookArgs") -> None:
        """What is raised within a `__del__` is lost, so it is raised again when that is over."""
        nonlocal number
        if not isinstance(lost.exc_value, KeyboardInterrupt | Terminated):
            return usual(lost)
        number = signal.SIGTERM if isinstance(lost.exc_value, Terminated) else signal.SIGINT
        signal.signal(signal.SIGALRM, ring)
        signal.setitimer(signal.ITIMER_REAL, AGAIN_S)
        return None

    def ring(_: int, frame: FrameType | None) -> None:
        within = frame
        while within is not None and within.f_code is not raise_again.__code__:
            within = within.f_back
        if within is not None:  # where it would be lost once more
            signal.setitimer(signal.ITIMER_REAL, AGAIN_S)
        else:
            _RAISING[number](number, frame)

    for each, raising in _RAISING.items():
        if signal.getsignal(each) is _leave:
            signal.signal(each, raising)
            sys.unraisablehook = raise_again
