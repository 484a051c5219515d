import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from stillmotion.errors import InputError
from stillmotion.metrics.negatives import hardest_negatives, rank_table
from stillmotion.metrics.retrieval import (
    METRICS,
    QueryRanks,
    caption_max_scores,
    pessimistic_recall,
    rank_queries,
    score_retrieval,
    summarise,
    video_to_text_ranks,
)


def diagonal(size):
    return np.stack([np.arange(size)] * 2, axis=1)


def rng():
    return np.random.default_rng(0)


SCORES = np.array([[0.9, 0.1, 0.3], [0.8, 0.5, 0.6], [0.1, 0.2, 0.7]])


def test_rank_is_one_plus_the_number_scored_higher():
    assert rank_queries(SCORES, diagonal(3)).ranks_Q.tolist() == [1, 3, 1]
    assert rank_queries(SCORES.T, diagonal(3)).ranks_Q.tolist() == [1, 1, 1]


@pytest.mark.parametrize(("ties", "rank"), [("average", 2.5), ("optimistic", 2), ("pessimistic", 3)])
def test_ties_share_the_rank_as_the_rule_says(ties, rank):
    scores = np.array([[0.9, 0.5, 0.5, 0.1]])
    assert rank_queries(scores, np.array([[0, 1]]), ties=ties).ranks_Q.tolist() == [rank]


def test_a_constant_matrix_gets_the_middle_rank_and_not_a_perfect_score():
    result = summarise(rank_queries(np.zeros((11, 11)), diagonal(11)))
    assert result["R@1"] == result["R@5"] == 0
    assert result["MedR"] == result["MeanR"] == 6


def test_a_tie_between_two_relevant_items_costs_nothing():
    queries = rank_queries(np.array([[0.5, 0.5, 0.1]]), np.array([[0, 0], [0, 1]]))
    assert queries.ranks_Q.tolist() == [1]
    assert queries.average_precisions_Q.tolist() == [1]


def test_tied_average_precision_is_worked_by_hand():
    scores, pairs = np.array([[0.9, 0.5, 0.5, 0.5, 0.1]]), np.array([[0, 1], [0, 4]])
    # item 1: one higher, two tied; item 4: three irrelevant higher
    for ties, rank in (("average", 3), ("optimistic", 2), ("pessimistic", 4)):
        queries = rank_queries(scores, pairs, ties=ties)
        assert queries.ranks_Q[0] == rank
        assert queries.average_precisions_Q[0] == pytest.approx((1 / rank + 2 / 5) / 2)


def test_metrics_are_percentages_and_ranks_are_ranks():
    queries = QueryRanks(np.array([1.0, 2.0, 6.0, 20.0]), 1 / np.array([1.0, 2.0, 6.0, 20.0]))
    result = summarise(queries)
    assert list(result) == list(METRICS)
    mrr = 100 * (1 + 1 / 2 + 1 / 6 + 1 / 20) / 4
    expected = [25, 50, 75, 4, 7.25, mrr, mrr]
    assert list(result.values()) == pytest.approx(expected)


def test_a_first_token_embedding_scores_the_harmonic_mean_reciprocal_rank():
    # METHODS.md section 5: with the same embedding for all captions the ranks are a permutation
    scores = np.tile(rng().permutation(1000).astype(float), (1000, 1))
    result = summarise(rank_queries(scores, diagonal(1000)))
    assert result["MRR"] == pytest.approx(0.749, abs=0.001)


@given(st.integers(0, 2**32 - 1), st.integers(1, 8), st.integers(2, 9))
def test_average_precision_without_ties_is_that_of_scikit_learn(seed, num_queries, num_items):
    generator = np.random.default_rng(seed)
    scores = generator.permuted(np.tile(np.arange(num_items) / num_items, (num_queries, 1)), axis=1)
    relevance = generator.random((num_queries, num_items)) < 0.4
    relevance[np.arange(num_queries), generator.integers(num_items, size=num_queries)] = True
    expected = [average_precision_score(*row) for row in zip(relevance, scores, strict=True)]
    queries = rank_queries(scores, relevance)
    assert queries.average_precisions_Q == pytest.approx(expected)
    best = [1 + (row > row[true].max()).sum() for row, true in zip(scores, relevance, strict=True)]
    assert queries.ranks_Q.tolist() == best


@given(st.integers(0, 2**32 - 1), st.integers(1, 12))
def test_ranks_agree_with_the_definition_under_ties(seed, size):
    scores = np.random.default_rng(seed).integers(0, 4, size=(size, size))
    own = scores.diagonal()[:, None]
    expected = 1 + (scores > own).sum(axis=1) + ((scores == own).sum(axis=1) - 1) / 2
    queries = rank_queries(scores, diagonal(size))
    assert queries.ranks_Q.tolist() == expected.tolist()
    low, high = (rank_queries(scores, diagonal(size), ties=rule) for rule in ("optimistic", "pessimistic"))
    assert (low.ranks_Q <= queries.ranks_Q).all()
    assert (queries.ranks_Q <= high.ranks_Q).all()
    assert (low.ranks_Q + high.ranks_Q == 2 * queries.ranks_Q).all()
    assert summarise(queries)["MRR"] == summarise(queries)["mAP"]


