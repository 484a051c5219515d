import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity

from stillmotion.errors import InputError
from stillmotion.moments.curves import (
    curves_from_embeddings,
    frame_similarity,
    query_similarity,
    stack_curves,
)


def rng():
    return np.random.default_rng(0)


def test_similarities_are_cosines():
    frames, queries = rng().standard_normal((6, 8)), rng().standard_normal((3, 8))
    assert query_similarity(frames, queries) == pytest.approx(cosine_similarity(queries, frames))
    assert frame_similarity(frames) == pytest.approx(cosine_similarity(frames).diagonal(1))
    assert query_similarity(5 * frames, queries) == pytest.approx(query_similarity(frames, queries))


def test_a_zero_embedding_has_similarity_zero():
    assert query_similarity(np.zeros((2, 3)), np.ones((1, 3))).tolist() == [[0, 0]]


def test_a_batch_holds_each_query_with_the_frames_of_its_video():
    frames = [rng().standard_normal((count, 4)) for count in (3, 1, 5)]
    queries = rng().standard_normal((4, 4))
    curves = curves_from_embeddings(
        frames, queries, video_of_query=[2, 0, 1, 2], durations=[6, 1.5, 9.5], clip_length_s=2.0
    )
    assert curves.num_frames_Q.tolist() == [5, 3, 1, 5]
    assert curves.durations_Q.tolist() == [9.5, 6, 1.5, 9.5]
    for query, video in enumerate([2, 0, 1, 2]):
        count = len(frames[video])
        assert curves.sc_QT[query, :count] == pytest.approx(
            cosine_similarity(queries[query : query + 1], frames[video])[0]
        )
        assert curves.cfsc_QU[query, : count - 1].tolist() == frame_similarity(frames[video]).tolist()
    assert curves.valid_QT.sum(axis=1).tolist() == [5, 3, 1, 5]


@pytest.mark.parametrize(
    ("sc", "cfsc", "duration", "message"),
    [
        (np.empty(0), np.empty(0), 2.0, "query 0: 0 frames"),
        (np.ones(3), np.ones(3), 6.0, "query 0: 3 frames and 3"),
        (np.ones(3), np.ones(2), 4.0, "past its end"),
        (np.ones(3), np.ones(2), np.inf, "past its end"),
    ],
)
def test_curves_that_do_not_fit_are_an_error(sc, cfsc, duration, message):
    with pytest.raises(InputError, match=message):
        stack_curves([sc], [cfsc], durations=[duration], clip_length_s=2.0)


def test_embeddings_that_are_not_finite_are_an_error():
    with pytest.raises(InputError, match="finite"):
        frame_similarity(np.array([[1.0, np.nan]]))


@pytest.mark.real
def test_real_clip_features_give_curves_that_can_be_selected_from(real_material):
    frames = np.load(real_material / "clip_features" / "vid.npz")["features"]
    curve = frame_similarity(frames)
    assert len(curve) == len(frames) - 1
    assert (np.abs(curve) <= 1).all()
    assert curve.mean() > 0.5  # frames of one shot are alike
