"""What a retrieval system confuses: each query's rank and its best-scored wrong items."""

# Q queries, G gallery items, K negatives a query.

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stillmotion.metrics.retrieval import (
    CHUNK_SCORES,
    Scores,
    TieRule,
    check_scores,
    rank_queries,
    relevance_pairs,
)


def hardest_negatives(scores_QG: Scores, relevance: NDArray[Any], *, count: int = 5) -> NDArray[np.int64]:
    """Item indices (Q, count) of the best-scored irrelevant items, best first; equal scores by index.

    Where a query has fewer irrelevant items the rest is -1.
    """
    scores_QG = check_scores(scores_QG)
    pairs_P2 = relevance_pairs(relevance, scores_QG.shape)
    num_queries, num_items = scores_QG.shape
    negatives_QK = np.full((num_queries, count), -1, dtype=np.int64)
    rows = max(1, CHUNK_SCORES // num_items)
    for start in range(0, num_queries, rows):
        block = scores_QG[start : start + rows].astype(np.float64)
        here = slice(*np.searchsorted(pairs_P2[:, 0], [start, start + len(block)]))
        block[pairs_P2[here, 0] - start, pairs_P2[here, 1]] = -np.inf
        last = max(num_items - count, 0)
        least_kept = np.partition(block, last, axis=1)[:, last]
        row, item = np.nonzero((block >= least_kept[:, None]) & (block > -np.inf))
        order = np.lexsort((item, -block[row, item], row))
        row, item = row[order], item[order]
        place = np.arange(len(row)) - np.searchsorted(row, row)
        kept = place < count
        negatives_QK[start + row[kept], place[kept]] = item[kept]
    return negatives_QK


def rank_table(
    scores_QG: Scores, relevance: NDArray[Any], *, ties: TieRule = "average", num_negatives: int = 5
) -> list[tuple[float, float, list[int]]]:
    """One entry a query for a table: rank, average precision, indices of the hardest negatives."""
    queries = rank_queries(scores_QG, relevance, ties=ties)
    negatives_QK = hardest_negatives(scores_QG, relevance, count=num_negatives)
    return [
        (float(rank), float(precision), [item for item in negatives if item >= 0])
        for rank, precision, negatives in zip(
            queries.ranks_Q, queries.average_precisions_Q, negatives_QK.tolist(), strict=True
        )
    ]
