import pytest

from stillmotion.io.records import Moment, Video
from stillmotion.moments.truth import Missing, ground_truth, missing_of_split

QUERIES = [
    Moment(1, "q1", "b", 5.0, [[0.0, 2.0], [4.0, 5.0]], [0, 2], []),
    Moment(2, "q2", "a", 4.0, [[2.0, 4.0]], [1, 2], []),
]


@pytest.fixture
def truth():
    return ground_truth(QUERIES, num_frames={"a": 2, "b": 3}, durations={"a": 4.0, "b": 5.0}, clip_length_s=2.0)


def test_true_frames_are_those_of_the_true_clips_that_the_video_has(truth):
    assert truth.true_QT.tolist() == [[True, False, True], [False, True, False]]  # clip 2 of `a` starts at its end
    assert truth.valid_QT.tolist() == [[True, True, True], [True, True, False]]
    assert truth.windows.num_Q.tolist() == [2, 1]
    assert truth.durations_Q.tolist() == [5.0, 4.0]


def test_a_short_last_clip_has_its_own_middle(truth):
    assert truth.middles_QT[0].tolist() == [1.0, 3.0, 4.5]
    assert truth.middles_QT[1, :2].tolist() == [1.0, 3.0]


def test_videos_that_were_not_kept_are_missing_with_their_queries():
    videos = [Video(name, "", "test", None, None, None, None, None, None, "ok") for name in "abc"]
    videos.append(Video("t", "", "train", None, None, None, None, None, None, "ok"))
    assert missing_of_split(videos, QUERIES, kept={"a"}, split="test") == Missing(2, 1)
    assert missing_of_split(videos, QUERIES, kept={"a"}, split="train") == Missing(1, 0)
    assert missing_of_split(videos, QUERIES, kept={"a", "b", "c", "t"}, split="test") == Missing(0, 0)
