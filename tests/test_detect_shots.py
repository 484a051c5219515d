"""The stage as a command, in a folder of its own."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from stillmotion.io.records import Video, save_records
from stillmotion.io.tables import read_json, read_rows

ROOT = Path(__file__).resolve().parents[1]


def film(path: Path, grays: list[int]) -> None:
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=10, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for gray in grays:
            image = np.full((64, 64, 3), gray, dtype=np.uint8)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        output.mux(stream.encode(None))


@pytest.fixture
def workplace(tmp_path):
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "videos").mkdir()
    film(tmp_path / "videos" / "two shots.mp4", [20] * 13 + [200] * 20)
    film(tmp_path / "videos" / "one shot.mp4", [20] * 20)
    (tmp_path / "videos" / "broken.mp4").write_bytes(b"not a video")
    names = {"two shots": "test", "one shot": "test", "broken": "test", "of train": "train", "lost": "test"}
    paths = {name: f"videos/{name}.mp4" for name in names}
    raw = [Video(name, paths[name], split, None, None, None, None, None, None, "ok") for name, split in names.items()]
    save_records(tmp_path / "raw", Video, raw)
    durations = {"two shots": 3.3, "one shot": 2.0, "broken": 5.0, "of train": 2.0, "lost": None}
    stored = [
        Video(
            name, paths[name], split, durations[name], 10.0, 20, 64, 64, "h264", "corrupt" if name == "lost" else "ok"
        )
        for name, split in names.items()
    ]
    save_records(tmp_path / "frames", Video, stored)
    return tmp_path


def detect(workplace: Path, *, detector="content_shots", output="shots", **environment) -> str:
    options = ["--detector", detector, "--raw", "raw", "--frames", "frames", "--output", output]
    settings = {"STILLMOTION_MEMO": "off", "STILLMOTION_WORKERS": "2"} | environment
    done = subprocess.run(
        [sys.executable, ROOT / "src" / "detect_shots.py", *options],
        cwd=workplace,
        env=os.environ | settings,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    return done.stderr


def digest(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.iterdir())}


def test_test_videos_with_stored_frames_are_cut_and_one_that_cannot_be_read_is_one_shot(workplace):
    log = detect(workplace)
    broken, one, two = read_rows(workplace / "shots" / "shots.jsonl")
    assert one == {"video_id": "one shot", "shots": [[0.0, 2.0]], "reason": None}
    assert two == {"video_id": "two shots", "shots": [[0.0, 1.3], [1.3, 3.3]], "reason": None}
    assert (broken["video_id"], broken["shots"]) == ("broken", [[0.0, 5.0]])
    assert broken["reason"].startswith("PySceneDetect can't read it")
    assert "videos/broken.mp4: PySceneDetect can't read it" in log
    assert "4 shots in 3 videos, of which 1 could not be read" in log
    described = read_json(workplace / "shots" / "detector.json")
    assert described | {"scenedetect": ""} == {
        "detector": "content",
        "threshold": 27.0,
        "min_shot_s": 0.6,
        "scenedetect": "",
        "backend": "pyav",
    }


def test_the_same_bytes_with_one_process_or_two_and_with_the_memo(workplace):
    detect(workplace, detector="adaptive_shots", STILLMOTION_WORKERS="1")
    first = digest(workplace / "shots")
    for output in ("filled", "remembered"):
        detect(workplace, detector="adaptive_shots", output=output, STILLMOTION_MEMO=str(workplace / "memo"))
        assert digest(workplace / output) == first
