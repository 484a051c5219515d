"""Retrieval metrics as expectations over the orders of items of equal score, each order as likely as another.

In closed form, nothing is drawn. Source: McSherry and Najork 2008, "Computing Information Retrieval Performance
Measures Efficiently in the Presence of Tied Scores". MedR has no such form: it is the median of the queries' expected
ranks, which is not the expectation of the median.
"""

# Q queries, G gallery items, P relevant pairs; L levels: the relevant items of a query at one score.

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stillmotion.metrics.retrieval import Pairs, QueryRanks, Scores, irrelevant_above, num_relevant


@dataclass(frozen=True, slots=True)
class ExpectedRanks(QueryRanks):
    """Expected ranks and average precisions, and what the rank of the best relevant item depends on."""

    higher_Q: NDArray[np.int64]
    """Irrelevant items above the best relevant one."""
    tied_Q: NDArray[np.int64]
    """Irrelevant items of its score."""
    relevant_Q: NDArray[np.int64]
    """Relevant items of its score, itself among them."""

    def hits(self, k: int) -> NDArray[np.float64]:
        """The chance (Q,) that a relevant item is among the first `k`."""
        missed_Q = np.ones(len(self.ranks_Q))
        for place in range(k):
            share_Q = np.maximum(self.tied_Q - place, 0) / np.maximum(self.tied_Q + self.relevant_Q - place, 1)
            missed_Q *= np.where(self.higher_Q + place < k, share_Q, 1.0)
        return 1.0 - missed_Q

    def reciprocals(self) -> NDArray[np.float64]:
        """The expectation (Q,) of 1 / rank.

        Example: of four equal items two are relevant: 1/2 · 1 + 1/3 · 1/2 + 1/6 · 1/3 = 13/18.
        """
        total_Q, missed_Q = np.zeros(len(self.ranks_Q)), np.ones(len(self.ranks_Q))
        for place in range(int(self.tied_Q.max()) + 1):
            share_Q = self.relevant_Q / np.maximum(self.tied_Q + self.relevant_Q - place, 1)
            total_Q += missed_Q * share_Q / (self.higher_Q + place + 1)
            missed_Q *= np.maximum(1.0 - share_Q, 0.0)
        return total_Q


def expect_ranks(scores_QG: Scores, pairs_P2: Pairs) -> ExpectedRanks:
    """The expectations of each query (row).

    At a level of r relevant among n equal items, below `above` items of which `before` are relevant, the i-th item is
    relevant with chance r / n, and then (i - 1)(r - 1)/(n - 1) relevant ones of the level are expected before it.

    Args:
        scores_QG: finite; higher is more similar.
        pairs_P2: index pairs of query and relevant item, sorted; at least one of each query.

    Raises:
        InputError: a query has no relevant item.
    """
    counts_Q = num_relevant(pairs_P2, len(scores_QG))
    higher_P, tied_P = irrelevant_above(scores_QG, pairs_P2, np.cumsum(counts_Q) - counts_Q, counts_Q)
    # Levels without an irrelevant item between them have none tied, and are as one: their order changes nothing.
    levels_L3, relevant_L = np.unique(np.stack([pairs_P2[:, 0], higher_P, tied_P], axis=1), axis=0, return_counts=True)
    query_L, higher_L, tied_L = levels_L3.T
    first_Q = np.searchsorted(query_L, np.arange(len(scores_QG)))
    before_L = np.cumsum(relevant_L) - relevant_L
    before_L -= before_L[first_Q][query_L]
    above_L, size_L = before_L + higher_L, relevant_L + tied_L
    harmonic_G1 = np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, scores_QG.shape[1] + 1))])
    slope_L = (relevant_L - 1) / np.maximum(size_L - 1, 1)
    # the sum over i of (before + 1 + slope · (i - 1)) / (above + i)
    sums_L = (before_L + 1 - slope_L * (above_L + 1)) * (harmonic_G1[above_L + size_L] - harmonic_G1[above_L])
    sums_L = (sums_L + slope_L * size_L) * relevant_L / size_L
    higher_Q, tied_Q, relevant_Q = higher_L[first_Q], tied_L[first_Q], relevant_L[first_Q]
    return ExpectedRanks(
        higher_Q + (tied_Q + relevant_Q + 1) / (relevant_Q + 1),
        np.add.reduceat(sums_L, first_Q) / counts_Q,
        higher_Q,
        tied_Q,
        relevant_Q,
    )
