"""A stage and its dvc, each a process of its own; the real dvc is in tests/pipeline/test_killed.py."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from stillmotion.lifeline import dvc_started_s

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a process is watched on Linux alone")

STAGE = """
import time
from pathlib import Path
from stillmotion.stage import run_stage
from stillmotion.video.workers import run_in_workers

def work(item):
    Path(f"worker-{item}").touch()
    time.sleep(100)

def main() -> None:
    Path("begun").touch()
    list(run_in_workers(work, ["a"], workers=1, timeout_s=100))

if __name__ == "__main__":
    run_stage(main)
"""
# As dvc does: the shell of the user, with the stage in its environment.
STARTER = """
import os, subprocess, sys
subprocess.run([sys.argv[1], "-c", sys.argv[2]], env={**os.environ, **dict(pair.split("=") for pair in sys.argv[3:])})
"""


def wait_until(is_so, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def started(tmp_path):
    """Start a stage by a starter; the starter and what comes of it, and all are ended afterwards."""
    (tmp_path / "some_stage.py").write_text(STAGE, encoding="utf-8")
    found = []

    def start(shell, command, *environment):
        unset = {name: value for name, value in os.environ.items() if not name.startswith("DVC_")}
        starter = psutil.Popen([sys.executable, "-c", STARTER, shell, command, *environment], cwd=tmp_path, env=unset)
        found.append(starter)
        wait_until((tmp_path / "worker-a").exists)
        below = starter.children(recursive=True)
        found.extend(below)
        return starter, [process for process in below if "python" in process.name()]

    yield start
    for process in found:
        if process.is_running():
            process.kill()


RUN = f"{sys.executable} some_stage.py"


@pytest.mark.slow
@pytest.mark.parametrize("shell", ["/bin/sh", "/bin/bash"])
@pytest.mark.parametrize("command", [RUN, f"true && {RUN} && true"], ids=["alone", "with the shell as its parent"])
def test_a_stage_and_its_workers_end_when_dvc_is_killed(started, shell, command):
    dvc, stage = started(shell, command, "DVC_STAGE=download@toy")
    assert len(stage) >= 2
    dvc.send_signal(signal.SIGKILL)
    dvc.wait()
    _, alive = psutil.wait_procs(stage, timeout=5)
    assert not alive


@pytest.mark.slow
def test_a_script_that_is_run_by_hand_outlives_its_starter(started):
    starter, script = started("/bin/sh", RUN)
    starter.send_signal(signal.SIGKILL)
    starter.wait()
    _, alive = psutil.wait_procs(script, timeout=1)
    assert len(alive) == len(script)


def test_a_stage_whose_dvc_was_killed_before_it_looked_does_not_begin(tmp_path):
    (tmp_path / "some_stage.py").write_text(STAGE, encoding="utf-8")
    # In another session than whoever adopts it, as a stage whose dvc is gone.
    stage = subprocess.Popen(
        [sys.executable, "some_stage.py"],
        cwd=tmp_path,
        env={**os.environ, "DVC_STAGE": "download@toy"},
        start_new_session=True,
    )
    try:
        assert stage.wait(timeout=20) == -signal.SIGKILL
    finally:
        stage.kill()
    assert not (tmp_path / "begun").exists()


def test_a_stage_knows_when_its_dvc_was_started(monkeypatch):
    ask = f"sleep 1; {sys.executable} -c 'from stillmotion.lifeline import dvc_started_s; print(dvc_started_s())'"
    before = time.time()
    command = [sys.executable, "-c", STARTER, "sh", ask, "DVC_STAGE=some"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert before - 0.1 < float(done.stdout) < before + 0.9 < time.time() - 0.1
    monkeypatch.delenv("DVC_STAGE", raising=False)
    assert dvc_started_s() is None
