"""The stage as a command, in a folder of its own."""

import hashlib
import json
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import ruamel.yaml

from stillmotion.io.records import Video, load_records, save_records
from stillmotion.io.tables import write_rows
from stillmotion.video import shards
from stillmotion.video.packed import PackedFrames
from stillmotion.video.shards import shard_file

ROOT = Path(__file__).resolve().parents[1]


def encode(path: Path, *, num_frames: int, size_px: int) -> bytes:
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=10, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = size_px, size_px, "yuv420p"
        for _ in range(num_frames):
            image = rng.integers(0, 256, (size_px, size_px, 3), dtype=np.uint8)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        output.mux(stream.encode(None))
    return path.read_bytes()


@pytest.fixture(scope="module")
def film(tmp_path_factory) -> bytes:
    """2 s of noise, quick to decode."""
    return encode(tmp_path_factory.mktemp("film") / "a.mp4", num_frames=20, size_px=32)


@pytest.fixture(scope="module")
def slow_film(tmp_path_factory) -> bytes:
    """10 s of noise that take some tenths of a second."""
    return encode(tmp_path_factory.mktemp("film") / "b.mp4", num_frames=100, size_px=320)


def labelled(film: bytes, number: int) -> bytes:
    """The same film as another file: the number goes into a box that players ignore."""
    return film + struct.pack(">I4sI", 12, b"free", number)


class Workplace:
    """A repository root with params, raw videos and a memo."""

    def __init__(self, root: Path, run_script: Callable[..., subprocess.CompletedProcess[str]]):
        self.root = root
        self._run_script = run_script
        (root / "videos").mkdir()
        self.videos: list[Video] = []
        self.set_params(size_px=16, num_uniform=4, clip_length_s=1.0, max_skip_fraction=0.1)

    def set_params(self, **values: object) -> None:
        yaml = ruamel.yaml.YAML()
        params = yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
        params["sample_frames"].update(values)
        params["embed"].update(clip_frames=1, clip_counts=[1])
        yaml.dump(params, self.root / "params.yaml")

    def add(self, video_id: str, content: bytes, *, split: str = "train", status: str = "ok") -> None:
        path = Path("videos") / f"{video_id}.mp4"
        (self.root / path).write_bytes(content)
        self.videos.append(Video(video_id, path.as_posix(), split, None, None, None, None, None, None, status))
        (self.root / "raw").mkdir(exist_ok=True)
        save_records(self.root / "raw", Video, self.videos)

    def environment(self, *, memo: str = "memo", workers: int = 1, timeout_s: int = 600) -> dict[str, str]:
        return os.environ | {
            "STILLMOTION_MEMO": memo if memo == "off" else str(self.root / memo),
            "STILLMOTION_WORKERS": str(workers),
            "STILLMOTION_VIDEO_TIMEOUT": str(timeout_s),
        }

    def start(self, output: str = "frames", **settings: Any) -> subprocess.Popen[str]:
        """A process of its own, for what must be killed or run beside another."""
        return subprocess.Popen(
            [sys.executable, ROOT / "src" / "sample_frames.py", "--raw", "raw", "--output", output],
            cwd=self.root,
            env=self.environment(**settings),
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, output: str = "frames", *, status: int = 0, **settings: Any) -> str:
        """What the stage printed, run in this process."""
        options = ("--raw", "raw", "--output", output)
        done = self._run_script("sample_frames", *options, cwd=self.root, env=self.environment(**settings))
        assert done.returncode == status, done.stderr
        return done.stderr

    def digest(self, output: str = "frames") -> dict[str, str]:
        folder = self.root / output
        return {
            file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
            for file in sorted(folder.rglob("*"))
            if file.is_file()
        }


@pytest.fixture
def workplace(tmp_path, run_script) -> Workplace:
    return Workplace(tmp_path, run_script)


