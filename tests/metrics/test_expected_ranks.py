from fractions import Fraction
from itertools import permutations

import numpy as np
import pytest

from stillmotion.errors import InputError
from stillmotion.metrics.expected_ranks import expect_ranks
from stillmotion.metrics.retrieval import rank_queries
from stillmotion.metrics.retrieval_summary import METRICS, query_statistics, score_retrieval


def over_all_orders(scores, relevant):
    """R@1, 2, 5, 10, rank, 1 / rank and average precision, exact: the means over all orders that the scores allow."""
    orders = [order for order in permutations(range(len(scores))) if (np.diff(scores[list(order)]) <= 0).all()]
    total = [Fraction(0)] * 7
    for order in orders:
        places = [place for place, item in enumerate(order, 1) if item in relevant]
        precisions = [Fraction(found, place) for found, place in enumerate(places, 1)]
        row = [*(places[0] <= k for k in (1, 2, 5, 10)), places[0], Fraction(1, places[0])]
        total = [one + value for one, value in zip(total, [*row, sum(precisions) / len(precisions)], strict=True)]
    return [float(value / len(orders)) for value in total]


@pytest.mark.parametrize("seed", range(6))
def test_expectations_are_the_means_over_all_orders_of_what_is_tied(seed):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 3, (8, 7)) / 2
    relevance = rng.random((8, 7)) < rng.random((8, 1))
    relevance[np.arange(8), rng.integers(0, 7, 8)] = True
    values_MQ, _ = query_statistics(expect_ranks(scores, np.argwhere(relevance)))
    for row in range(8):
        found = dict(zip(METRICS, values_MQ[:, row], strict=True))
        *hits, rank, reciprocal, precision = over_all_orders(scores[row], set(np.flatnonzero(relevance[row])))
        assert [found[f"R@{k}"] for k in (1, 2, 5, 10)] == pytest.approx([100 * hit for hit in hits], abs=1e-11)
        assert found["MeanR"] == pytest.approx(rank, abs=1e-13)
        assert found["MRR"] == pytest.approx(100 * reciprocal, abs=1e-11)
        assert found["mAP"] == pytest.approx(100 * precision, abs=1e-11)


def test_four_equal_items_of_which_two_are_relevant_are_worked_by_hand():
    """The first relevant one is first in 1/2 of the orders, second in 1/3, third in 1/6."""
    found = expect_ranks(np.zeros((1, 4)), np.array([[0, 1], [0, 3]]))
    assert found.ranks_Q.tolist() == pytest.approx([5 / 3])
    assert found.reciprocals().tolist() == pytest.approx([13 / 18])
    assert [found.hits(k)[0] for k in (1, 2, 3)] == pytest.approx([1 / 2, 5 / 6, 1])
    average = rank_queries(np.zeros((1, 4)), np.array([[0, 1], [0, 3]]))
    assert average.reciprocals().tolist() == [1 / 2]


def test_without_ties_expectations_are_what_is():
    rng = np.random.default_rng(0)
    scores, relevance = rng.permutation(600).reshape(20, 30), rng.random((20, 30)) < 0.2
    relevance[:, 0] = True
    expected, plain = (
        query_statistics(make)[0]
        for make in (expect_ranks(scores, np.argwhere(relevance)), rank_queries(scores, relevance))
    )
    np.testing.assert_allclose(expected, plain, rtol=1e-12)


def test_one_relevant_item_among_thousands_of_equals_has_the_mean_of_its_places():
    found = expect_ranks(np.zeros((2, 4000)), np.array([[0, 7], [1, 0]]))
    reciprocal = sum(1 / place for place in range(1, 4001)) / 4000
    assert found.ranks_Q.tolist() == [2000.5] * 2
    assert found.reciprocals().tolist() == pytest.approx([reciprocal] * 2, rel=1e-12)
    assert found.average_precisions_Q.tolist() == pytest.approx([reciprocal] * 2, rel=1e-12)
    assert found.hits(10).tolist() == pytest.approx([10 / 4000] * 2, rel=1e-12)


def test_videos_are_expected_by_both_conventions_and_their_median_is_that_of_expected_ranks():
    texts_of_video = np.array([0, 0, 1, 2])
    pairs = np.stack([np.arange(4), texts_of_video], axis=1)
    result = score_retrieval(np.zeros((4, 3)), pairs, ties="expected", rng=np.random.default_rng(0), num_resamples=10)
    assert result["t2v"]["R@1"] == pytest.approx(100 / 3)
    assert result["v2t"]["MeanR"] == pytest.approx((5 / 3 + 5 / 2 + 5 / 2) / 3)
    assert result["v2t"]["MedR"] == 2.5
    assert result["v2t_caption_max"]["MeanR"] == 2


def test_a_query_without_a_relevant_item_is_named():
    with pytest.raises(InputError, match="query 1 .from 0. has no relevant item"):
        expect_ranks(np.zeros((2, 2)), np.array([[0, 1]]))
