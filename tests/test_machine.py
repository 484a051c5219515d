"""What the machine refuses, and signals: one line, the status that is promised, nothing half-written."""

import contextlib
import errno
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from stillmotion import cli
from stillmotion.config.environment import read_environment
from stillmotion.errors import machine_refusal
from stillmotion.io.arrays import writable_map
from stillmotion.io.memo import Memo, open_memo

ROOT = Path(__file__).resolve().parents[1]

# Python runs a sitecustomize at its start: this one sends a signal as soon as torch is looked for.
SEND = """
import os, sys

class Sender:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            os.kill(os.getpid(), {number})

sys.meta_path.insert(0, Sender())
"""


@pytest.fixture
def small_disk(tmp_path_factory):
    """A disk of its own with 256 KiB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    folder = tmp_path_factory.mktemp("disk")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], check=False)
    if mounted.returncode:
        pytest.skip("no disk can be mounted here")
    yield folder
    # At once from sight; what a traceback still maps keeps its pages meanwhile.
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.mark.parametrize(
    ("number", "line"), [(signal.SIGINT, "embed: interrupted\n"), (signal.SIGTERM, "embed: told to end\n")]
)
def test_a_signal_while_modules_are_imported_is_one_line(tmp_path, number, line):
    (tmp_path / "sitecustomize.py").write_text(SEND.format(number=int(number)), encoding="utf-8")
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    frames = tmp_path / "frames"
    frames.mkdir()
    (frames / "videos.jsonl").write_text(
        '{"video_id": "a", "path": "a.mp4", "split": "test", "duration": 1.0, "fps": 1.0, "num_frames": 1, "width": 8, '
        '"height": 8, "codec": "h264", "status": "ok"}\n',
        encoding="utf-8",
    )
    path = os.pathsep.join([str(tmp_path), str(ROOT / "src")])
    options = ["--model", "m", "--raw", "raw", "--frames", "frames", "--output", "out"]
    done = subprocess.run(
        [sys.executable, ROOT / "src" / "embed.py", *options],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr, done.stdout) == (128 + number, line, "")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("number", "line"), [(signal.SIGINT, "work: interrupted\n"), (signal.SIGTERM, "work: told to end\n")]
)
def test_a_signal_while_a_stage_works_leaves_nothing_half_written(tmp_path, number, line):
    script = tmp_path / "work.py"
    script.write_text(
        "import stillmotion.config.capped\n"
        "import os, signal\n"
        "from stillmotion.io.atomic import atomic_folder\n"
        "from stillmotion.stage import run_stage\n"
        "def main() -> None:\n"
        "    with atomic_folder('out') as folder:\n"
        "        (folder / 'half').touch()\n"
        f"        os.kill(os.getpid(), {int(number)})\n"
        "        signal.pause()\n"
        "run_stage(main)\n",
        encoding="utf-8",
    )
    done = subprocess.run(
        [sys.executable, script],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT / "src")}, capture_output=True, text=True, check=False,
        timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (128 + number, line)
    assert [path.name for path in tmp_path.iterdir()] == ["work.py"]


def test_a_full_disk_is_an_error_of_the_map_and_does_not_kill_the_process(small_disk):
    with pytest.raises(OSError, match="No space left") as caught:
        writable_map(small_disk / "frames.npy", np.float32, (1024, 1024))
    assert caught.value.errno == errno.ENOSPC
    (small_disk / "frames.npy").unlink()


def test_an_output_on_a_full_disk_is_one_line_and_no_file(small_disk, tmp_path, capsys):
    full = small_disk / "full"
    with full.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    np.save(tmp_path / "S.npy", np.eye(3))
    output = small_disk / "OUT.json"
    assert cli.run(["score", "retrieval", "--scores", str(tmp_path / "S.npy"), "--output", str(output)]) == 2
    captured = capsys.readouterr().err
    assert captured.startswith("stillmotion: error: ")
    assert "no space left on device; free some space there" in captured
    assert captured.count("\n") == 1
    assert [path.name for path in small_disk.iterdir()] == ["full"]
    full.unlink()


def test_a_memo_on_a_full_disk_costs_one_warning_and_its_work(small_disk, tmp_path, caplog):
    def make(path):
        path.write_bytes(bytes(2**20))

    memo = Memo(small_disk / "memo")
    for name in ("a", "b"):
        assert memo.fetch("kind", {"name": name}, tmp_path / name, make, suffix=".bin") is False
        assert (tmp_path / name).stat().st_size == 2**20
    (record,) = caplog.records
    assert "the memo can't be used (no space left on device); this run goes on without" in record.getMessage()
    assert not [path for path in small_disk.rglob("*") if path.is_file()]


@pytest.mark.parametrize("fault", ["file", "below a file", "loop"])
def test_a_memo_that_is_no_folder_is_one_warning_and_none(tmp_path, caplog, fault):
    root = tmp_path / "memo"
    if fault == "loop":
        root.symlink_to(root)
    else:
        root.touch()
    assert open_memo(root / "deeper" if fault == "below a file" else root) == Memo(None)
    (record,) = caplog.records
    assert "the memo can't be used (" in record.getMessage()
    assert "Set STILLMOTION_MEMO to another folder, or to off" in record.getMessage()


def test_a_memo_that_can_be_written_is_there_afterwards(tmp_path, caplog):
    assert open_memo(tmp_path / "a" / "memo") == Memo(tmp_path / "a" / "memo")
    assert list((tmp_path / "a" / "memo").iterdir()) == []
    assert caplog.records == []


def test_an_empty_variable_of_the_memo_is_as_good_as_none(monkeypatch):
    monkeypatch.delenv("STILLMOTION_MEMO", raising=False)
    usual = read_environment().memo
    monkeypatch.setenv("STILLMOTION_MEMO", "")
    assert read_environment().memo == usual


def test_too_many_open_files_are_one_line_that_says_how_to_allow_more(tmp_path):
    np.save(tmp_path / "S.npy", np.eye(3))
    code = (
        "from stillmotion import cli\n"
        "import os, resource, sys\n"
        "import stillmotion.metrics.retrieval_summary\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))\n"
        "kept = []\n"
        "try:\n"
        "    while True: kept.append(os.open('/dev/null', os.O_RDONLY))\n"
        "except OSError: pass\n"
        "sys.exit(cli.run(['score', 'retrieval', '--scores', 'S.npy', '--output', 'OUT.json']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT / "src")}, capture_output=True, text=True, check=False,
        timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    # Which file is the one too many depends on what is not imported yet.
    assert done.stderr.startswith("stillmotion: error: ")
    assert done.stderr.endswith(": too many open files; allow more open files (ulimit -n)\n")
    assert done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["S.npy"]


def test_an_output_larger_than_is_allowed_is_one_line(tmp_path):
    np.save(tmp_path / "S.npy", np.zeros((4, 4)))

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))

    code = "import sys; from stillmotion import cli; sys.exit(cli.run(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-B", "-c", code, "score", "retrieval", "--scores", "S.npy", "--output", "OUT.json"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT / "src")}, capture_output=True, text=True, check=False,
        timeout=60, preexec_fn=limit,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == "stillmotion: error: file too large; allow larger files (ulimit -f)\n"
    assert [path.name for path in tmp_path.iterdir()] == ["S.npy"]


def test_an_error_that_a_bug_would_raise_is_no_refusal():
    assert machine_refusal(FileNotFoundError(errno.ENOENT, "No such file", "x")) is None
    assert machine_refusal(BrokenPipeError(errno.EPIPE, "Broken pipe")) is None
    assert machine_refusal(OSError("no number")) is None
