"""Worker processes under every misfortune; the functions that they run are below, importable by name."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from stillmotion.video.probe import VideoError
from stillmotion.video.workers import run_in_workers

PROGRAM = """
    import os, signal, sys, time
    from pathlib import Path
    from stillmotion.video.probe import VideoError
    from stillmotion.video.workers import run_in_workers

    def act(item):
        if item == "hang":
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGINT])
            while True:
                time.sleep(60)
        if item == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if item == "leave":
            os._exit(3)
        if item.startswith("once"):
            mark = Path(item)
            if not mark.exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        if item == "lost":
            raise VideoError("empty file")
        if item == "bug":
            raise KeyError("a bug")
        if item == "modules":
            return "torch" in sys.modules
        return item, os.getpid()

    if __name__ == "__main__":
        workers, timeout, items = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]
        for item, outcome in run_in_workers(act, items, workers=workers, timeout_s=timeout):
            print(item, repr(outcome), flush=True)
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("workers") / "program.py"
    path.write_text(textwrap.dedent(PROGRAM))
    return path


def run(program, *arguments, workers=2, timeout=30.0) -> dict[str, str]:
    done = subprocess.run(
        [sys.executable, program, str(workers), str(timeout), *arguments], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return dict(line.split(" ", 1) for line in done.stdout.splitlines())


@pytest.mark.parametrize("workers", [1, 3])
def test_every_item_has_its_result_and_processes_are_used_again(program, workers):
    items = [f"item{number}" for number in range(12)]
    outcomes = run(program, *items, workers=workers)
    assert set(outcomes) == set(items)
    assert all(outcomes[item].startswith(f"('{item}', ") for item in items)
    assert len({outcome.split(", ")[1] for outcome in outcomes.values()}) <= workers


@pytest.mark.slow
def test_an_item_that_hangs_crashes_or_leaves_costs_nothing_but_itself(program):
    items = ["a", "hang", "b", "crash", "c", "leave", "d", "lost", "e"]
    outcomes = run(program, *items, timeout=2.0)
    assert outcomes["hang"] == "VideoError('decoding took longer than 2 s (STILLMOTION_VIDEO_TIMEOUT)')"
    assert outcomes["crash"] == "VideoError('decoder process died (SIGSEGV)')"
    assert outcomes["leave"] == "VideoError('decoder process died (exit status 3)')"
    assert outcomes["lost"] == "VideoError('empty file')"
    assert all(outcomes[item].startswith(f"('{item}', ") for item in "abcde")


def test_an_item_whose_process_the_system_kills_is_begun_again_by_another(program, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcomes = run(program, "once-a", "b", "once-c", "d", workers=1)
    assert [outcomes[item].split(",")[0] for item in ("once-a", "b", "once-c", "d")] == [
        "('once-a'",
        "('b'",
        "('once-c'",
        "('d'",
    ]


def test_another_exception_is_a_bug_and_keeps_its_traceback(program):
    done = subprocess.run([sys.executable, program, "1", "30", "bug"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "KeyError: 'a bug'" in done.stderr
    assert "while working on 'bug'" in done.stderr
    assert "in act" in done.stderr


def test_workers_do_not_import_torch(program):
    assert run(program, "modules", workers=1) == {"modules": "False"}


def test_no_items_start_no_process():
    assert list(run_in_workers(len, [], workers=2, timeout_s=1)) == []


def test_items_are_drawn_as_processes_become_free():
    drawn = []

    def items():
        for number in range(100):
            drawn.append(number)
            yield "x" * number

    outcomes = run_in_workers(len, items(), workers=2, timeout_s=30)
    next(outcomes)
    assert len(drawn) <= 4
    outcomes.close()


def test_leaving_the_loop_early_ends_the_processes():
    outcomes = run_in_workers(time.sleep, [0.0, 600.0], workers=2, timeout_s=1000)
    next(outcomes)
    children = psutil.Process().children(recursive=True)
    outcomes.close()
    _, alive = psutil.wait_procs([child for child in children if "spawn_main" in " ".join(cmdline(child))], timeout=5)
    assert alive == []


def cmdline(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent is gone")
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_process_outlives_its_parent(program, end):
    parent = subprocess.Popen(
        [sys.executable, program, "2", "1000", "a", "hang", "hang"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        # A shell without job control has what it starts in the background ignore SIGINT, and this too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert parent.stdout is not None
    assert parent.stdout.readline().startswith(b"a ")
    children = psutil.Process(parent.pid).children(recursive=True)
    assert len(children) >= 2
    os.kill(parent.pid, end)
    parent.wait(timeout=60)
    _, alive = psutil.wait_procs(children, timeout=60)
    assert alive == []


def test_a_video_error_keeps_its_reason():
    assert VideoError("no frames").reason == "no frames"
