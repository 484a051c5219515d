import io
import logging
import subprocess
import sys

import pytest

from stillmotion import stage
from stillmotion.stage import Progress

SCRIPT = '''
import atexit
import threading
import time
from pathlib import Path
from typing import Annotated

import typer

from stillmotion.errors import InputError
from stillmotion.stage import Progress, run_stage


def main(wish: Annotated[str, typer.Option(help="what to do")]) -> None:
    """Do as told."""
    if wish == "input":
        raise InputError("params.yaml: param embed.clip_frames is 0; set 1 or more")
    if wish == "bug":
        raise RuntimeError("a bug")
    if wish == "value":
        raise ValueError("also a bug")
    if wish == "exit":
        atexit.register(print, "at exit")
        threading.Thread(target=lambda: (time.sleep(0.2), print("from a thread"))).start()
        print("from main")
    if wish.startswith("edit "):
        with Path("params.yaml").open("a") as params:
            params.write(wish.removeprefix("edit "))
    with Progress("counting", 2) as progress:
        progress.advance(2)


if __name__ == "__main__":
    run_stage(main)
'''


def run(tmp_path, *arguments):
    script = tmp_path / "some_stage.py"
    script.write_text(SCRIPT, encoding="utf-8")
    return subprocess.run(
        [sys.executable, str(script), *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def test_a_mistake_of_the_user_is_one_line_and_exit_status_2(tmp_path):
    done = run(tmp_path, "--wish", "input")
    assert done.returncode == 2
    assert done.stderr == "some_stage: error: params.yaml: param embed.clip_frames is 0; set 1 or more\n"
    assert done.stdout == ""


@pytest.mark.parametrize(("wish", "last"), [("bug", "RuntimeError: a bug"), ("value", "ValueError: also a bug")])
def test_a_bug_keeps_its_traceback(tmp_path, wish, last):
    done = run(tmp_path, "--wish", wish)
    assert done.returncode == 1
    assert "Traceback (most recent call last):" in done.stderr
    assert "in main" in done.stderr
    assert done.stderr.strip().splitlines()[-1] == last


def test_a_stage_that_succeeds_says_what_it_did_on_standard_error(tmp_path):
    done = run(tmp_path, "--wish", "nothing")
    assert done.returncode == 0
    assert done.stdout == ""
    label, _, rest = done.stderr.strip().partition(": ")
    assert (label, rest[:5]) == ("counting", "2 in ")


def test_an_unknown_option_is_refused_without_a_traceback(tmp_path):
    done = run(tmp_path, "--wisch", "input")
    assert done.returncode == 2
    assert "--wisch" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("added", "edited"),
    [("  wish: 2", "counting"), ("other: 1", ""), ("# counting", "")],
    ids=["what it reads", "what it does not read", "a comment"],
)
def test_params_that_are_edited_while_dvc_runs_a_stage_are_not_taken_for_those_of_what_came_out(
    tmp_path, monkeypatch, added, edited
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("counting:\n  a: 1\n")
    monkeypatch.setenv("DVC_STAGE", "some_stage")
    done = run(tmp_path, "--wish", f"edit {added}\n")
    assert done.returncode == (2 if edited else 0)
    told = f"some_stage: error: params.yaml: {edited} was edited while this ran, and dvc would take what came of the "
    assert done.stderr.splitlines()[-1].startswith(told if edited else "counting: 2 in ")


def test_a_stage_that_ends_leaves_nothing_undone(tmp_path):
    done = run(tmp_path, "--wish", "exit")
    assert done.returncode == 0
    assert done.stdout.splitlines() == ["from main", "from a thread", "at exit"]


def test_a_stage_that_another_process_runs_does_not_end_that(tmp_path):
    code = """
import sys
from stillmotion.stage import run_stage
def main() -> None: ...
main.__module__ = "another"
sys.argv = ["stage"]
try:
    run_stage(main)
except SystemExit as end:
    assert not end.code
sys.exit(3)
"""
    done = subprocess.run([sys.executable, "-c", code], timeout=60, check=False)
    assert done.returncode == 3


class Clock:
    """Stands in for time.monotonic."""

    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(stage, "time", clock)
    monkeypatch.setattr(sys, "stderr", io.StringIO())  # not a terminal
    return clock


def test_off_a_terminal_a_line_now_and_then_estimates_what_is_left(clock, caplog):
    caplog.set_level(logging.INFO, logger="stillmotion")
    with Progress("embedding", 100) as progress:
        for _ in range(40):
            clock.now += 1.0
            progress.advance()
    # A line when 15 s have passed since the last one. 15 items took 15 s: the 85 left take 85 s.
    assert [record.getMessage() for record in caplog.records] == [
        "embedding: 15 of 100, about 85 s left",
        "embedding: 30 of 100, about 70 s left",
        "embedding: 40 in 40.0 s",
    ]


def test_what_an_earlier_run_did_does_not_enter_the_estimate(clock, caplog):
    caplog.set_level(logging.INFO, logger="stillmotion")
    with Progress("training", 100) as progress:
        progress.skip(60)
        clock.now += 20.0
        progress.advance(10)
    assert [record.getMessage() for record in caplog.records] == [
        "training: 10 of 40, about 60 s left",
        "training: 10 in 20.0 s",
    ]


def test_the_last_item_gets_no_estimate(clock, caplog):
    caplog.set_level(logging.INFO, logger="stillmotion")
    with Progress("fitting", 1) as progress:
        clock.now += 99.0
        progress.advance()
    assert [record.getMessage() for record in caplog.records] == ["fitting: 1 in 99.0 s"]


def test_a_run_that_fails_does_not_say_that_it_is_done(clock, caplog):
    caplog.set_level(logging.INFO, logger="stillmotion")
    error = RuntimeError("stopped")
    progress = Progress("fitting", 2).__enter__()
    progress.advance()
    progress.__exit__(RuntimeError, error, None)
    assert caplog.records == []


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_on_a_terminal_there_is_a_bar_and_no_line_but_the_last(monkeypatch, caplog):
    caplog.set_level(logging.INFO, logger="stillmotion")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", Terminal())
    with Progress("fitting", 2) as progress:
        progress.advance()
        progress.skip(1)
    assert "fitting" in sys.stderr.getvalue()
    assert "1/1" in sys.stderr.getvalue()
    assert [record.getMessage()[:10] for record in caplog.records] == ["fitting: 1"]
