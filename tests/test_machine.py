"""What the machine refuses, and signals: one line, the status that is promised, nothing half-written."""

import contextlib
import errno
import logging
import os
import pwd
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from stillmotion import cli
from stillmotion.config import interrupts
from stillmotion.config.environment import read_environment
from stillmotion.errors import InputError, machine_refusal
from stillmotion.io.arrays import save_array, writable_map
from stillmotion.io.atomic import atomic_folder
from stillmotion.io.memo import Memo, open_memo
from stillmotion.io.tables import write_rows
from stillmotion.io.weights import save_tensors
from stillmotion.video.probe import VideoError, probe_video
from stillmotion.video.workers import run_in_workers

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


def heed_signals():
    """Undo what a shell has done to what it runs in the background, as tests may be: that ignores Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


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


def fill(disk):
    with contextlib.suppress(OSError), (disk / "full").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


NO_ROOM = (
    "{}: no space left on device; free some space there, or have it elsewhere (STILLMOTION_MEMO, TMPDIR, dvc's "
    "cache.dir)"
)
WRITERS = {
    "rows.npy": lambda path: save_array(path, np.zeros(1_000_000, np.uint8)),
    "map.npy": lambda path: writable_map(path, np.uint8, (1_000_000,)),
    "t.safetensors": lambda path: save_tensors(path, {"x": torch.zeros(1_000_000)}),
    "rows.jsonl": lambda path: write_rows(path, ({"row": number} for number in range(100_000))),
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("below", ["", "folder"])
def test_what_a_full_disk_refuses_is_named_by_its_place_and_leaves_no_half_of_it(small_disk, name, below):
    """And not by the hidden name that it is written under, or that of the folder around it."""
    around = atomic_folder(small_disk / "folder") if below else contextlib.nullcontext(small_disk)
    with pytest.raises(OSError, match="No space left on device") as caught, around as folder:
        WRITERS[name](folder / name)
    assert machine_refusal(caught.value) == NO_ROOM.format(small_disk / below / name)
    # A map is made in a folder that is whole or not at all.
    assert {path.name for path in small_disk.iterdir()} <= ({"map.npy"} if not below else set())


def test_a_map_has_its_space_before_anything_is_written_into_it(small_disk):
    rows = writable_map(small_disk / "x.npy", np.uint8, (32, 1024))
    fill(small_disk)
    rows[:] = 7  # without its space the process would die here (SIGBUS)
    rows.flush()
    assert np.load(small_disk / "x.npy").sum() == 7 * 32 * 1024


def test_there_is_one_function_that_makes_writable_maps():
    makers = [path for path in (ROOT / "src").rglob("*.py") if 'mode="w+"' in path.read_text(encoding="utf-8")]
    assert [path.name for path in makers] == ["arrays.py"]


def test_a_stage_on_a_full_disk_ends_in_one_line_and_writes_nothing(small_disk, tmp_path, run_script):
    fill(small_disk)
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    source = tmp_path / "data" / "sources" / "mine"
    source.mkdir(parents=True)
    (source / "a.mp4").write_bytes(b"no video")
    (source / "captions.csv").write_text("video,caption\na.mp4,a ball\n")
    env = os.environ | {"STILLMOTION_MEMO": "off"}
    done = run_script("download", "--source", source, "--output", small_disk / "raw", cwd=tmp_path, env=env)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(f"download: error: {small_disk / 'raw'}")
    assert done.stderr.endswith(NO_ROOM.format("") + "\n")
    assert "Traceback" not in done.stderr
    assert ".partial" not in done.stderr
    assert [path.name for path in small_disk.iterdir()] == ["full"]


def test_weights_that_the_memo_has_no_room_for_are_one_warning(small_disk, caplog):
    memo = open_memo(small_disk / "memo")
    with caplog.at_level(logging.WARNING):
        memo.store("tokens", {}, lambda path: save_tensors(path, {"x": torch.zeros(1_000_000)}), suffix=".safetensors")
    (record,) = caplog.records
    assert "the memo can't be used (no space left on device)" in record.getMessage()


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
        preexec_fn=heed_signals,
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
        timeout=60, preexec_fn=heed_signals,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (128 + number, line)
    assert [path.name for path in tmp_path.iterdir()] == ["work.py"]


@pytest.mark.parametrize(
    ("number", "line"), [(signal.SIGINT, "work: interrupted\n"), (signal.SIGTERM, "work: told to end\n")]
)
@pytest.mark.parametrize("is_late", [False, True])
def test_a_signal_within_the_end_of_an_object_is_not_lost(tmp_path, number, line, is_late):
    delay_s = 3 * interrupts.AGAIN_S  # after which what was lost has come again, before the end is over
    (tmp_path / "work.py").write_text(
        "import stillmotion.config.capped\n"
        "import signal, time\n"
        "set_timer, late = signal.setitimer, []\n"
        "def set_late(*timer):\n"
        "    set_timer(*timer)\n"
        "    if not late:\n"
        "        late.append(True)\n"
        f"        time.sleep({delay_s})\n"
        f"signal.setitimer = set_late if {is_late} else set_timer\n"
        "from stillmotion.stage import run_stage\n"
        "class Ending:\n"
        "    def __del__(self):\n"
        f"        signal.raise_signal({int(number)})\n"
        "def main() -> None:\n"
        "    Ending()\n"
        "    time.sleep(30)\n"
        "run_stage(main)\n",
        encoding="utf-8",
    )
    done = subprocess.run(
        [sys.executable, tmp_path / "work.py"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT / "src")}, capture_output=True, text=True, check=False,
        timeout=60, preexec_fn=heed_signals,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (128 + number, line)


def test_a_full_disk_is_an_error_of_the_map_and_does_not_kill_the_process(small_disk):
    with pytest.raises(OSError, match="No space left") as caught:
        writable_map(small_disk / "frames.npy", np.float32, (1024, 1024))
    assert caught.value.errno == errno.ENOSPC
    (small_disk / "frames.npy").unlink()


def test_an_output_on_a_full_disk_is_one_line_and_no_file(small_disk, tmp_path, capsys):
    fill(small_disk)
    np.save(tmp_path / "S.npy", np.eye(3))
    output = small_disk / "OUT.json"
    assert cli.run(["score", "retrieval", "--scores", str(tmp_path / "S.npy"), "--output", str(output)]) == 2
    assert capsys.readouterr().err == f"stillmotion: error: {NO_ROOM.format(output)}\n"
    assert [path.name for path in small_disk.iterdir()] == ["full"]


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


def test_a_memo_of_a_colleague_that_can_only_be_read_is_read_and_costs_one_warning(small_disk, tmp_path, caplog):
    open_memo(small_disk).fetch("kind", {"name": "a"}, tmp_path / "a", lambda path: path.write_text("a"), suffix=".txt")
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    memo = open_memo(small_disk)
    for name, was_there in (("a", True), ("b", False)):
        found = memo.fetch(
            "kind", {"name": name}, tmp_path / f"{name}2", lambda path: path.write_text("b"), suffix=".txt"
        )
        assert found is was_there
    assert [(tmp_path / name).read_text() for name in ("a2", "b2")] == ["a", "b"]
    (record,) = caplog.records
    told = "the memo can't be used (read-only file system) but for what is there: this run keeps nothing for the next."
    assert told in record.getMessage()


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
    assert done.stderr == "stillmotion: error: OUT.json: file too large; allow larger files (ulimit -f)\n"
    assert [path.name for path in tmp_path.iterdir()] == ["S.npy"]


def test_an_error_that_a_bug_would_raise_is_no_refusal():
    assert machine_refusal(FileNotFoundError(errno.ENOENT, "No such file", "x")) is None
    assert machine_refusal(BrokenPipeError(errno.EPIPE, "Broken pipe")) is None
    assert machine_refusal(OSError("no number")) is None


def test_without_a_home_there_is_one_warning_and_no_memo(monkeypatch, caplog):
    for name in ("STILLMOTION_MEMO", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)  # a user whom the machine does not know, as in a container
    with caplog.at_level(logging.WARNING):
        assert read_environment().memo is None
    assert caplog.messages == ["no home folder (HOME), and so no memo; set STILLMOTION_MEMO to a folder, or to off"]


def test_the_home_of_nobody_is_named(monkeypatch):
    monkeypatch.setenv("STILLMOTION_MEMO", "~no-such-user-here/memo")
    with pytest.raises(InputError, match=r"STILLMOTION_MEMO is '~no-such-user-here/memo'.*; set another"):
        read_environment()


def test_a_link_to_itself_is_that_videos_reason(tmp_path):
    (tmp_path / "loop.mp4").symlink_to("loop.mp4")
    with pytest.raises(VideoError) as caught:
        probe_video(tmp_path / "loop.mp4")
    assert caught.value.reason == "not a readable file (too many levels of symbolic links)"


def test_too_many_open_files_are_the_machines_and_no_videos_fault(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"no video")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 20, limits[1]))  # noqa: PTH208
    try:
        with contextlib.suppress(OSError):
            while True:
                opened.append(os.dup(0))
        with pytest.raises(OSError, match="Too many open files") as caught:
            probe_video(tmp_path / "a.mp4")
    finally:
        for number in opened:
            os.close(number)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert machine_refusal(caught.value) == (
        f"{tmp_path / 'a.mp4'}: too many open files; allow more open files (ulimit -n)"
    )


MASK = signal.pthread_sigmask(signal.SIG_BLOCK, ())  # when this module is imported


def was_deaf_to_ctrl_c(_):
    return signal.SIGINT in MASK


@pytest.mark.slow
def test_a_worker_is_deaf_to_ctrl_c_from_its_first_import_on():
    ((_, deaf),) = run_in_workers(was_deaf_to_ctrl_c, ["item"], workers=1, timeout_s=60)
    assert deaf
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def disk_is_full(item):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), item)


@pytest.mark.slow
def test_what_the_machine_refuses_a_worker_ends_the_run_in_one_line():
    with pytest.raises(OSError, match="No space left on device: 'out'"):
        list(run_in_workers(disk_is_full, ["out"], workers=1, timeout_s=60))


@pytest.mark.parametrize(
    ("sent", "status", "told"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "told to end")]
)
@pytest.mark.parametrize("script", ["src/sample_frames.py", "stillmotion"])
def test_a_signal_while_the_first_modules_are_imported_is_one_line(tmp_path, script, sent, status, told):
    # typer, which both import, is one that says when it is imported, and takes its time
    (tmp_path / "typer.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(30)\n")
    command = ROOT / script
    if script == "stillmotion":
        command = tmp_path / script
        command.write_text("from stillmotion.cli import main\nmain()\n")
    process = subprocess.Popen(
        [sys.executable, command, "search", "x"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT / "src")])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "importing\n"
    process.send_signal(sent)
    _, printed = process.communicate(timeout=30)
    assert (process.returncode, printed) == (status, f"{Path(script).stem}: {told}\n")


@pytest.mark.parametrize(("sent", "told"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "told to end")])
def test_a_signal_to_the_command_at_work_is_one_line(monkeypatch, capsys, sent, told):
    def work(*_):
        signal.raise_signal(sent)

    monkeypatch.setattr(cli, "_read_rows", work)
    before = signal.signal(signal.SIGINT, signal.default_int_handler), signal.signal(signal.SIGTERM, interrupts._leave)
    try:
        options = ["--predictions", "P", "--ground-truth", "G", "--output", "OUT.json"]
        assert cli.run(["score", "moments", *options]) == 128 + sent
    finally:
        signal.signal(signal.SIGINT, before[0])
        signal.signal(signal.SIGTERM, before[1])
    assert capsys.readouterr().err == f"stillmotion: {told}\n"
