import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillmotion.errors import InputError
from stillmotion.moments.curves import stack_curves
from stillmotion.moments.frame_runs import top_windows
from stillmotion.moments.selection import (
    rank_frames,
    scene_starts,
    select_vc1,
    select_vc2,
    vc1_runs,
    vc2_runs,
)


def make(*curves, cfsc=None, durations=None):
    sc = [np.array(curve, dtype=float) for curve in curves]
    cfsc = [np.ones(len(curve) - 1) for curve in sc] if cfsc is None else [np.array(c, float) for c in cfsc]
    durations = [2.0 * len(curve) for curve in sc] if durations is None else durations
    return stack_curves(sc, cfsc, durations=durations, clip_length_s=2.0)


def random_batch(seed, num_queries=5, longest=16):
    generator = np.random.default_rng(seed)
    lengths = generator.integers(1, longest + 1, size=num_queries)
    # few levels, so that ties and equal neighbours occur
    curves = [generator.integers(0, 6, size=n) / 5 for n in lengths]
    changes = [generator.integers(0, 6, size=n - 1) / 5 for n in lengths]
    return curves, changes


def windows_of(selection, query):
    num = selection.num_windows_Q[query]
    return [
        (*window, pytest.approx(confidence))
        for window, confidence in zip(
            selection.windows_QW2[query, :num].tolist(), selection.confidence_QW[query, :num].tolist(), strict=True
        )
    ]


def test_vc1_is_worked_by_hand():
    curves = make([0.1, 0.8, 0.6, 0.2, 0.9])
    selection = select_vc1(curves, curves.sc_QT, threshold=0.5)
    assert selection.frames_QT.tolist() == [[False, True, True, False, True]]
    assert windows_of(selection, 0) == [(8, 10, 0.9), (2, 6, 0.7)]
    assert not selection.fallback_Q.any()


def test_vc1_drops_runs_at_or_below_the_second_threshold():
    curves = make([0.1, 0.8, 0.6, 0.2, 0.9])
    selection = select_vc1(curves, curves.sc_QT, threshold=0.5, least_confidence=0.7000001)
    assert windows_of(selection, 0) == [(8, 10, 0.9)]
    assert selection.frames_QT.tolist() == [[False, False, False, False, True]]


def test_the_last_window_ends_with_the_video():
    curves = make([0.1, 0.9], durations=[3.5])
    assert windows_of(select_vc1(curves, curves.sc_QT, threshold=0.5), 0) == [(2, 3.5, 0.9)]


def test_an_empty_vc1_selection_falls_back_to_the_run_around_the_best_frame():
    curves = make([0.1, 0.4, 0.4, 0.2, 0.4], [0.9, 0.1])
    selection = select_vc1(curves, curves.sc_QT, threshold=0.5)
    assert windows_of(selection, 0) == [(2, 6, 0.4)]
    assert selection.fallback_Q.tolist() == [True, False]
    strict = select_vc1(curves, curves.sc_QT, threshold=0.5, allow_empty=True)
    assert strict.num_windows_Q.tolist() == [0, 1]
    assert not strict.frames_QT[0].any()


def test_a_second_threshold_that_drops_every_run_falls_back_too():
    curves = make([0.1, 0.6, 0.8, 0.2, 0.7])
    selection = select_vc1(curves, curves.sc_QT, threshold=0.5, least_confidence=0.95)
    assert windows_of(selection, 0) == [(2, 6, 0.7)]
    assert selection.fallback_Q.tolist() == [True]


@pytest.fixture
def flushed_denormals():
    """The mode that models run in: numbers next to zero become zero."""
    torch = pytest.importorskip("torch")
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor has no mode that flushes denormal numbers")
    yield
    torch.set_flush_denormal(False)


