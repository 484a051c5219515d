import time

import numpy as np
import pytest

from stillmotion.errors import InputError
from stillmotion.metrics.retrieval import QueryRanks, rank_queries
from stillmotion.metrics.retrieval_summary import METRICS, pessimistic_recall, score_retrieval, summarise


def diagonal(size):
    return np.stack([np.arange(size)] * 2, axis=1)


def rng():
    return np.random.default_rng(0)


def test_metrics_are_percentages_and_ranks_are_ranks():
    queries = QueryRanks(np.array([1.0, 2.0, 6.0, 20.0]), 1 / np.array([1.0, 2.0, 6.0, 20.0]))
    result = summarise(queries)
    assert list(result) == list(METRICS)
    mrr = 100 * (1 + 1 / 2 + 1 / 6 + 1 / 20) / 4
    expected = [25, 50, 50, 75, 4, 7.25, mrr, mrr]
    assert list(METRICS) == ["R@1", "R@2", "R@5", "R@10", "MedR", "MeanR", "MRR", "mAP"]
    assert list(result.values()) == pytest.approx(expected)


def test_a_first_token_embedding_scores_the_harmonic_mean_reciprocal_rank():
    # METHODS.md section 5: with the same embedding for all captions the ranks are a permutation
    scores = np.tile(rng().permutation(1000).astype(float), (1000, 1))
    result = summarise(rank_queries(scores, diagonal(1000)))
    assert result["MRR"] == pytest.approx(0.749, abs=0.001)


def test_a_constant_matrix_gets_the_middle_rank_and_not_a_perfect_score():
    result = summarise(rank_queries(np.zeros((11, 11)), diagonal(11)))
    assert result["R@1"] == result["R@5"] == 0
    assert result["MedR"] == result["MeanR"] == 6


def test_ten_equal_scores_have_rank_five_and_a_half_and_are_no_hit_at_five():
    result = summarise(rank_queries(np.zeros((10, 10)), diagonal(10)))
    assert [result[name] for name in METRICS] == pytest.approx([0, 0, 0, 100, 5.5, 5.5, 100 / 5.5, 100 / 5.5])


def test_captions_of_one_video_that_tie_in_a_perfect_matrix_cost_nothing():
    scores, pairs = np.repeat(np.eye(4), 3, axis=0), np.stack([np.arange(12), np.repeat(np.arange(4), 3)], axis=1)
    for ties in ("average", "expected", "pessimistic"):
        result = score_retrieval(scores, pairs, rng=rng(), ties=ties, num_resamples=10)
        assert [result[name]["R@1"] for name in ("t2v", "v2t", "v2t_caption_max")] == [100] * 3
        assert [result[name]["mAP"] for name in ("t2v", "v2t", "v2t_caption_max")] == pytest.approx([100] * 3)


def test_negative_cosines_are_ranked_as_positive_ones():
    # by falling score: irrelevant, relevant, irrelevant, relevant; precisions 1/2 and 2/4
    queries = rank_queries(np.array([[-0.9, -0.1, -0.2, -0.8]]), np.array([[0, 2], [0, 0]]))
    assert queries.average_precisions_Q.tolist() == [0.5]
    assert queries.ranks_Q.tolist() == [2]


def test_the_median_of_an_even_number_of_ranks_lies_between_two():
    ranks = np.array([1.0, 3.0, 4.0, 9.0])
    assert summarise(QueryRanks(ranks, 1 / ranks))["MedR"] == 3.5


def test_intervals_stand_beside_the_values_and_hold_them():
    scores = rng().standard_normal((200, 200)) + 2 * np.eye(200)
    result = score_retrieval(scores, diagonal(200), rng=rng())
    for direction in ("t2v", "v2t"):
        assert list(result[direction]) == [*METRICS, "ci95"]
        for name in METRICS:
            low, high = result[direction]["ci95"][name]
            assert low <= result[direction][name] <= high


def test_missing_queries_count_as_misses():
    assert pessimistic_recall(np.array([1.0, 2.0]), 2) == {"R@1": 25, "R@2": 50, "R@5": 50, "R@10": 50}
    with pytest.raises(InputError, match="there must be a query"):
        pessimistic_recall(np.empty(0), 0)


def test_a_rank_shared_by_a_tie_is_no_hit_below_it():
    # 1.5 is no hit at 1, 2.5 none at 2
    result = summarise(QueryRanks(np.array([1.5, 2.5]), 1 / np.array([1.5, 2.5])))
    assert [result[name] for name in ("R@1", "R@2", "R@5")] == [0, 50, 100]


def test_any_caption_stands_under_both_its_names_with_one_interval():
    scores = rng().standard_normal((60, 30))
    result = score_retrieval(scores, np.stack([np.arange(60), np.arange(60) % 30], axis=1), rng=rng())
    assert list(result) == ["t2v", "v2t", "v2t_caption_max", "v2t_any_caption"]
    assert result["v2t"] == result["v2t_any_caption"]
    assert result["v2t"]["MeanR"] > result["v2t_caption_max"]["MeanR"]  # 60 captions against 30 videos


def test_five_thousand_texts_and_videos_score_in_seconds():
    scores = rng().standard_normal((5000, 5000), dtype=np.float32)
    start = time.perf_counter()
    score_retrieval(scores, diagonal(5000), rng=rng())
    assert time.perf_counter() - start < 8  # 0.7 s on two free cores; the margin is for busy ones
