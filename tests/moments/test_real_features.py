"""Real CLIP features of a film of 30 s, 2 s apart, and of the tokens of one query, through all of moment selection."""

import numpy as np
import pytest
from scipy.signal import savgol_filter
from sklearn.metrics.pairwise import cosine_similarity

from stillmotion.moments.curves import curves_from_embeddings
from stillmotion.moments.postprocess import POST_PROCESSINGS, postprocess, train_range
from stillmotion.moments.selection import scene_starts, select_vc1, select_vc2

pytestmark = pytest.mark.real

NUM_FRAMES, CLIP_LENGTH_S, WINDOW = 15, 2.0, 5
IMAGE_QUERIES = (0, 7, 14)


@pytest.fixture(scope="module")
def features(real_material):
    folder = real_material / "clip_features"
    return [np.load(folder / name)["features"].astype(np.float64) for name in ("vid.npz", "txt.npz")]


@pytest.fixture(scope="module")
def queries(features):
    """The last token, which CLIP reads a text from (not projected: any vector does here), and three of the frames."""
    frames, tokens = features
    return np.concatenate([tokens[-1:], frames[list(IMAGE_QUERIES)]])


@pytest.fixture(scope="module")
def curves(features, queries):
    return curves_from_embeddings(
        [features[0]],
        queries,
        video_of_query=[0] * len(queries),
        durations=[NUM_FRAMES * CLIP_LENGTH_S],
        clip_length_s=CLIP_LENGTH_S,
    )


def process(curves, post_processing):
    return postprocess(
        curves.sc_QT,
        curves.num_frames_Q,
        method=post_processing,
        window=WINDOW,
        frozen_range=train_range(curves.sc_QT, curves.num_frames_Q),
    ).sc_QT


def test_curves_are_cosines(features, queries, curves):
    assert curves.sc_QT == pytest.approx(cosine_similarity(queries, features[0]))
    between = cosine_similarity(features[0]).diagonal(1)
    assert (curves.cfsc_QU == curves.cfsc_QU[0]).all()
    assert curves.cfsc_QU[0] == pytest.approx(between)
    assert between.min() > 0.5  # frames of one film are alike


def test_a_frame_of_the_film_as_query_is_found_at_its_place(curves):
    for row, frame in enumerate(IMAGE_QUERIES, start=1):
        assert curves.sc_QT[row].argmax() == frame
        assert curves.sc_QT[row, frame] == pytest.approx(1)
        selection = select_vc1(curves, curves.sc_QT, threshold=0.999)
        start = frame * CLIP_LENGTH_S
        assert selection.windows_QW2[row, 0].tolist() == [start, start + CLIP_LENGTH_S]


def literal(sc, post_processing, low, high):
    if post_processing == "none":
        return sc
    if post_processing == "adjust_norm":
        return (sc - low) / (high - low)
    if post_processing == "log_smooth_norm":
        sc = savgol_filter(np.log(np.maximum(sc, 1e-6)), WINDOW, 2)
    return (sc - sc.min()) / (sc.max() - sc.min())


@pytest.mark.parametrize("post_processing", POST_PROCESSINGS)
def test_each_post_processing_is_its_formula(features, queries, curves, post_processing):
    cosines = cosine_similarity(queries, features[0])
    expected = [literal(row, post_processing, cosines.min(), cosines.max()) for row in cosines]
    assert process(curves, post_processing) == pytest.approx(np.array(expected), abs=1e-9)


@pytest.mark.parametrize("post_processing", POST_PROCESSINGS)
@pytest.mark.parametrize("method", ["vc1", "vc2"])
def test_each_selection_finds_windows_that_hold_what_was_selected(curves, post_processing, method):
    sc_QT = process(curves, post_processing)
    change = float(np.median(curves.cfsc_QU))
    for share_of_range in (0.2, 0.5, 0.8):
        low, high = sc_QT.min(), sc_QT.max()
        threshold = low + share_of_range * (high - low)
        if method == "vc1":
            selection = select_vc1(curves, sc_QT, threshold=threshold)
        else:
            selection = select_vc2(curves, sc_QT, threshold=threshold, change=change, share=0.5)
        for row, num in enumerate(selection.num_windows_Q):
            assert 1 <= num <= 10
            chosen = np.zeros(NUM_FRAMES, dtype=bool)
            for start, end in selection.windows_QW2[row, :num] / CLIP_LENGTH_S:
                assert start == int(start)
                assert end == int(end)
                assert not chosen[int(start) : int(end)].any()
                chosen[int(start) : int(end)] = True
            assert chosen.tolist() == selection.frames_QT[row].tolist()
            if method == "vc1" and not selection.fallback_Q[row]:
                assert chosen.tolist() == (sc_QT[row] > threshold).tolist()
            if method == "vc2":  # windows start and end at cuts
                starts = {*np.flatnonzero(scene_starts(curves, change=change)[row]), NUM_FRAMES}
                assert set((selection.windows_QW2[row, :num] / CLIP_LENGTH_S).ravel()) <= starts