def test_a_relevance_matrix_and_its_pairs_rank_alike():
    relevance = np.array([[True, False, True], [False, True, False], [True, True, True]])
    matrix, pairs = rank_queries(SCORES, relevance), rank_queries(SCORES, np.argwhere(relevance)[::-1])
    assert matrix.ranks_Q.tolist() == pairs.ranks_Q.tolist() == [1, 3, 1]
    assert matrix.average_precisions_Q.tolist() == pairs.average_precisions_Q.tolist()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_not_finite_is_an_error_that_names_its_place(bad):
    scores = SCORES.copy()
    scores[1, 2] = bad
    with pytest.raises(InputError, match="row 1, column 2"):
        rank_queries(scores, diagonal(3))


def test_finite_scores_whose_sum_overflows_are_accepted():
    scores = np.full((2, 2), 1.7e308)
    assert rank_queries(scores, diagonal(2)).ranks_Q.tolist() == [1.5, 1.5]


@pytest.mark.parametrize(
    ("relevance", "message"),
    [
        (np.array([[0, 0], [1, 1]]), "query 2"),
        (np.array([[0, 0], [1, 1], [2, 3]]), "outside"),
        (np.array([[0, 0], [1, 1], [-1, 2]]), "outside"),
        (np.array([[0, 0], [1, 1], [2, 2], [1, 1]]), "twice"),
        (np.eye(3), "boolean"),
        (np.eye(4, dtype=bool), "shape"),
    ],
)
def test_relevance_that_does_not_fit_is_an_error(relevance, message):
    with pytest.raises(InputError, match=message):
        rank_queries(SCORES, relevance)


def test_the_two_caption_conventions_differ_and_have_their_names():
    # captions 0 and 1 belong to video 0, caption 2 to video 1
    scores = np.array([[0.9, 0.8], [0.1, 0.7], [0.5, 0.6]])
    pairs = np.array([[0, 0], [1, 0], [2, 1]])
    # video 1 ranks the captions 0.8, 0.7, 0.6: its own is third; among videos max(0.8, 0.7) beats 0.6
    assert video_to_text_ranks(scores, pairs, convention="any_caption").ranks_Q.tolist() == [1, 3]
    assert video_to_text_ranks(scores, pairs, convention="caption_max").ranks_Q.tolist() == [1, 2]
    assert caption_max_scores(scores, pairs)[0].tolist() == [[0.9, 0.5], [0.8, 0.6]]
    result = score_retrieval(scores, pairs, rng=rng())
    assert result["v2t"] == result["v2t_any_caption"]
    assert result["v2t_any_caption"]["MeanR"] == 2
    assert result["v2t_caption_max"]["MeanR"] == 1.5


def test_one_caption_a_video_makes_the_conventions_equal():
    scores = rng().standard_normal((20, 20))
    both = [
        video_to_text_ranks(scores, diagonal(20), convention=name).ranks_Q.tolist()
        for name in ("any_caption", "caption_max")
    ]
    assert both[0] == both[1]
    assert set(score_retrieval(scores, diagonal(20), rng=rng())) == {"t2v", "v2t"}


def test_a_video_without_text_stays_in_the_gallery_and_asks_nothing():
    scores = np.array([[0.5, 0.9], [0.7, 0.1]])
    result = score_retrieval(scores, np.array([[0, 0], [1, 0]]), rng=rng())
    assert result["t2v"]["MeanR"] == 1.5
    assert result["v2t"]["MeanR"] == 1


def test_intervals_stand_beside_the_values_and_hold_them():
    scores = rng().standard_normal((200, 200)) + 2 * np.eye(200)
    result = score_retrieval(scores, diagonal(200), rng=rng())
    for direction in ("t2v", "v2t"):
        assert list(result[direction]) == [*METRICS, "ci95"]
        for name in METRICS:
            low, high = result[direction]["ci95"][name]
            assert low <= result[direction][name] <= high


def test_missing_queries_count_as_misses():
    assert pessimistic_recall(np.array([1.0, 2.0]), 2) == {"R@1": 25, "R@5": 50, "R@10": 50}


def test_hardest_negatives_are_the_best_scored_wrong_items_in_order():
    scores = np.array([[0.1, 0.9, 0.5, 0.5, 0.7], [0.2, 0.2, 0.2, 0.2, 0.2]])
    pairs = np.array([[0, 1], [1, 0]])
    assert hardest_negatives(scores, pairs, count=3).tolist() == [[4, 2, 3], [1, 2, 3]]
    assert hardest_negatives(scores, pairs, count=5).tolist() == [[4, 2, 3, 0, -1], [1, 2, 3, 4, -1]]
    assert rank_table(scores, pairs)[0] == (1, 1, [4, 2, 3, 0])


@given(st.integers(0, 2**32 - 1), st.integers(1, 7), st.integers(1, 7))
def test_hardest_negatives_are_those_of_a_full_sort(seed, num_queries, num_items):
    generator = np.random.default_rng(seed)
    scores = generator.integers(0, 4, size=(num_queries, num_items))
    pairs = np.stack([np.arange(num_queries), generator.integers(num_items, size=num_queries)], axis=1)
    for query, item in pairs:
        order = [i for i in np.argsort(-scores[query], kind="stable") if i != item][:5]
        assert hardest_negatives(scores, pairs)[query].tolist() == order + [-1] * (5 - len(order))


def test_five_thousand_texts_and_videos_score_in_seconds():
    scores = rng().standard_normal((5000, 5000), dtype=np.float32)
    start = time.perf_counter()
    score_retrieval(scores, diagonal(5000), rng=rng())
    assert time.perf_counter() - start < 8  # 0.7 s on two free cores; the margin is for busy ones
