from typing import get_args

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillmotion.config.evaluation import Detector
from stillmotion.io.memo import Memo
from stillmotion.moments.shot_detection import DetectionTask, DetectorSettings, find_cuts, shots_between
from stillmotion.video.probe import VideoError

CONTENT = DetectorSettings("content", 27.0, 0.6)
THRESHOLDS = {"content": 27.0, "adaptive": 3.0}
"""By detector."""
RATE = 10


def film(path, grays, *, pts=None):
    """Frames of one gray level each, with a little noise, at 10 a second or at the given tenths of a second."""
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=RATE, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for number, gray in enumerate(grays):
            image = (gray + rng.integers(0, 8, (64, 64, 3))).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = number if pts is None else pts[number]
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def cuts(path, settings=CONTENT, *, memo=None, code=""):
    return find_cuts(DetectionTask("v", path, settings, Memo(memo), code))


@pytest.mark.parametrize("detector", get_args(Detector))
def test_cuts_are_where_the_picture_changes(tmp_path, detector):
    path = film(tmp_path / "a.mp4", [20] * 13 + [200] * 20 + [90] * 17)
    assert cuts(path, DetectorSettings(detector, THRESHOLDS[detector], 0.6)) == pytest.approx([1.3, 3.3])


def test_a_video_of_one_shot_has_no_cut(tmp_path):
    assert cuts(film(tmp_path / "a.mp4", [20] * 20)) == []


def test_the_threshold_decides_which_change_is_a_cut(tmp_path):
    path = film(tmp_path / "a.mp4", [20] * 10 + [80] * 10 + [220] * 10)  # a third of the change is brightness
    assert cuts(path) == pytest.approx([2.0])
    assert cuts(path, DetectorSettings("content", 10.0, 0.6)) == pytest.approx([1.0, 2.0])


def test_no_shot_is_shorter_than_the_least(tmp_path):
    path = film(tmp_path / "a.mp4", [20] * 12 + [200] * 4 + [20] * 24)
    assert cuts(path, DetectorSettings("content", 27.0, 0.0)) == pytest.approx([1.2, 1.6])
    assert len(cuts(path, DetectorSettings("content", 27.0, 1.0))) < 2


def test_times_count_from_the_start_of_the_file_with_a_variable_rate(tmp_path):
    times = [50 + 2 * n for n in range(10)] + [100 + n for n in range(20)]
    path = film(tmp_path / "a.mkv", [20] * 10 + [200] * 20, pts=times)
    assert cuts(path) == pytest.approx([5.0])


def test_a_file_that_is_no_video_is_lost_with_its_reason(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"not a video")
    with pytest.raises(VideoError) as error:
        cuts(path)
    assert error.value.reason == "not a video (no format that FFmpeg knows)"
    with pytest.raises(VideoError):
        cuts(tmp_path / "gone.mp4")


def test_a_video_whose_frames_are_damaged_is_lost(tmp_path):
    content = bytearray(film(tmp_path / "a.mp4", [20] * 20).read_bytes())
    start = content.index(b"mdat") + 4
    content[start : content.index(b"moov") - 4] = bytes(content.index(b"moov") - 4 - start)
    (tmp_path / "b.mp4").write_bytes(content)
    with pytest.raises(VideoError):
        cuts(tmp_path / "b.mp4")


def test_the_memo_gives_the_same_cuts_without_a_look_at_the_frames(tmp_path, monkeypatch):
    path = film(tmp_path / "a.mp4", [20] * 13 + [200] * 20)
    first = cuts(path, memo=tmp_path / "memo")
    monkeypatch.setattr("scenedetect.ContentDetector", None)
    assert cuts(path, memo=tmp_path / "memo") == first == pytest.approx([1.3])
    for changed in ({"code": "new"}, {"settings": DetectorSettings("content", 26.0, 0.6)}):
        with pytest.raises(TypeError):  # nothing remembered: it would have to look
            cuts(path, memo=tmp_path / "memo", **changed)


def test_cuts_that_a_bad_disk_changed_in_the_memo_are_found_again(tmp_path, spoil):
    path = film(tmp_path / "a.mp4", [20] * 13 + [200] * 20)
    first = cuts(path, memo=tmp_path / "memo")
    assert spoil(tmp_path / "memo") == 1
    assert cuts(path, memo=tmp_path / "memo") == first


def test_shots_lie_between_cuts():
    assert shots_between([4.0, 12.0], 10.0) == [[0.0, 4.0], [4.0, 10.0]]
    assert shots_between([], 10.0) == [[0.0, 10.0]]
    assert shots_between([6.0, 3.0, 6.0, 0.0, 10.0, -1.0], 10.0) == [[0.0, 3.0], [3.0, 6.0], [6.0, 10.0]]


@given(st.lists(st.floats(-5, 50)), st.floats(0.1, 40))
def test_shots_cover_the_video_without_gaps(cuts, duration):
    shots = shots_between(cuts, duration)
    assert shots[0][0] == 0
    assert shots[-1][1] == duration
    assert all(first[1] == second[0] for first, second in zip(shots, shots[1:], strict=False))
    assert all(start < end for start, end in shots)
