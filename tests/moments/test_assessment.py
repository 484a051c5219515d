import numpy as np
import pytest

from stillmotion.metrics.submission import pad_windows
from stillmotion.moments.assessment import assess, frame_iou_by_threshold
from stillmotion.moments.curves import stack_curves
from stillmotion.moments.queries import EmbeddedQueries


def make_split(curves, true_frames):
    batch = stack_curves(
        [np.array(curve, float) for curve in curves],
        [np.ones(len(curve) - 1) for curve in curves],
        durations=[2.0 * len(curve) for curve in curves],
        clip_length_s=2.0,
    )
    true = np.zeros(batch.sc_QT.shape, dtype=bool)
    for row, frames in enumerate(true_frames):
        true[row, frames] = True
    windows = pad_windows([[[0.0, 2.0]]] * len(curves), columns=2, name="x", key="y")
    return EmbeddedQueries([], batch, windows, true)


HAND = make_split([[0.1, 0.3, 0.2, 0.1], [0.5, 0.9, 0.7], [0.4, 0.4]], [[1, 2], [2], [0]])
"""By `norm`: [0, 1, 0.5, 0], [0, 1, 0.5], and a constant curve, of which VC1 selects everything."""


def test_frame_iou_at_each_threshold_is_worked_by_hand():
    found = frame_iou_by_threshold(HAND, [0.4, 0.6])
    assert found == pytest.approx(np.array([[1, 1 / 2, 1 / 2], [1 / 2, 0, 1 / 2]]))


def test_the_result_is_in_percent_with_a_mean_over_thresholds_and_queries():
    result = assess(HAND, [0.4, 0.6], rng=np.random.default_rng(0))
    assert result["IoU"] == {"0.4": pytest.approx(200 / 3), "0.6": pytest.approx(100 / 3)}
    assert result["mean_IoU"] == pytest.approx(50)
    low, high = result["ci95"]["mean_IoU"]
    assert 25 <= low < 50 < high <= 75  # the queries' means are 75, 25 and 50


def test_the_interval_is_that_of_the_mean_of_resampled_queries():
    rng = np.random.default_rng(4)
    split = make_split(
        rng.uniform(0, 1, (400, 10)), [[int(first), int(first) + 1] for first in rng.integers(0, 9, 400)]
    )
    per_query = 100 * frame_iou_by_threshold(split, [0.5, 0.7]).mean(axis=0)
    low, high = assess(split, [0.5, 0.7], rng=np.random.default_rng(0))["ci95"]["mean_IoU"]
    half = 1.96 * per_query.std() / np.sqrt(len(per_query))  # by the central limit theorem
    assert (low, high) == (
        pytest.approx(per_query.mean() - half, abs=0.2),
        pytest.approx(per_query.mean() + half, abs=0.2),
    )


def test_a_positively_scaled_model_is_assessed_alike():
    scaled = make_split(
        [[3 * value for value in curve] for curve in ([0.1, 0.3, 0.2, 0.1], [0.5, 0.9, 0.7])], [[1], [2]]
    )
    plain = make_split([[0.1, 0.3, 0.2, 0.1], [0.5, 0.9, 0.7]], [[1], [2]])
    thresholds = [0.45, 0.55]
    assert (frame_iou_by_threshold(scaled, thresholds) == frame_iou_by_threshold(plain, thresholds)).all()


def test_no_queries_give_an_empty_result():
    assert assess(None, [0.5], rng=np.random.default_rng(0)) == {"IoU": {}, "mean_IoU": None, "ci95": {}}