def test_a_best_value_of_zero_is_selected_where_denormal_numbers_are_flushed(flushed_denormals):
    assert np.float64(5e-324) * 1.0 == 0  # the mode is on
    curves = make([0.0, 0.0, 0.0], [-0.5, 0.0, 0.0, -0.1, 0.0], [-0.3, -0.2])
    selection = select_vc1(curves, curves.sc_QT, threshold=0.5)
    assert [windows_of(selection, query) for query in range(3)] == [[(0, 6, 0)], [(2, 6, 0)], [(2, 4, -0.2)]]
    assert selection.fallback_Q.all()


def test_a_best_value_equal_to_the_threshold_is_a_fallback():
    curves = make([0.1, 0.5, 0.5, 0.2], [0.1, 0.5, 0.6])
    selection = select_vc1(curves, curves.sc_QT, threshold=0.5)
    assert selection.fallback_Q.tolist() == [True, False]
    assert [windows_of(selection, query) for query in range(2)] == [[(2, 6, 0.5)], [(4, 6, 0.6)]]


def test_windows_of_equal_confidence_are_in_order_of_time_and_ten_at_most():
    curves = make([1, 0] * 12)
    selection = select_vc1(curves, curves.sc_QT, threshold=0.5)
    assert windows_of(selection, 0) == [(4 * n, 4 * n + 2, 1) for n in range(10)]
    assert selection.frames_QT.sum() == 12


def test_scenes_are_cut_where_a_fall_begins_or_ends():
    curves = make([0] * 6, [0] * 3, [0] * 2, cfsc=[[0.9, 0.3, 0.2, 0.1, 0.9], [0.1, 0.1], [0.1]])
    starts = scene_starts(curves, change=0.5)
    assert starts[0].tolist() == [True, False, True, False, True, False]
    assert starts[1, :3].tolist() == [True, True, True]  # the ends count as not below
    assert starts[2, :2].tolist() == [True, True]


def test_a_similarity_equal_to_alpha_is_no_cut():
    assert scene_starts(make([0] * 2, cfsc=[[0.5]]), change=0.5).tolist() == [[True, False]]


def test_vc2_scores_scenes_by_their_top_share_and_merges_adjacent_ones():
    # scenes of frames 0-1, 2-3, 4-5
    curves = make([0.1, 0.2, 0.8, 0.4, 0.5, 0.7], cfsc=[[0.9, 0.1, 0.9, 0.1, 0.9]])
    best = select_vc2(curves, curves.sc_QT, threshold=0.6, change=0.5, share=0.5)
    assert windows_of(best, 0) == [(4, 12, 0.75)]  # kept at 0.8 and 0.7; merged, two of four: (0.8 + 0.7) / 2
    whole = select_vc2(curves, curves.sc_QT, threshold=0.55, change=0.5, share=1.0)
    assert windows_of(whole, 0) == [(4, 12, 0.6)]  # 0.6 and 0.6, merged 2.4 / 4
    apart = select_vc2(curves, curves.sc_QT, threshold=0.14, change=0.05, share=1.0)
    assert windows_of(apart, 0) == [(0, 12, 2.7 / 6)]


def test_an_empty_vc2_selection_falls_back_to_the_scene_of_the_best_frame():
    curves = make([0.1, 0.2, 0.8, 0.4, 0.5, 0.7], cfsc=[[0.9, 0.1, 0.9, 0.1, 0.9]])
    selection = select_vc2(curves, curves.sc_QT, threshold=0.9, change=0.5, share=1.0)
    assert windows_of(selection, 0) == [(4, 8, 0.6)]
    assert selection.fallback_Q.tolist() == [True]
    empty = select_vc2(curves, curves.sc_QT, threshold=0.9, change=0.5, share=1.0, allow_empty=True)
    assert empty.num_windows_Q.tolist() == [0]


@pytest.mark.parametrize("share", [0, -0.1, 1.1])
def test_a_share_outside_its_range_is_an_error(share):
    curves = make([0.5])
    with pytest.raises(InputError, match="share"):
        vc2_runs(curves, curves.sc_QT, threshold=0.5, change=0.5, share=share)


