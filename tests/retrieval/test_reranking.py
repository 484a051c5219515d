import numpy as np

from stillmotion.retrieval.reranking import best_items, rerank, rescore_best


def test_best_items_come_best_first_and_ties_by_index():
    scores = np.array([[0.1, 0.5, 0.3, 0.5], [0.0, -1.0, 0.2, 0.1]])
    assert best_items(scores, 3).tolist() == [[1, 3, 2], [2, 3, 0]]
    assert best_items(scores, 9).shape == (2, 4)


def test_items_that_are_not_scored_again_keep_their_order_below_the_others():
    scores = np.array([[0.9, 0.1, 0.8, 0.2]], np.float32)
    # cosines, the logarithms of two probabilities, and what a model gives everything
    for again in ([-0.5, 0.05], [-9.0, -8.5], [-800.0, 700.0]):
        reranked = rerank(scores, np.array([[0, 2]]), np.array([again]))
        assert np.argsort(-reranked[0]).tolist() == [2, 0, 3, 1]
        assert reranked[0, [1, 3]].tolist() == scores[0, [1, 3]].tolist()


def test_the_best_of_each_text_and_of_each_video_are_scored_again_and_each_pair_once():
    # texts × videos; the best video of texts 0, 1, 2 is 0, 0, 2; the best text of videos 0, 1, 2 is 0, 1, 2
    scores = np.array([[0.9, 0.1, 0.2], [0.8, 0.3, 0.4], [0.1, 0.2, 0.7]])
    again = np.array([[0.1, 0.9, 0.9], [0.5, 0.2, 0.9], [0.9, 0.9, 0.3]])
    asked = []

    def score_pairs(pairs):
        asked.extend(map(tuple, pairs.tolist()))
        return again[pairs[:, 0], pairs[:, 1]]

    t2v, v2t = rescore_best(scores, score_pairs, top_k=1, texts_T=range(3), videos_V=range(3))
    assert sorted(asked) == [(0, 0), (1, 0), (1, 1), (2, 2)]
    np.testing.assert_allclose(t2v, [[1.9, 0.1, 0.2], [1.8, 0.3, 0.4], [0.1, 0.2, 1.7]])
    np.testing.assert_allclose(v2t, [[1.9, 0.1, 0.2], [0.8, 1.3, 0.4], [0.1, 0.2, 1.7]])


def test_with_a_top_of_everything_the_order_is_that_of_the_new_scores():
    rng = np.random.default_rng(0)
    scores, again = rng.uniform(-1, 1, (2, 6, 5))
    t2v, v2t = rescore_best(
        scores, lambda pairs: again[pairs[:, 0], pairs[:, 1]], top_k=10, texts_T=range(6), videos_V=range(5)
    )
    assert np.argsort(t2v, axis=1).tolist() == np.argsort(again, axis=1).tolist()
    assert np.argsort(v2t, axis=0).tolist() == np.argsort(again, axis=0).tolist()


def test_equal_texts_and_equal_videos_share_the_scores_of_the_first_of_them():
    rng = np.random.default_rng(0)
    texts, videos = (rng.standard_normal((count, 128)).astype(np.float32) for count in (30, 50))
    texts[[0, 29]], videos[[0, 49]] = texts[7], videos[20]
    asked = []

    def score_pairs(pairs):
        asked.extend(map(tuple, pairs.tolist()))
        return rng.standard_normal(len(pairs))

    texts_T, videos_V = ([row.tobytes() for row in rows] for rows in (texts, videos))
    for direction in rescore_best(texts @ videos.T, score_pairs, top_k=50, texts_T=texts_T, videos_V=videos_V):
        assert (direction[[7, 29]] == direction[0]).all()
        assert (direction[:, [20, 49]] == direction[:, [0]]).all()
    assert len(asked) == 28 * 48
    assert not {text for text, _ in asked} & {7, 29}
    assert not {video for _, video in asked} & {20, 49}