def test_the_store_holds_the_frames_and_lists_what_was_lost(workplace, film):
    for number in range(20):
        workplace.add(f"video {number:02}", labelled(film, number))
    workplace.add("Übung ✂", film[: len(film) // 2])
    workplace.add("gone", film, status="not downloaded: private video")
    assert "20 decoded, 0 from the memo, 2 skipped" in workplace.run()

    store = PackedFrames(workplace.root / "frames")
    assert [video.video_id for video in store.videos] == [f"video {number:02}" for number in range(20)]
    assert store.uniform("video 03").shape == (4, 16, 16, 3)
    assert store.clips("video 03").shape == (2, 16, 16, 3)
    assert store.timestamps("video 03").tolist() == pytest.approx([0.2, 0.5, 0.7, 1.2, 1.5, 1.7])
    rows = [json.loads(line) for line in (workplace.root / "frames/skipped.jsonl").read_text().splitlines()]
    assert [(row["video_id"], row["reason"]) for row in rows] == [
        ("gone", "not downloaded: private video"),
        ("Übung ✂", "truncated: it ends before its index (moov atom)"),
    ]
    assert len(load_records(workplace.root / "frames", Video)) == 22


@pytest.mark.parametrize("form", ["raw", "jpeg"])
def test_one_more_video_is_one_decode_and_the_memo_changes_no_byte(workplace, film, form):
    workplace.set_params(size_px=16, num_uniform=4, clip_length_s=1.0, max_skip_fraction=0.1, format=form)
    for number in range(5):
        workplace.add(f"v{number}", labelled(film, number))
    assert "5 decoded, 0 from the memo" in workplace.run()
    first = workplace.digest()
    assert "5 decoded, 0 from the memo" in workplace.run("without", memo="off", workers=2)
    assert workplace.digest("without") == first
    workplace.add("v5", labelled(film, 5))
    assert "1 decoded, 5 from the memo" in workplace.run()
    assert first.items() - workplace.digest().items() == {
        (name, digest)
        for name, digest in first.items()
        if name in ("frames.jsonl", "videos.jsonl", shard_file("v5"))  # its shard, where another video has it too
    }
    assert {Path(name).parent.as_posix() for name in first} == {".", "frames"}


def test_no_more_room_is_taken_meanwhile_than_a_shard_needs(workplace, film, monkeypatch):
    numbers = range(12)
    for number in numbers:
        workplace.add(f"v{number}", labelled(film, number))
    monkeypatch.setattr(shards, "NUM_SHARDS", 3)
    join, waiting = shards.join_parts, []

    def joined(folder, video_ids):
        parts = [path for path in (folder / "parts").iterdir() if not path.name.startswith(".")]
        waiting.append((len(video_ids), len(parts)))
        join(folder, video_ids)

    monkeypatch.setattr(shards, "join_parts", joined)
    workplace.run(workers=1)
    assert sum(count for count, _ in waiting) == 12
    assert len(waiting) == 3
    assert all(parts <= count + 1 for count, parts in waiting)  # one that the worker is at already


def test_a_lost_video_leaves_no_trace_but_its_row(workplace, film):
    for number in range(10):
        workplace.add(f"v{number}", labelled(film, number))
    workplace.run("before")
    workplace.add("lost", film[: len(film) // 2])
    assert "1 skipped" in workplace.run("after")
    before, after = workplace.digest("before"), workplace.digest("after")
    assert set(before) == set(after)
    assert {name for name in after if after[name] != before[name]} == {"videos.jsonl", "skipped.jsonl"}


@pytest.mark.parametrize("damage", ["flipped", "cut"])
def test_frames_that_a_bad_disk_changed_in_the_memo_are_told_and_decoded_again(workplace, film, spoil, damage):
    for number in range(3):
        workplace.add(f"v{number}", labelled(film, number))
    workplace.run()
    first = workplace.digest()
    if damage == "flipped":
        assert spoil(workplace.root / "memo") == 3
    else:
        entry = next((workplace.root / "memo").rglob("*.npy"))
        entry.chmod(0o644)
        os.truncate(entry, 200)
    log, bad = workplace.run("second"), 3 if damage == "flipped" else 1
    assert f"{bad} decoded, {3 - bad} from the memo" in log
    told = [line for line in log.splitlines() if "not the bytes that were stored there" in line]
    assert len(told) == bad
    assert all(line.startswith(str(workplace.root / "memo" / "frames")) for line in told)
    assert workplace.digest("second") == first
    assert "0 decoded, 3 from the memo" in workplace.run("third")


@pytest.mark.slow
def test_a_run_killed_halfway_goes_on_where_it_was(workplace, slow_film):
    for number in range(8):
        workplace.add(f"v{number:02}", labelled(slow_film, number))
    process = workplace.start(workers=1)
    entries = workplace.root / "memo" / "frames"
    while len(list(entries.rglob("[0-9a-f]*.npy"))) < 3:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (workplace.root / "frames").exists()
    assert [path.name for path in entries.rglob("*") if "partial" in path.name] == []

    log = workplace.run()
    decoded = int(log.split(" decoded,")[0].split()[-1])
    assert f"{decoded} decoded, {8 - decoded} from the memo, 0 skipped" in log
    assert 0 < decoded <= 5
    workplace.run("without", memo="off", workers=2)
    assert workplace.digest() == workplace.digest("without")
    assert sorted(path.name for path in workplace.root.iterdir() if "partial" in path.name) == []


# Python runs a sitecustomize at its start: in a worker this one makes whatever looks for one of the videos wait.
HANG = """
import multiprocessing, os, time
stat = os.stat
def hanging(path, *arguments, **options):
    if str(path).endswith("hangs.mp4") and multiprocessing.parent_process():
        time.sleep(600)
    return stat(path, *arguments, **options)
os.stat = hanging
"""


@pytest.mark.slow
def test_a_video_that_hangs_the_decoder_is_listed_and_the_others_are_not_held_up(workplace, film, monkeypatch):
    (workplace.root / "sitecustomize.py").write_text(HANG, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(workplace.root), prepend=os.pathsep)
    for number in range(10):
        workplace.add(f"v{number}", labelled(film, number))
    workplace.add("hangs", labelled(film, 10))
    assert "10 decoded, 0 from the memo, 1 skipped" in workplace.run(timeout_s=3)
    (lost,) = PackedFrames(workplace.root / "frames").skipped
    assert (lost.video_id, lost.status) == ("hangs", "decoding took longer than 3 s (STILLMOTION_VIDEO_TIMEOUT)")


@pytest.mark.slow
def test_two_runs_may_share_the_memo(workplace, film):
    for number in range(8):
        workplace.add(f"v{number}", labelled(film, number))
    runs = [workplace.start(output, workers=2) for output in ("one", "two")]
    for run in runs:
        _, log = run.communicate(timeout=120)
        assert run.returncode == 0, log
    assert workplace.digest("one") == workplace.digest("two")
    assert "0 decoded, 8 from the memo" in workplace.run("three")
    assert workplace.digest("three") == workplace.digest("one")


def refusal(workplace: Workplace) -> str:
    """The one line of a run that fails and leaves nothing."""
    log = workplace.run(status=2)
    assert "Traceback" not in log
    assert not (workplace.root / "frames").exists()
    return log.strip().splitlines()[-1]


def test_losing_too_many_videos_is_one_line_with_counts_reasons_and_mend(workplace, film):
    for number in range(4):
        workplace.add(f"v{number}", labelled(film, number))
        workplace.add(f"t{number}", b"")
    error = refusal(workplace)
    assert error.startswith("sample_frames: error: 4 of 8 videos are lost (videos/t0.mp4: empty file; ")
    assert "; and 1 more): more than sample_frames.max_skip_fraction 0.1 allows; mend or remove" in error


def test_one_broken_clip_of_a_small_split_stops_nothing(workplace, film):
    for number in range(25):
        workplace.add(f"v{number:02}", labelled(film, number), split="validation" if number < 3 else "train")
    workplace.add("broken", b"", split="validation")
    assert "25 decoded, 0 from the memo, 1 skipped" in workplace.run()


def test_no_split_may_lose_its_last_video(workplace, film):
    for number in range(25):
        workplace.add(f"v{number:02}", labelled(film, number))
    workplace.add("t", b"", split="test")
    assert refusal(workplace) == (
        "sample_frames: error: 1 of 1 test videos are lost (videos/t.mp4: empty file), and no split may be left empty; "
        "mend these files, or put others into test"
    )


def test_junk_that_belongs_to_no_split_is_listed_and_counts_for_none(workplace, film):
    workplace.add("v", film)
    for number in range(5):
        workplace.add(f"junk{number}", b"not a video", split="", status="no caption")
    assert "1 decoded, 0 from the memo, 5 skipped" in workplace.run()


def test_a_video_that_changed_since_it_was_downloaded_is_one_line_and_no_frames(workplace, film):
    workplace.add("v", labelled(film, 1))
    row = {"video_id": "v", "sha256": hashlib.sha256(labelled(film, 0)).hexdigest()}
    write_rows(workplace.root / "digests.jsonl", [row])
    assert refusal(workplace).startswith("sample_frames: error: videos/v.mp4: is gone, or another file than stage")
