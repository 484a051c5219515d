import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillmotion.errors import InputError
from stillmotion.metrics.embedding_ranks import rank_embeddings
from stillmotion.metrics.negatives import hardest_negatives
from stillmotion.metrics.retrieval import rank_both_directions


def rng(seed=0):
    return np.random.default_rng(seed)


def diagonal(size):
    return np.stack([np.arange(size)] * 2, axis=1)


def literal(scores, relevant, share):
    """Rank of the best relevant item and average precision of one query, from the definition."""
    wrong = [score for item, score in enumerate(scores) if item not in relevant]
    above = sorted(
        sum(score > scores[item] for score in wrong) + share * sum(score == scores[item] for score in wrong)
        for item in relevant
    )
    return 1 + above[0], sum(j / (j + count) for j, count in enumerate(above, start=1)) / len(above)


def integer_case(seed, num_videos, num_texts):
    """Embeddings whose products are exact whatever the order of additions, with many ties."""
    generator = rng(seed)
    texts = generator.integers(-2, 3, size=(num_texts, 3)).astype(np.float32)
    videos = generator.integers(-2, 3, size=(num_videos, 3)).astype(np.float32)
    pairs = np.stack([generator.permutation(num_texts), generator.integers(num_videos, size=num_texts)], axis=1)
    return texts, videos, pairs


@settings(deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 6),
    st.integers(1, 9),
    st.sampled_from([1, 7, 20, 2**20]),
    st.sampled_from([("average", 0.5), ("optimistic", 0), ("pessimistic", 1)]),
)
def test_blocks_of_any_size_give_the_ranks_of_the_definition(seed, num_videos, num_texts, block_scores, rule):
    texts, videos, pairs = integer_case(seed, num_videos, num_texts)
    ties, share = rule
    found = rank_embeddings(texts, videos, pairs, ties=ties, block_scores=block_scores)
    scores = (texts @ videos.T).tolist()
    video_of = dict(pairs.tolist())
    t2v = [literal(row, {video_of[text]}, share) for text, row in enumerate(scores)]
    assert found.directions["t2v"].ranks_Q.tolist() == [rank for rank, _ in t2v]
    assert found.directions["t2v"].average_precisions_Q == pytest.approx([precision for _, precision in t2v])
    asking = sorted(set(video_of.values()))
    columns = [[row[video] for row in scores] for video in asking]
    captions = [{text for text in video_of if video_of[text] == video} for video in asking]
    v2t = [literal(column, own, share) for column, own in zip(columns, captions, strict=True)]
    assert found.directions["v2t"].ranks_Q.tolist() == [rank for rank, _ in v2t]
    assert found.directions["v2t"].average_precisions_Q == pytest.approx([precision for _, precision in v2t])
    if len(asking) < num_texts:
        best = [[max(column[text] for text in own) for own in captions] for column in columns]
        expected = [literal(row, {number}, share)[0] for number, row in enumerate(best)]
        assert found.directions["v2t_caption_max"].ranks_Q.tolist() == expected
    else:
        assert "v2t_caption_max" not in found.directions
    for text, row in enumerate(scores):
        order = [item for item in np.argsort(-np.array(row), kind="stable") if item != video_of[text]][:5]
        assert found.negatives_TK[text].tolist() == order + [-1] * (5 - len(order))


def test_embeddings_rank_as_their_matrix_does():
    texts, videos = rng().standard_normal((300, 32)), rng(1).standard_normal((120, 32))
    pairs = np.stack([np.arange(300), np.arange(300) % 100], axis=1)  # three captions a video; 20 videos have none
    found = rank_embeddings(texts, videos, pairs, block_scores=7000)
    scores = texts @ videos.T
    expected = rank_both_directions(scores, pairs)
    assert found.directions.keys() == expected.keys() == {"t2v", "v2t", "v2t_caption_max"}
    for name, ranks in expected.items():
        assert found.directions[name].ranks_Q.tolist() == ranks.ranks_Q.tolist()
        assert found.directions[name].average_precisions_Q.tolist() == ranks.average_precisions_Q.tolist()
    assert found.negatives_TK.tolist() == hardest_negatives(scores, pairs).tolist()


@pytest.mark.parametrize("block_scores", [2**12, 2**24])
def test_equal_items_tie_exactly_wherever_they_stand(block_scores):
    # a plain product of these fails: its last columns are added up in another order
    videos = rng().standard_normal((501, 512)).astype(np.float32)
    videos = np.concatenate([videos, videos])
    texts = rng(1).standard_normal((501, 512)).astype(np.float32)
    found = rank_embeddings(texts, videos, diagonal(501), block_scores=block_scores)
    scores = texts.astype(np.float64) @ videos[:501].T.astype(np.float64)
    higher = (scores > scores.diagonal()[:, None]).sum(axis=1)
    # each higher video counts twice, and the copy of the relevant one is tied with it: half a place
    assert found.directions["t2v"].ranks_Q.tolist() == (1 + 2 * higher + 0.5).tolist()


def test_a_read_only_half_precision_embedding_is_ranked():
    texts = np.eye(3, dtype=np.float16)
    texts.flags.writeable = False
    found = rank_embeddings(texts, texts, diagonal(3), num_negatives=0)
    assert found.directions["t2v"].ranks_Q.tolist() == found.directions["v2t"].ranks_Q.tolist() == [1, 1, 1]
    assert found.negatives_TK.shape == (3, 0)


def test_memory_stays_a_few_blocks_however_many_there_are():
    texts, videos = (rng(seed).standard_normal((3000, 4)).astype(np.float32) for seed in (0, 1))
    tracemalloc.start()
    rank_embeddings(texts, videos, diagonal(3000), block_scores=60_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * 2**20  # the matrix is 36 MB


@pytest.mark.parametrize(
    ("texts", "videos", "pairs", "message"),
    [
        (np.ones((2, 3)), np.ones((2, 4)), diagonal(2), "3 dimensions, video embeddings 4; give those of one model"),
        (np.ones(3), np.ones((2, 3)), diagonal(2), "text embeddings have shape"),
        (np.ones((2, 3)), np.ones((2, 3), dtype=int), diagonal(2), "video embeddings .* dtype int64"),
        (np.ones((0, 3)), np.ones((2, 3)), diagonal(2), "text embeddings have shape"),
        (np.array([[1.0], [np.nan]]), np.ones((2, 1)), diagonal(2), "text embedding 1 .* not finite"),
        (np.ones((2, 1)), np.array([[1.0], [-np.inf]]), diagonal(2), "video embedding 1 .* not finite"),
        (np.full((2, 1), 1e30, np.float32), np.ones((2, 1)), diagonal(2), "text embedding 0 .* far too long"),
        (np.ones((3, 1)), np.ones((2, 1)), diagonal(2), "query 2 .* no relevant item"),
        (np.ones((2, 1)), np.ones((2, 1)), diagonal(3), "outside"),
    ],
)
def test_embeddings_that_do_not_fit_are_an_error_that_says_how(texts, videos, pairs, message):
    with pytest.raises(InputError, match=message):
        rank_embeddings(texts, videos, pairs)
