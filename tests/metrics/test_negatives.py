import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillmotion.metrics.negatives import hardest_negatives


def test_hardest_negatives_are_the_best_scored_wrong_items_in_order():
    scores = np.array([[0.1, 0.9, 0.5, 0.5, 0.7], [0.2, 0.2, 0.2, 0.2, 0.2]])
    pairs = np.array([[0, 1], [1, 0]])
    assert hardest_negatives(scores, pairs, count=3).tolist() == [[4, 2, 3], [1, 2, 3]]
    assert hardest_negatives(scores, pairs, count=5).tolist() == [[4, 2, 3, 0, -1], [1, 2, 3, 4, -1]]


@given(st.integers(0, 2**32 - 1), st.integers(1, 7), st.integers(1, 7))
def test_hardest_negatives_are_those_of_a_full_sort(seed, num_queries, num_items):
    generator = np.random.default_rng(seed)
    scores = generator.integers(0, 4, size=(num_queries, num_items))
    pairs = np.stack([np.arange(num_queries), generator.integers(num_items, size=num_queries)], axis=1)
    for query, item in pairs:
        order = [i for i in np.argsort(-scores[query], kind="stable") if i != item][:5]
        assert hardest_negatives(scores, pairs)[query].tolist() == order + [-1] * (5 - len(order))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int8, np.uint8])
def test_every_dtype_orders_the_same_negatives(dtype):
    scores = np.array([[3, 1, 2, 0]], dtype=dtype)
    assert hardest_negatives(scores, np.array([[0, 1]]), count=2).tolist() == [[0, 2]]


def test_neighbours_in_float64_are_told_apart():
    scores = np.array([[1.0, np.nextafter(1.0, 2.0), 0.0]])
    assert hardest_negatives(scores, np.array([[0, 2]]), count=2).tolist() == [[1, 0]]


def test_the_lowest_finite_score_is_still_a_negative():
    lowest = np.finfo(np.float32).min
    scores = np.array([[lowest, 1.0, 0.0]], dtype=np.float32)
    assert hardest_negatives(scores, np.array([[0, 1]]), count=3).tolist() == [[2, 0, -1]]


def test_none_are_asked_for_and_none_given():
    assert hardest_negatives(np.eye(3), np.array([[0, 0]]), count=0).shape == (3, 0)
