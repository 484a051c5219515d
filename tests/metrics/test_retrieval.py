import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from stillmotion.errors import InputError
from stillmotion.metrics.retrieval import rank_both_directions, rank_queries


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
    assert queries.average_precisions_Q.tolist() == (1 / expected).tolist()


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
    ranks = rank_both_directions(scores, np.array([[0, 0], [1, 0], [2, 1]]))
    assert list(ranks) == ["t2v", "v2t", "v2t_caption_max"]
    assert ranks["t2v"].ranks_Q.tolist() == [1, 2, 1]
    # video 1 ranks the captions 0.8, 0.7, 0.6: its own is third; among videos max(0.8, 0.7) beats 0.6
    assert ranks["v2t"].ranks_Q.tolist() == [1, 3]
    assert ranks["v2t_caption_max"].ranks_Q.tolist() == [1, 2]
    # of video 0 the captions are first and third: (1/1 + 2/3) / 2
    assert ranks["v2t"].average_precisions_Q == pytest.approx([5 / 6, 1 / 3])
    assert ranks["v2t_caption_max"].average_precisions_Q.tolist() == [1, 1 / 2]


def test_captions_of_a_video_need_not_stand_together():
    # as above with the captions in another order, and a video in between that has none
    scores = np.array([[0.5, 9, 0.6], [0.1, 9, 0.7], [0.9, 9, 0.8]])
    ranks = rank_both_directions(scores, np.array([[0, 2], [1, 0], [2, 0]]))
    assert ranks["t2v"].ranks_Q.tolist() == [2, 3, 2]
    assert ranks["v2t"].ranks_Q.tolist() == [1, 3]
    assert ranks["v2t_caption_max"].ranks_Q.tolist() == [1, 2]


@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_the_caption_conventions_agree_with_their_definitions_under_ties(seed, num_videos):
    generator = np.random.default_rng(seed)
    video_of = generator.permutation(np.concatenate([np.arange(num_videos), generator.integers(num_videos, size=3)]))
    scores = generator.integers(0, 4, size=(len(video_of), num_videos))
    ranks = rank_both_directions(scores, np.stack([np.arange(len(video_of)), video_of], axis=1))
    for video in range(num_videos):
        column = scores[:, video]
        own, others = column[video_of == video].max(), column[video_of != video]
        assert ranks["v2t"].ranks_Q[video] == 1 + (others > own).sum() + (others == own).sum() / 2
        best = np.array([column[video_of == other].max() for other in range(num_videos) if other != video])
        expected = 1 + (best > own).sum() + (best == own).sum() / 2
        assert ranks["v2t_caption_max"].ranks_Q[video] == expected


def test_one_caption_a_video_has_one_convention():
    assert set(rank_both_directions(rng().standard_normal((20, 20)), diagonal(20))) == {"t2v", "v2t"}


def test_a_video_without_text_stays_in_the_gallery_and_asks_nothing():
    ranks = rank_both_directions(np.array([[0.5, 0.9], [0.7, 0.1]]), np.array([[0, 0], [1, 0]]))
    assert ranks["t2v"].ranks_Q.tolist() == [2, 1]
    assert ranks["v2t"].ranks_Q.tolist() == [1]


def test_a_text_of_two_videos_is_an_answer_to_both():
    ranks = rank_both_directions(np.array([[0.5, 0.9], [0.7, 0.1]]), np.array([[0, 0], [0, 1], [1, 0]]))
    assert list(ranks) == ["t2v", "v2t"]  # no caption_max: a text has no video of its own
    assert ranks["v2t"].ranks_Q.tolist() == [1, 1]
