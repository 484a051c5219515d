"""What holds for every video and query, from embeddings to windows.

The properties of single steps stand beside them: test_postprocess, test_selection.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from stillmotion.moments.curves import curves_from_embeddings, stack_curves
from stillmotion.moments.postprocess import POST_PROCESSINGS, min_max, postprocess, train_range
from stillmotion.moments.selection import select_vc1, select_vc2

CLIP_LENGTH_S = 2.0
DIM = 4
UNIT = st.floats(0, 1)
COSINES = st.floats(-1, 1)
METHODS = st.sampled_from(["vc1", "vc2"])


@st.composite
def videos_with_queries(draw, max_videos=3, max_frames=14, max_queries=4):
    """Frames of each video, queries, the video of each query, durations; every video has a query."""
    seed = draw(st.integers(0, 2**32 - 1))
    lengths = draw(st.lists(st.integers(1, max_frames), min_size=1, max_size=max_videos))
    rng = np.random.default_rng(seed)
    repeated = draw(st.booleans())  # frames that do not change give equal similarities, and constant curves
    frames = [
        np.repeat(rng.standard_normal((1 if repeated else num, DIM)), num if repeated else 1, axis=0) for num in lengths
    ]
    more = draw(st.lists(st.integers(0, len(lengths) - 1), max_size=max_queries))
    video_of_query = [*range(len(lengths)), *more]
    durations = [CLIP_LENGTH_S * num - draw(st.sampled_from([0.0, 0.5, 1.9])) for num in lengths]
    return frames, rng.standard_normal((len(video_of_query), DIM)), video_of_query, durations


@st.composite
def curves_of_unequal_length(draw, max_queries=4, max_frames=12):
    """Sc and CFSc of each query, any cosines: denormal numbers, equal ones and -1 among them."""
    lengths = draw(st.lists(st.integers(1, max_frames), min_size=1, max_size=max_queries))
    sc = [draw(arrays(np.float64, num, elements=COSINES)) for num in lengths]
    cfsc = [draw(arrays(np.float64, num - 1, elements=COSINES)) for num in lengths]
    return sc, cfsc


def stack(sc, cfsc):
    durations = [CLIP_LENGTH_S * len(curve) - 0.5 for curve in sc]
    return stack_curves(sc, cfsc, durations=durations, clip_length_s=CLIP_LENGTH_S)


def process(curves, post_processing, window=5, frozen_range=(0.1, 0.6)):
    return postprocess(
        curves.sc_QT, curves.num_frames_Q, method=post_processing, window=window, frozen_range=frozen_range
    ).sc_QT


def choose(curves, sc_QT, method, threshold, change=0.5, share=0.5):
    if method == "vc1":
        return select_vc1(curves, sc_QT, threshold=threshold)
    return select_vc2(curves, sc_QT, threshold=threshold, change=change, share=share)


def embed_curves(frames, queries, video_of_query, durations):
    return curves_from_embeddings(
        frames, queries, video_of_query=video_of_query, durations=durations, clip_length_s=CLIP_LENGTH_S
    )


@given(
    videos_with_queries(),
    st.sampled_from(POST_PROCESSINGS),
    METHODS,
    COSINES,
    COSINES,
    st.floats(0.01, 1),
    st.sampled_from([3, 7, 21]),
)
def test_windows_are_disjoint_inside_the_video_and_by_falling_confidence(
    case, post_processing, method, threshold, change, share, window
):
    curves = embed_curves(*case)
    selection = choose(curves, process(curves, post_processing, window), method, threshold, change, share)
    assert not (selection.frames_QT & ~curves.valid_QT).any()
    for query, duration in enumerate(curves.durations_Q):
        num = selection.num_windows_Q[query]
        assert 1 <= num <= 10
        windows = selection.windows_QW2[query, :num]
        assert (np.diff(selection.confidence_QW[query, :num]) <= 0).all()
        assert (windows[:, 0] < windows[:, 1]).all()
        assert windows.min() >= 0
        assert windows.max() <= duration
        by_time = windows[np.argsort(windows[:, 0])]
        assert (by_time[1:, 0] > by_time[:-1, 1]).all()  # neighbours would be one window
        middles = CLIP_LENGTH_S * np.arange(curves.num_frames_Q[query])
        inside = ((middles >= windows[:, :1]) & (middles < windows[:, 1:])).any(axis=0)
        assert inside.tolist() == selection.frames_QT[query, : len(middles)].tolist()


@given(curves_of_unequal_length(), st.sampled_from(POST_PROCESSINGS), COSINES, st.floats(0, 1))
def test_what_vc1_selects_grows_as_the_threshold_falls_and_is_never_empty(case, post_processing, threshold, step):
    curves = stack(*case)
    sc_QT = process(curves, post_processing)
    high, low = (select_vc1(curves, sc_QT, threshold=value).frames_QT for value in (threshold, threshold - step))
    assert (low | ~high).all()
    assert high.any(axis=1).all()


@given(curves_of_unequal_length(), st.sampled_from(POST_PROCESSINGS), METHODS, COSINES, st.integers(0, 5))
def test_a_query_is_answered_alike_whatever_else_is_in_the_batch(case, post_processing, method, threshold, extra):
    sc, cfsc = case
    whole = stack(sc, cfsc)
    together = choose(whole, process(whole, post_processing), method, threshold)
    longest = np.linspace(-1, 1, 14 + extra)  # pads all others
    reversed_ = stack([longest, *sc[::-1]], [longest[1:], *cfsc[::-1]])
    padded = choose(reversed_, process(reversed_, post_processing), method, threshold)
    for query in range(len(sc)):
        curves = stack([sc[query]], [cfsc[query]])
        alone = choose(curves, process(curves, post_processing), method, threshold)
        num = alone.num_windows_Q[0]
        for batch, row in ((together, query), (padded, len(sc) - query)):
            assert batch.num_windows_Q[row] == num
            assert (batch.windows_QW2[row, :num] == alone.windows_QW2[0, :num]).all()
            assert (batch.confidence_QW[row, :num] == alone.confidence_QW[0, :num]).all()
            assert (batch.frames_QT[row, : len(sc[query])] == alone.frames_QT[0]).all()
            assert not batch.frames_QT[row, len(sc[query]) :].any()


@given(videos_with_queries(), st.integers(0, 2**32 - 1))
def test_the_order_of_queries_does_not_change_their_curves(case, seed):
    frames, queries, video_of_query, durations = case
    whole = embed_curves(*case)
    order = np.random.default_rng(seed).permutation(len(queries))
    other = embed_curves(frames, queries[order], [video_of_query[i] for i in order], durations)
    # the product of matrices may differ in the last bit
    assert other.sc_QT == pytest.approx(whole.sc_QT[order], abs=1e-14)
    assert (other.cfsc_QU == whole.cfsc_QU[order]).all()


@given(curves_of_unequal_length())
def test_min_max_lies_in_the_unit_interval_and_reaches_both_ends_unless_constant(case):
    curves = stack(*case)
    normed_QT = min_max(curves.sc_QT, curves.valid_QT)
    assert normed_QT.min() >= 0
    assert normed_QT.max() <= 1
    for row, num in zip(normed_QT, curves.num_frames_Q, strict=True):
        assert row[:num].min() == 0
        assert row[:num].max() in (0, 1)
        assert not row[num:].any()


@given(curves_of_unequal_length())
def test_adjust_norm_brings_the_train_split_itself_into_the_unit_interval(case):
    curves = stack(*case)
    found = train_range(curves.sc_QT, curves.num_frames_Q)
    sc_QT = process(curves, "adjust_norm", frozen_range=found)
    assert sc_QT.min() >= 0
    assert sc_QT.max() <= 1


@given(curves_of_unequal_length(), st.integers(-8, 8), METHODS, UNIT)
def test_a_similarity_scaled_by_a_power_of_two_has_the_same_norm_and_windows_to_the_bit(
    case, exponent, method, threshold
):
    sc = [np.where(np.abs(curve) < 1e-100, 0.0, curve) for curve in case[0]]  # so that no scaled value is denormal
    plain, scaled = stack(sc, case[1]), stack([np.ldexp(curve, exponent) for curve in sc], case[1])
    normed = [process(curves, "norm") for curves in (plain, scaled)]
    assert (normed[0] == normed[1]).all()
    first, second = (choose(plain, curve, method, threshold) for curve in normed)
    assert (first.windows_QW2 == second.windows_QW2).all()


@given(st.integers(0, 2**32 - 1), st.floats(0.5, 2), st.sampled_from([3, 5, 9]))
def test_a_scaled_similarity_has_the_same_log_smooth_norm_while_none_is_raised_to_the_floor(seed, factor, window):
    rng = np.random.default_rng(seed)
    sc = [rng.uniform(0.1, 0.4, int(num)) for num in rng.integers(1, 15, 4)]
    cfsc = [np.ones(len(curve) - 1) for curve in sc]
    first, second = (
        process(stack([scale * curve for curve in sc], cfsc), "log_smooth_norm", window) for scale in (1.0, factor)
    )
    assert first == pytest.approx(second, abs=1e-9)


@given(videos_with_queries(), st.floats(0.01, 100), st.floats(0.01, 100))
def test_the_length_of_embeddings_does_not_matter(case, frame_factor, query_factor):
    frames, queries, *rest = case
    plain = embed_curves(*case)
    scaled = embed_curves([frame_factor * video for video in frames], query_factor * queries, *rest)
    assert scaled.sc_QT == pytest.approx(plain.sc_QT, abs=1e-13)
    assert scaled.cfsc_QU == pytest.approx(plain.cfsc_QU, abs=1e-13)
    assert np.abs(plain.sc_QT).max() <= 1 + 1e-13
