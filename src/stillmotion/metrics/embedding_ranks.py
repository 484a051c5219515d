"""Ranks and hardest negatives of galleries whose score matrix does not fit in memory.

Scores are dot products, cosines where the embeddings have unit length. A block of queries is scored with the whole
gallery at a time, so what is compared was made by one matrix product, and equal items get equal scores. A matrix
product alone does not give them: BLAS adds up its last columns in another order, which changes a score's last bit.
"""

# T texts, V videos, Q queries, G gallery items, D dimensions, K negatives a text; W videos that have a text.

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stillmotion.errors import InputError
from stillmotion.metrics.negatives import hardest_negatives
from stillmotion.metrics.retrieval import (
    QueryRanks,
    Scores,
    TieRule,
    num_relevant,
    pairs_of_rows,
    rank_directions,
    rank_queries,
    relevance_pairs,
    video_directions,
    video_queries,
)

BLOCK_SCORES = 2**24
"""Scores held at once, 64 MiB in float32; the peak above the embeddings is a few times that."""

Embeddings = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class EmbeddingRanks:
    """What `rank_both_directions` and `hardest_negatives` tell of a score matrix."""

    directions: dict[str, QueryRanks]
    """`t2v`, `v2t` and, where a video has several captions, `v2t_caption_max`."""
    negatives_TK: NDArray[np.int64]
    """Of each text the best-scored irrelevant videos, best first; -1 where there are no more."""


def rank_embeddings(
    texts_TD: Embeddings,
    videos_VD: Embeddings,
    relevance: NDArray[Any],
    *,
    ties: TieRule = "average",
    num_negatives: int = 5,
    block_scores: int = BLOCK_SCORES,
) -> EmbeddingRanks:
    """Rank in both directions by the dot products of embeddings, a block of queries at a time.

    Args:
        texts_TD: one embedding a text.
        videos_VD: one embedding a video, of the same model.
        relevance: integer pairs (P, 2) of text and video, or a boolean matrix.
        ties: see `rank_queries`.
        num_negatives: K.
        block_scores: how many scores are held at once, but at least those of one query.

    Raises:
        InputError: the embeddings do not fit each other, one of them is not finite, or a text has no relevant video.
    """
    texts_TD, videos_VD = _multipliable(texts_TD, "text"), _multipliable(videos_VD, "video")
    if texts_TD.shape[1] != videos_VD.shape[1]:
        raise InputError(
            f"text embeddings have {texts_TD.shape[1]} dimensions, video embeddings {videos_VD.shape[1]}; "
            "give those of one model"
        )
    pairs_TV = relevance_pairs(relevance, (len(texts_TD), len(videos_VD)))
    num_relevant(pairs_TV, len(texts_TD))
    text_ranks, negatives = [], []
    for start, scores in _score_blocks(texts_TD, videos_VD, block_scores):
        own = pairs_of_rows(pairs_TV, slice(start, start + len(scores)))
        text_ranks.append(rank_queries(scores, own, ties=ties))
        negatives.append(hardest_negatives(scores, own, count=num_negatives))
    queries = video_queries(pairs_TV, len(texts_TD))
    asking_WD = videos_VD if len(queries.videos_W) == len(videos_VD) else videos_VD[queries.videos_W]
    video_ranks = [
        rank_directions(video_directions(scores, queries, start=start), ties=ties)
        for start, scores in _score_blocks(asking_WD, texts_TD, block_scores)
    ]
    directions = {name: _joined([ranks[name] for ranks in video_ranks]) for name in video_ranks[0]}
    return EmbeddingRanks({"t2v": _joined(text_ranks), **directions}, np.concatenate(negatives))


def _multipliable(embeddings_ND: Embeddings, name: str) -> Embeddings:
    """The embeddings as float32 or wider, of which no dot product can overflow."""
    if embeddings_ND.ndim != 2 or 0 in embeddings_ND.shape or embeddings_ND.dtype.kind != "f":
        raise InputError(
            f"{name} embeddings have shape {embeddings_ND.shape} and dtype {embeddings_ND.dtype}; give a matrix "
            "of floats, a row for each"
        )
    if embeddings_ND.dtype == np.float16:
        embeddings_ND = embeddings_ND.astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        squares_N = np.einsum("nd,nd->n", embeddings_ND, embeddings_ND, dtype=np.float64)
    # by Cauchy and Schwarz a product is at most the root of two such squares
    bad = np.flatnonzero(~(squares_N <= np.finfo(embeddings_ND.dtype).max))
    if len(bad):
        raise InputError(f"{name} embedding {bad[0]} (from 0) is not finite or far too long; give it unit length")
    return embeddings_ND


def _score_blocks(queries_QD: Embeddings, items_GD: Embeddings, block_scores: int) -> Iterator[tuple[int, Scores]]:
    """The first query of each block, and the block's scores with all items; equal items have equal scores."""
    first_of: dict[bytes, int] = {}
    digests = (hashlib.blake2b(item_D.tobytes(), digest_size=16).digest() for item_D in items_GD)
    first_G = np.array([first_of.setdefault(digest, number) for number, digest in enumerate(digests)])
    repeated = np.flatnonzero(first_G < np.arange(len(items_GD)))
    rows = max(1, block_scores // len(items_GD))
    for start in range(0, len(queries_QD), rows):
        scores_BG = queries_QD[start : start + rows] @ items_GD.T
        scores_BG[:, repeated] = scores_BG[:, first_G[repeated]]
        yield start, scores_BG


def _joined(blocks: Sequence[QueryRanks]) -> QueryRanks:
    return QueryRanks(
        np.concatenate([block.ranks_Q for block in blocks]),
        np.concatenate([block.average_precisions_Q for block in blocks]),
    )
