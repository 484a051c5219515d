"""What a retrieval system confuses: each query's best-scored wrong items."""

# Q queries, G gallery items, K negatives a query.

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stillmotion.metrics.retrieval import CHUNK_SCORES, Scores, check_scores, relevance_pairs


def hardest_negatives(scores_QG: Scores, relevance: NDArray[Any], *, count: int = 5) -> NDArray[np.int64]:
    """Item indices (Q, count) of the best-scored irrelevant items, best first; equal scores by index.

    Where a query has fewer irrelevant items the rest is -1.
    """
    scores_QG = check_scores(scores_QG)
    pairs_P2 = relevance_pairs(relevance, scores_QG.shape)
    num_queries, num_items = scores_QG.shape
    negatives_QK = np.full((num_queries, count), -1, dtype=np.int64)
    dtype = scores_QG.dtype if scores_QG.dtype.kind == "f" else np.dtype(np.float64)
    last = min(max(num_items - count, 0), num_items - 1)
    rows = max(1, CHUNK_SCORES // num_items)
    for start in range(0, num_queries, rows):
        block = scores_QG[start : start + rows].astype(dtype)
        here = slice(*np.searchsorted(pairs_P2[:, 0], [start, start + len(block)]))
        block[pairs_P2[here, 0] - start, pairs_P2[here, 1]] = -np.inf
        least_kept = np.maximum(np.partition(block, last, axis=1)[:, last], np.finfo(dtype).min)
        row, item = np.divmod(np.flatnonzero(block >= least_kept[:, None]), num_items)
        order = np.lexsort((item, -block[row, item], row))
        row, item = row[order], item[order]
        place = np.arange(len(row)) - np.searchsorted(row, row)
        kept = place < count
        negatives_QK[start + row[kept], place[kept]] = item[kept]
    return negatives_QK
