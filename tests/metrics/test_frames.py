import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, jaccard_score, precision_score, recall_score

from stillmotion.errors import InputError
from stillmotion.metrics.frames import FRAME_METRICS, frame_metrics, frame_values


def masks(*rows):
    return np.array(rows, dtype=bool)


def test_the_worked_example_of_the_docstring():
    valid = np.ones((1, 4), dtype=bool)
    values = frame_values(masks([1, 1, 0, 0]), masks([0, 1, 1, 0]), valid)
    assert [values[name][0] for name in FRAME_METRICS] == pytest.approx([1 / 2, 1 / 2, 1 / 2, 1 / 2, 1 / 3, 0, 0])


def test_metrics_are_means_over_queries_and_not_over_frames():
    selected, true = masks([1, 0, 0, 0], [1, 1, 0, 0]), masks([1, 1, 1, 1], [1, 1, 0, 0])
    result = frame_metrics(selected, true, masks([1, 1, 1, 1], [1, 1, 0, 0]))
    assert result["precision"] == 100
    assert result["recall"] == pytest.approx(62.5)
    assert result["F1"] == pytest.approx(100 * (0.4 + 1) / 2)
    assert result["AP@0.5"] == result["AP@0.7"] == 50


def test_an_overlap_of_exactly_the_threshold_reaches_it():
    true = np.ones((1, 10), dtype=bool)
    selected = masks([1] * 7 + [0] * 3)
    assert frame_metrics(selected, true, true)["AP@0.7"] == 100


def test_nothing_selected_scores_zero_and_no_error():
    result = frame_metrics(masks([0, 0]), masks([1, 0]), masks([1, 1]))
    assert result == dict.fromkeys(FRAME_METRICS, 0.0) | {"accuracy": 50.0}


@pytest.mark.slow
@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 12))
def test_each_query_agrees_with_scikit_learn_whatever_stands_in_the_padding(seed, num_queries, num_frames):
    generator = np.random.default_rng(seed)
    selected, true = generator.random((2, num_queries, num_frames)) < 0.5
    lengths = generator.integers(1, num_frames + 1, size=num_queries)
    values = frame_values(selected, true, np.arange(num_frames) < lengths[:, None])
    for query, length in enumerate(lengths):
        pair = true[query, :length], selected[query, :length]
        assert values["accuracy"][query] == pytest.approx(accuracy_score(*pair))
        for name, metric in (("precision", precision_score), ("recall", recall_score), ("F1", f1_score)):
            assert values[name][query] == pytest.approx(metric(*pair, zero_division=0))
        assert values["IoU"][query] == pytest.approx(jaccard_score(*pair, zero_division=0))


def test_masks_that_do_not_fit_are_an_error():
    with pytest.raises(InputError, match="shapes"):
        frame_values(masks([1, 0]), masks([1]), masks([1, 1]))
    with pytest.raises(InputError, match="no frames"):
        frame_values(masks([1, 0]), masks([1, 0]), masks([0, 0]))
