import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import savgol_filter

from stillmotion.errors import InputError
from stillmotion.moments.postprocess import (
    POST_PROCESSINGS,
    log_curves,
    postprocess,
    smooth,
    smooth_norm,
    train_range,
)


def one(values, method, **settings):
    values = np.array([values], dtype=float)
    return postprocess(values, np.array([values.shape[1]]), method=method, **settings)


def settings_of(method):
    return {"adjust_norm": {"frozen_range": (0.1, 0.4)}, "log_smooth_norm": {"window": 5}}.get(method, {})


def batch(seed, num_queries=5, longest=14):
    generator = np.random.default_rng(seed)
    num_frames = generator.integers(1, longest + 1, size=num_queries)
    sc = generator.uniform(-0.05, 0.5, size=(num_queries, longest))
    return np.where(np.arange(longest) < num_frames[:, None], sc, 0.0), num_frames


def test_none_leaves_the_curve():
    assert one([0.2, 0.3], "none").sc_QT.tolist() == [[0.2, 0.3]]


def test_norm_is_worked_by_hand_and_a_constant_curve_becomes_zeros():
    assert one([0.2, 0.3, 0.25], "norm").sc_QT[0] == pytest.approx([0, 1, 0.5])
    assert one([0.3, 0.3], "norm").sc_QT.tolist() == [[0, 0]]
    assert one([0.3], "norm").sc_QT.tolist() == [[0]]


def test_a_constant_curve_stays_constant_through_smoothing():
    assert one([0.3] * 9, "log_smooth_norm", window=5).sc_QT.tolist() == [[0] * 9]


def test_adjust_norm_uses_the_range_of_the_train_split():
    train, num_frames = np.array([[0.1, 0.5], [0.3, -9.0]]), np.array([2, 1])
    assert train_range(train, num_frames) == (0.1, 0.5)  # the padding does not count
    assert one([0.1, 0.3, 0.7], "adjust_norm", frozen_range=(0.1, 0.5)).sc_QT[0] == pytest.approx([0, 0.5, 1.5])


@pytest.mark.parametrize("window", [3, 5, 11])
@pytest.mark.parametrize("num_frames", [3, 4, 5, 11, 12, 40])
def test_log_smooth_norm_is_the_log_the_filter_of_scipy_and_the_norm(window, num_frames):
    curve = np.random.default_rng(num_frames).uniform(0.1, 0.4, size=num_frames)
    fitting = min(window, num_frames if num_frames % 2 else num_frames - 1)
    smooth_curve = savgol_filter(np.log(curve), fitting, 2)
    expected = (smooth_curve - smooth_curve.min()) / (smooth_curve.max() - smooth_curve.min())
    assert one(curve, "log_smooth_norm", window=window).sc_QT[0] == pytest.approx(expected, abs=1e-9)


def test_fewer_than_three_frames_are_not_smoothed():
    assert one([0.1, 0.2], "log_smooth_norm", window=5).sc_QT.tolist() == [[0, 1]]


def test_cosines_of_zero_or_below_are_clipped_and_counted():
    logs = log_curves(np.array([[0.5, 0.0, -0.2], [0.1, 0.2, 0.0]]), np.array([3, 2]))
    assert logs.num_clipped == 2
    assert logs.sc_QT[0] == pytest.approx(np.log([0.5, 1e-6, 1e-6]))
    assert one([0.5, 0.0, -0.2], "log_smooth_norm", window=3).num_clipped == 2


@pytest.mark.parametrize("window", [0, 1, 2, 4, -3])
def test_a_window_that_is_even_or_below_three_is_an_error(window):
    with pytest.raises(InputError, match="odd"):
        one([0.1, 0.2, 0.3], "log_smooth_norm", window=window)


@pytest.mark.parametrize("method", ["adjust_norm", "log_smooth_norm", "sharpen"])
def test_a_missing_parameter_or_unknown_method_is_an_error(method):
    with pytest.raises(InputError, match=method):
        one([0.1, 0.2], method)


@given(st.integers(0, 2**32 - 1), st.sampled_from(POST_PROCESSINGS), st.integers(1, 9))
def test_neither_padding_nor_the_rest_of_the_batch_changes_a_bit(seed, method, extra):
    sc, num_frames = batch(seed)
    whole = postprocess(sc, num_frames, method=method, **settings_of(method)).sc_QT
    padded = np.pad(sc, ((0, 0), (0, extra)), constant_values=7.0)
    order = np.random.default_rng(seed).permutation(len(sc))
    shuffled = postprocess(padded[order], num_frames[order], method=method, **settings_of(method)).sc_QT
    for place, query in enumerate(order):
        alone = one(sc[query, : num_frames[query]], method, **settings_of(method)).sc_QT[0]
        assert (whole[query, : num_frames[query]] == alone).all()
        assert (shuffled[place, : num_frames[query]] == alone).all()
        assert not shuffled[place, num_frames[query] :].any()


@given(st.integers(0, 2**32 - 1), st.sampled_from(["norm", "log_smooth_norm"]))
def test_normed_curves_lie_in_the_unit_interval(seed, method):
    sc, num_frames = batch(seed)
    result = postprocess(sc, num_frames, method=method, **settings_of(method)).sc_QT
    assert result.min() >= 0
    assert result.max() <= 1


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 100))
def test_scaled_similarities_have_the_same_norm(seed, factor):
    sc, num_frames = batch(seed)
    first, second = (postprocess(curves, num_frames, method="norm").sc_QT for curves in (sc, factor * sc))
    assert first == pytest.approx(second, abs=1e-9)


def test_a_search_may_take_the_logarithm_once():
    sc, num_frames = batch(3)
    logs = log_curves(sc, num_frames)
    for window in (3, 7):
        whole = postprocess(sc, num_frames, method="log_smooth_norm", window=window)
        assert (smooth_norm(logs, num_frames, window=window).sc_QT == whole.sc_QT).all()


def test_smoothing_keeps_a_parabola():
    parabola = np.arange(12.0)[None] ** 2
    assert smooth(parabola, np.array([12]), window=7) == pytest.approx(parabola)
