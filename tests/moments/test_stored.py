import numpy as np
import pytest

from stillmotion.io.records import Moment, Video
from stillmotion.moments.stored import stored_truth
from stillmotion.video.packed import PackedFrames, PackedVideo, write_tables

MOMENTS = [
    Moment(1, "q1", "b", 6.0, [[4.0, 5.0]], [2], []),
    Moment(2, "q2", "lost", 4.0, [[0.0, 2.0]], [0], []),
    Moment(3, "q3", "a", 4.0, [[2.0, 4.0]], [1], []),
    Moment(4, "q4", "t", 4.0, [[2.0, 4.0]], [1], []),
]


@pytest.fixture
def store(tmp_path):
    splits = {"a": "test", "b": "test", "lost": "test", "t": "train"}
    videos = [Video(name, "", split, None, None, None, None, None, None, "ok") for name, split in splits.items()]
    packed = {
        name: PackedVideo({"duration": duration}, np.arange(5.0), np.array([0]), np.array(clips), False)
        for name, duration, clips in (("a", 4.0, [0, 2]), ("b", 4.9, [0, 1, 4]), ("t", 4.0, [0, 2]))
    }
    write_tables(tmp_path, videos, packed, {"lost": "corrupt"})
    return PackedFrames(tmp_path)


def test_queries_about_stored_videos_come_with_their_decoded_size(store):
    truth = stored_truth(store, MOMENTS, "test", 2.0)
    assert truth is not None
    assert [query.qid for query in truth.queries] == [1, 3]
    assert truth.num_frames_Q.tolist() == [3, 2]
    assert truth.durations_Q.tolist() == [4.9, 4.0]  # and not the 6 s of the annotation
    assert truth.true_QT.tolist() == [[False, False, True], [False, True, False]]


def test_a_split_without_queries_is_none(store):
    assert stored_truth(store, MOMENTS, "validation", 2.0) is None
    assert stored_truth(store, [MOMENTS[1]], "test", 2.0) is None