def test_the_share_is_not_pushed_up_by_rounding():
    # 0.55 * 100 is 55.00000000000001 in floating point
    values = np.arange(100) / 100
    curves = make(values)
    selection = select_vc2(curves, curves.sc_QT, threshold=0, change=0.5, share=0.55)
    assert selection.confidence_QW[0, 0] == pytest.approx(values[-55:].mean())


def literal_vc1(sc, threshold):
    runs, current = [], []
    for frame, value in enumerate([*sc, -math.inf]):
        if value > threshold:
            current.append(frame)
        elif current:
            runs.append((current[0], current[-1] + 1, float(np.mean([sc[i] for i in current]))))
            current = []
    return runs


def literal_vc2(sc, cfsc, threshold, change, share):
    bounded = [math.inf, *cfsc, math.inf]
    cuts = [
        n for n in range(len(cfsc)) if bounded[n + 1] < change and (bounded[n] >= change or bounded[n + 2] >= change)
    ]
    bounds = [0, *(n + 1 for n in cuts), len(sc)]

    def confidence(first, end):
        num_top = math.ceil(share * (end - first))
        return float(np.mean(sorted(sc[first:end], reverse=True)[:num_top]))

    kept = []
    for first, end in zip(bounds, bounds[1:], strict=False):
        if confidence(first, end) > threshold:
            if kept and kept[-1][1] == first:
                first = kept.pop()[0]
            kept.append((first, end))
    return [(first, end, confidence(first, end)) for first, end in kept]


def literal_fallback(sc):
    """The run around the first of the highest frames."""
    first = end = sc.tolist().index(max(sc))
    while end < len(sc) and sc[end] == max(sc):
        end += 1
    return [(first, end, float(max(sc)))]


def check_against_literal(selection, curves, expected):
    for query, runs in enumerate(expected):
        frames = np.zeros(curves.sc_QT.shape[1], dtype=bool)
        for first, end, _ in runs:
            frames[first:end] = True
        assert selection.frames_QT[query].tolist() == frames.tolist()
        found = sorted(windows_of(selection, query), key=lambda window: window[:2])
        if len(runs) <= 10:
            assert found == [(2.0 * first, 2.0 * end, value) for first, end, value in runs]


@given(st.integers(0, 2**32 - 1), st.sampled_from([-0.1, 0.1, 0.3, 0.5, 0.7, 1.1]))
def test_vc1_agrees_with_a_literal_loop(seed, threshold):
    sc, _ = random_batch(seed)
    curves = make(*sc)
    selection = select_vc1(curves, curves.sc_QT, threshold=threshold, allow_empty=True)
    check_against_literal(selection, curves, [literal_vc1(curve, threshold) for curve in sc])


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.3, 0.6, 0.8, 1.0, 1.1]))
def test_vc1_with_its_fallback_agrees_with_a_literal_loop(seed, threshold):
    sc, _ = random_batch(seed)
    curves = make(*sc)
    selection = select_vc1(curves, curves.sc_QT, threshold=threshold)
    expected = [literal_vc1(curve, threshold) for curve in sc]
    assert selection.fallback_Q.tolist() == [not runs for runs in expected]
    check_against_literal(
        selection, curves, [runs or literal_fallback(curve) for runs, curve in zip(expected, sc, strict=True)]
    )


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.1234, 0.3111, 0.4713, 0.7077]),  # no mean of fifths, which rounding could tip
    st.sampled_from([0.1, 0.4, 0.5, 0.9]),
    st.sampled_from([0.1, 0.25, 0.5, 1.0]),
)
def test_vc2_agrees_with_a_literal_loop(seed, threshold, change, share):
    sc, cfsc = random_batch(seed)
    curves = make(*sc, cfsc=cfsc)
    selection = select_vc2(curves, curves.sc_QT, threshold=threshold, change=change, share=share, allow_empty=True)
    expected = [literal_vc2(*pair, threshold, change, share) for pair in zip(sc, cfsc, strict=True)]
    check_against_literal(selection, curves, expected)


