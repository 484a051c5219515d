"""A dvc that is killed: the next one goes on, and no stage that had ended runs again."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

pytestmark = [pytest.mark.pipeline, pytest.mark.slow]

STAGES = """
stages:
  first:
    cmd: echo first >> ran && cp params.yaml one
    deps: [params.yaml]
    outs: [one]
  second:
    cmd: echo second >> ran && cp one two
    deps: [one]
    metrics: [{two: {cache: false}}]
  third:
    cmd: python third.py
    deps: [two]
    outs: [three]
"""
THIRD = """
import os, time
from pathlib import Path
from stillmotion.stage import run_stage

def main() -> None:
    with Path("ran").open("a") as file:
        file.write("third\\n")
    Path("pid").write_text(str(os.getpid()))
    while Path("wait").exists():
        time.sleep(0.05)
    Path("three").write_text("three")

if __name__ == "__main__":
    run_stage(main)
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Three stages, none of whose results are committed but of an earlier run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "a")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "a@b")
    Path("dvc.yaml").write_text(STAGES, encoding="utf-8")
    Path("third.py").write_text(THIRD, encoding="utf-8")
    Path("params.yaml").write_text("dataset: one\n", encoding="utf-8")
    run("git", "init", "-q")
    run("dvc", "init", "-q")
    run("dvc", "repro")
    run("git", "add", "-A")
    run("git", "commit", "-q", "-m", "a")
    Path("params.yaml").write_text("dataset: two\n", encoding="utf-8")
    Path("ran").unlink()
    return tmp_path


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def ran():
    return Path("ran").read_text(encoding="utf-8").split() if Path("ran").exists() else []


def kill_in_the_third_stage():
    """Kill a dvc while its third stage runs; the process of the stage."""
    Path("wait").touch()
    Path("pid").unlink(missing_ok=True)
    dvc = subprocess.Popen(["dvc", "repro"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (Path("pid").exists() and Path("pid").read_text()):
        assert dvc.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    stage = psutil.Process(int(Path("pid").read_text()))
    dvc.send_signal(signal.SIGKILL)
    dvc.wait()
    Path("wait").unlink()
    return stage


@pytest.mark.skipif(sys.platform != "linux", reason="a stage ends with its dvc on Linux alone")
def test_a_stage_ends_with_the_dvc_that_is_killed_and_the_next_dvc_goes_on(project):
    stage = kill_in_the_third_stage()
    _, alive = psutil.wait_procs([stage], timeout=5)
    assert not alive
    assert not Path("three").exists()
    run("stillmotion", "mend")
    run("dvc", "repro")
    assert ran() == ["first", "second", "third", "third"]
    assert "up to date" in run("dvc", "repro")


@pytest.mark.parametrize("of_lock", [0.0, 0.5])
def test_no_stage_that_had_ended_runs_again_after_the_lock_was_cut(project, of_lock):
    run("dvc", "repro")
    assert ran() == ["first", "second", "third"]
    after = Path("dvc.lock").read_bytes()
    two = Path("two").read_bytes()
    # As a SIGKILL does in the moment in which dvc.lock is written.
    whole = after[: int(of_lock * len(after))].rpartition(b"md5: ")[0]
    Path("dvc.lock").write_bytes(whole + b"md5: 12" * bool(whole))
    refused = subprocess.run(["dvc", "repro"], capture_output=True, text=True, check=False)
    assert refused.returncode != 0
    assert "taken from the commit" in run("stillmotion", "mend")
    shutil.rmtree("three", ignore_errors=True)
    run("dvc", "repro")
    assert ran() == ["first", "second", "third"]
    assert (Path("dvc.lock").read_bytes(), Path("two").read_bytes()) == (after, two)


def test_a_list_of_processes_that_names_another_process_stops_no_dvc(project):
    blocked = {"pid": os.getppid(), "cmd": "dvc repro"}
    content = f'{{"write": {{"{project}/one": {str(blocked).replace(chr(39), chr(34))}}}, "read": {{}}}}'
    Path(".dvc/tmp/rwlock").write_text(content, encoding="utf-8")
    refused = subprocess.run(["dvc", "repro"], capture_output=True, text=True, check=False)
    assert "is busy" in refused.stderr
    run("stillmotion", "mend")
    run("dvc", "repro")
    assert ran() == ["first", "second", "third"]


def test_a_folder_without_its_entry_in_the_run_cache_stops_no_dvc(project):
    run("dvc", "repro")
    before = Path("dvc.lock").read_bytes()
    # As a SIGKILL does between the two, with the lock that the stage had not got into yet.
    folders = [entry.parent for entry in Path(".dvc/cache/runs").glob("??/*/*") if "third" in entry.read_text()]
    assert len(folders) == 2
    for folder in folders:
        shutil.rmtree(folder)
        folder.mkdir()
    run("git", "checkout", "dvc.lock")
    shutil.rmtree("three", ignore_errors=True)
    Path("three").unlink(missing_ok=True)
    refused = subprocess.run(["dvc", "repro"], capture_output=True, text=True, check=False)
    assert refused.returncode != 0
    assert "not 'NoneType'" in refused.stderr
    run("stillmotion", "mend")
    run("dvc", "repro")
    assert Path("dvc.lock").read_bytes() == before
