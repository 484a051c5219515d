"""The stage on films whose cuts are known."""

import hashlib
from pathlib import Path

import av
import numpy as np
import pytest

from stillmotion.errors import InputError
from stillmotion.io.records import Video, save_records
from stillmotion.io.tables import read_json, read_rows, write_rows

ROOT = Path(__file__).resolve().parents[1]


def film(path: Path, grays: list[int]) -> None:
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=10, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for gray in grays:
            image = np.full((64, 64, 3), gray, dtype=np.uint8)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        output.mux(stream.encode(None))


DETECTORS = """shot_detectors:
  content_shots: {detector: content, threshold: 27.0, min_shot_s: 0.6}
  adaptive_shots: {detector: adaptive, threshold: 3.0, min_shot_s: 0.6}
"""


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    (tmp_path / "params.yaml").write_text(text.replace("shot_detectors: {}", DETECTORS), encoding="utf-8")
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
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def detect(main_of, monkeypatch):
    """The stage, in two processes and without a memo unless told otherwise."""
    main = main_of("detect_shots")

    def run(*, detector="content_shots", output="shots", **environment):
        for name, value in ({"STILLMOTION_MEMO": "off", "STILLMOTION_WORKERS": "2"} | environment).items():
            monkeypatch.setenv(name, value)
        main(detector=detector, raw=Path("raw"), frames=Path("frames"), output=Path(output))

    return run


def digest(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.iterdir())}


def test_test_videos_with_stored_frames_are_cut_and_one_that_cannot_be_read_is_one_shot(workplace, detect, caplog):
    caplog.set_level("INFO", logger="stillmotion")
    detect()
    broken, one, two = read_rows(workplace / "shots" / "shots.jsonl")
    assert one == {"video_id": "one shot", "shots": [[0.0, 2.0]], "reason": None}
    assert two == {"video_id": "two shots", "shots": [[0.0, 1.3], [1.3, 3.3]], "reason": None}
    assert (broken["video_id"], broken["shots"]) == ("broken", [[0.0, 5.0]])
    assert broken["reason"] == "not a video (no format that FFmpeg knows)"
    assert "videos/broken.mp4: not a video (no format that FFmpeg knows); it counts as one shot" in caplog.text
    assert "4 shots in 3 videos, of which 1 could not be read" in caplog.text
    described = read_json(workplace / "shots" / "detector.json")
    assert described | {"scenedetect": ""} == {
        "detector": "content",
        "threshold": 27.0,
        "min_shot_s": 0.6,
        "scenedetect": "",
        "backend": "pyav",
    }


@pytest.mark.slow
def test_the_same_bytes_with_one_process_or_two_and_with_the_memo(workplace, detect):
    detect(detector="adaptive_shots", STILLMOTION_WORKERS="1")
    first = digest(workplace / "shots")
    for output in ("filled", "remembered"):
        detect(detector="adaptive_shots", output=output, STILLMOTION_MEMO=str(workplace / "memo"))
        assert digest(workplace / output) == first


def test_a_video_that_changed_since_it_was_downloaded_is_one_line_and_no_shots(workplace, detect):
    write_rows(workplace / "digests.jsonl", [{"video_id": "one shot", "sha256": "0" * 64}])
    with pytest.raises(InputError, match=r"^videos/one shot\.mp4: is gone, or another file than stage download saw"):
        detect(STILLMOTION_WORKERS="1")
    assert not (workplace / "shots").exists()