@given(st.integers(0, 2**32 - 1), st.floats(-0.1, 1.1), st.floats(0, 0.5))
def test_a_vc1_selection_grows_as_the_threshold_falls(seed, threshold, step):
    sc, _ = random_batch(seed)
    curves = make(*sc)
    high, low = (
        select_vc1(curves, curves.sc_QT, threshold=value, allow_empty=True).frames_QT
        for value in (threshold, threshold - step)
    )
    assert (low | ~high).all()


@given(st.integers(0, 2**32 - 1), st.floats(0, 1), st.floats(0, 1), st.floats(0.01, 1), st.booleans())
def test_windows_are_disjoint_in_range_and_ranked(seed, threshold, change, share, second):
    sc, cfsc = random_batch(seed)
    durations = [2.0 * len(curve) - 0.5 for curve in sc]
    curves = make(*sc, cfsc=cfsc, durations=durations)
    if second:
        settings = {"threshold": threshold, "change": change, "share": share}
        selection, (runs, confidence, _) = (f(curves, curves.sc_QT, **settings) for f in (select_vc2, vc2_runs))
    else:
        settings = {"threshold": threshold, "least_confidence": change}
        selection, (runs, confidence, _) = (f(curves, curves.sc_QT, **settings) for f in (select_vc1, vc1_runs))
    assert (selection.num_windows_Q >= 1).all()
    assert (selection.num_windows_Q <= 10).all()
    for query, duration in enumerate(durations):
        windows = selection.windows_QW2[query, : selection.num_windows_Q[query]]
        confidences = selection.confidence_QW[query, : selection.num_windows_Q[query]]
        assert (np.diff(confidences) <= 0).all()
        assert (windows[:, 0] < windows[:, 1]).all()
        assert windows.min() >= 0
        assert windows.max() <= duration
        by_time = windows[np.argsort(windows[:, 0])]
        assert (by_time[1:, 0] >= by_time[:-1, 1]).all()
    assert (top_windows(runs, confidence, curves) == selection.windows_QW2[:, 0]).all()


@given(st.integers(0, 2**32 - 1), st.booleans())
def test_neither_padding_nor_the_order_of_the_batch_changes_a_selection(seed, second):
    sc, cfsc = random_batch(seed)
    settings = {"threshold": 0.5, "change": 0.5, "share": 0.3} if second else {"threshold": 0.5}
    select = select_vc2 if second else select_vc1
    curves = make(*sc, cfsc=cfsc)
    whole = select(curves, curves.sc_QT, **settings)
    order = np.random.default_rng(seed).permutation(len(sc))
    longer = [*(sc[i] for i in order), np.ones(30)], [*(cfsc[i] for i in order), np.ones(29)]
    other = make(*longer[0], cfsc=longer[1])
    dirty = np.where(other.valid_QT, other.sc_QT, 9.0)
    shuffled = select(other, dirty, **settings)
    for place, query in enumerate(order):
        assert (shuffled.windows_QW2[place] == whole.windows_QW2[query]).all()
        assert (shuffled.confidence_QW[place] == whole.confidence_QW[query]).all()
        assert shuffled.fallback_Q[place] == whole.fallback_Q[query]


def test_ranks_of_frames_may_be_computed_once():
    sc, cfsc = random_batch(1)
    curves = make(*sc, cfsc=cfsc)
    settings = {"threshold": 0.5, "change": 0.5, "share": 0.3}
    first = vc2_runs(curves, curves.sc_QT, **settings)
    second = vc2_runs(curves, curves.sc_QT, ranks=rank_frames(curves.sc_QT), **settings)
    assert all((one == other).all() for one, other in zip(first[1:], second[1:], strict=True))


def test_no_run_at_all_gives_no_window():
    curves = make([0.1, 0.2])
    runs, confidence, _ = vc1_runs(curves, curves.sc_QT, threshold=0.5, allow_empty=True)
    assert top_windows(runs, confidence, curves).tolist() == [[0, 0]]
