"""Dual softmax: scores weighed by how much each gallery item is a query's own among all queries.

A trick of inference that knows the whole test set: it needs all queries at once, and gains where each item answers
one of them. Its results are systems of their own (METHODS.md section 1).
"""

# Q queries, G gallery items, B gallery items of a block.

import numpy as np
from numpy.typing import NDArray

from stillmotion.metrics.retrieval import CHUNK_SCORES, Scores, check_scores


def dual_softmax(scores_QG: Scores, *, tau: float) -> NDArray[np.float64]:
    """Each score times the softmax over all queries of τ times the scores of its gallery item.

    Example: two queries with scores [.5, .4] of one item and τ = 10: softmax 1 / (1 + e⁻¹) = .731 and .269, so .366
    and .108. A query's items are ranked by the product; a score below zero comes the nearer to it, the less the item
    is the query's own.

    Source: Cheng et al. 2021, "Improving Video-Text Retrieval by Multi-Stream Corpus Alignment and Dual Softmax Loss",
    as papers/mug-stan.txt has it for table II, which says no temperature; τ is CLIP's 100 in common use.

    Args:
        scores_QG: of every query with every item. For the other direction, its transpose.
        tau: inverse temperature of the softmax.

    Returns:
        Float64, in which no product vanishes while τ times the range of an item's scores is below 700. It is the one
        matrix beside the given one; the rest is held for a block of items.

    Raises:
        InputError: a score is not finite.
    """
    scores_QG = check_scores(scores_QG)
    products_QG = np.empty(scores_QG.shape, dtype=np.float64)
    columns = max(1, CHUNK_SCORES // len(scores_QG))
    for start in range(0, scores_QG.shape[1], columns):
        own = slice(start, start + columns)
        scores_QB = scores_QG[:, own].astype(np.float64)
        shares_QB = np.exp(tau * (scores_QB - scores_QB.max(axis=0)))
        shares_QB /= shares_QB.sum(axis=0)
        products_QG[:, own] = scores_QB * shares_QB
    return products_QG
