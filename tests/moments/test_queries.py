from dataclasses import replace

import numpy as np
import pytest

from stillmotion.embedding.reader import EmbeddedVideo, Embeddings
from stillmotion.errors import InputError
from stillmotion.io.arrays import save_array
from stillmotion.io.records import Moment
from stillmotion.io.tables import write_json, write_rows
from stillmotion.moments.queries import embedded_queries

MOMENTS = [
    Moment(1, "q1", "b", 5.0, [[0.0, 2.0], [4.0, 5.0]], [0, 2], []),
    Moment(2, "q2", "lost", 4.0, [[0.0, 2.0]], [0], []),
    Moment(3, "q3", "a", 4.0, [[2.0, 4.0]], [1, 2], []),
    Moment(4, "q4", "other", 4.0, [[2.0, 4.0]], [1], []),
    Moment(5, "q5", "b", 5.0, [[2.0, 5.0]], [1, 2, 3], []),
]


@pytest.fixture
def embedded(tmp_path):
    videos = [
        # stored frames 0, 2 and 1 stand for the clips of `a`'s four seconds, in an order of their own
        EmbeddedVideo("a", "train", 4.0, 0, 3, [1], [0, 2]),
        EmbeddedVideo("b", "train", 5.0, 3, 3, [0], [0, 1, 2]),
        EmbeddedVideo("other", "test", 4.0, 6, 2, [0], [0, 1]),
    ]
    write_rows(tmp_path / "index.jsonl", [video.row() for video in videos])
    write_json(tmp_path / "model.json", {"dim": 2})
    frames = [[1, 0], [0, 1], [0.6, 0.8], [1, 0], [0, 1], [0.8, 0.6], [1, 0], [0, 1]]
    save_array(tmp_path / "frames.npy", np.array(frames, np.float32))
    queries = [[1, 0], [0.6, 0.8], [0, 1], [1, 0], [0.8, 0.6]]
    save_array(tmp_path / "queries.npy", np.array(queries, np.float32))
    return Embeddings(tmp_path)


def test_queries_of_a_split_come_with_the_curves_of_their_videos_worked_by_hand(embedded):
    found = embedded_queries(embedded, MOMENTS, "train", 2.0)
    assert found is not None
    assert [query.qid for query in found.queries] == [1, 3, 5]
    assert found.curves.num_frames_Q.tolist() == [3, 2, 3]
    assert found.curves.durations_Q.tolist() == [5.0, 4.0, 5.0]
    np.testing.assert_allclose(found.curves.sc_QT, [[1, 0, 0.8], [0, 0.8, 0], [0.8, 0.6, 1.0]], atol=1e-6)
    np.testing.assert_allclose(found.curves.cfsc_QU, [[0, 0.6], [0.6, 0], [0, 0.6]], atol=1e-6)


def test_true_frames_are_those_of_the_true_clips_that_the_video_has(embedded):
    found = embedded_queries(embedded, MOMENTS, "train", 2.0)
    assert found is not None
    # clip 2 of query 3 would start at 4 s of a video of 4 s, clip 3 of query 5 at 6 s of one of 5 s
    assert found.true_QT.tolist() == [[True, False, True], [False, True, False], [False, True, True]]


def test_true_windows_are_kept_in_the_order_of_the_queries(embedded):
    found = embedded_queries(embedded, MOMENTS, "train", 2.0)
    assert found is not None
    assert found.windows.num_Q.tolist() == [2, 1, 1]
    shown = [
        spans[valid].tolist() for spans, valid in zip(found.windows.spans_QW2, found.windows.valid_QW, strict=True)
    ]
    assert shown == [[[0.0, 2.0], [4.0, 5.0]], [[2.0, 4.0]], [[2.0, 5.0]]]


def test_queries_of_videos_without_embeddings_are_left_out(embedded):
    found = [embedded_queries(embedded, MOMENTS, split, 2.0) for split in ("train", "test")]
    assert [[query.qid for query in part.queries] for part in found if part is not None] == [[1, 3, 5], [4]]


def test_a_split_without_queries_is_none(embedded):
    assert embedded_queries(embedded, MOMENTS, "validation", 2.0) is None
    assert embedded_queries(embedded, [], "train", 2.0) is None
    assert embedded_queries(embedded, [replace(each, vid="lost") for each in MOMENTS], "train", 2.0) is None


def test_queries_of_another_version_of_the_dataset_are_refused(embedded):
    # With one less, each after it would be scored by the vector of the one before.
    with pytest.raises(
        InputError, match=r"queries\.npy: 5 queries, but moments\.jsonl has 4; run the embed stage again"
    ):
        embedded_queries(embedded, MOMENTS[1:], "train", 2.0)
