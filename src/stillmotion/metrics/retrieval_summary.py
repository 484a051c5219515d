"""What text-video retrieval is reported by: R@K, MedR, MeanR, MRR, mAP, with bootstrap intervals.

METHODS.md section 1.
"""

# Q queries, M metrics; T texts, V videos.

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stillmotion.errors import InputError
from stillmotion.metrics.bootstrap import NUM_RESAMPLES, Statistic, bootstrap_intervals
from stillmotion.metrics.expected_ranks import expect_ranks
from stillmotion.metrics.retrieval import QueryRanks, Scores, TieRule, both_directions, rank_both_directions

RECALL_AT = (1, 2, 5, 10)
METRICS = (*(f"R@{k}" for k in RECALL_AT), "MedR", "MeanR", "MRR", "mAP")


def query_statistics(queries: QueryRanks) -> tuple[NDArray[np.float64], list[Statistic]]:
    """Per-query values (M, Q) in the order of METRICS, and how each is summarised."""
    hits = [100.0 * queries.hits(k) for k in RECALL_AT]
    ranks = [queries.ranks_Q, queries.ranks_Q]
    values = [*hits, *ranks, 100.0 * queries.reciprocals(), 100.0 * queries.average_precisions_Q]
    return np.stack(values), ["median" if name == "MedR" else "mean" for name in METRICS]


def summarise(queries: QueryRanks) -> dict[str, float]:
    """R@1, R@2, R@5, R@10, MRR, mAP in percent; MedR and MeanR as ranks."""
    values_MQ, statistics = query_statistics(queries)
    means_M, medians_M = values_MQ.mean(axis=1), np.median(values_MQ, axis=1)
    is_mean_M = np.array(statistics) == "mean"
    return dict(zip(METRICS, np.where(is_mean_M, means_M, medians_M).tolist(), strict=True))


def summarise_with_intervals(
    queries: QueryRanks, *, rng: np.random.Generator, num_resamples: int = NUM_RESAMPLES
) -> dict[str, Any]:
    """As `summarise`, with `ci95`: [low, high] of each metric by the percentile bootstrap over queries."""
    values_MQ, statistics = query_statistics(queries)
    intervals_M2 = bootstrap_intervals(values_MQ, statistics, rng=rng, num_resamples=num_resamples)
    return {**summarise(queries), "ci95": dict(zip(METRICS, intervals_M2.tolist(), strict=True))}


def pessimistic_recall(ranks_Q: NDArray[np.float64], num_missing: int) -> dict[str, float]:
    """R@1, R@2, R@5, R@10 in percent where `num_missing` queries that could not be asked count as misses.

    Example: ranks [1, 2] and 2 missing queries: R@1 is 25, R@2 is 50.
    """
    total = len(ranks_Q) + num_missing
    if num_missing < 0 or total == 0:
        raise InputError(f"{len(ranks_Q)} queries and {num_missing} missing ones; there must be a query")
    return {f"R@{k}": float(100.0 * np.count_nonzero(ranks_Q <= k) / total) for k in RECALL_AT}


def with_convention_names(by_direction: Mapping[str, Any]) -> dict[str, Any]:
    """What is known by direction, `v2t` a second time as `v2t_any_caption` where `v2t_caption_max` stands beside it."""
    if "v2t_caption_max" not in by_direction:
        return dict(by_direction)
    return {**by_direction, "v2t_any_caption": by_direction["v2t"]}


def score_retrieval(
    scores_TV: Scores,
    relevance: NDArray[Any],
    *,
    rng: np.random.Generator,
    ties: TieRule | Literal["expected"] = "average",
    num_resamples: int = NUM_RESAMPLES,
) -> dict[str, Any]:
    """Score a similarity matrix in both directions, with 95 % bootstrap intervals.

    Args:
        scores_TV: see `rank_both_directions`, with the directions and errors.
        relevance: likewise.
        rng: draws the resamples.
        ties: see `rank_queries`; `expected` for the expectations of `expected_ranks`.
        num_resamples: of the bootstrap.

    Returns:
        `t2v`, `v2t`, … each with METRICS and `ci95`; see `with_convention_names`.
    """
    directions: Mapping[str, QueryRanks]
    if ties == "expected":
        parts = both_directions(scores_TV, relevance)
        directions = {name: expect_ranks(*of_direction) for name, of_direction in parts.items()}
    else:
        directions = rank_both_directions(scores_TV, relevance, ties=ties)
    return with_convention_names(
        {
            name: summarise_with_intervals(ranks, rng=rng, num_resamples=num_resamples)
            for name, ranks in directions.items()
        }
    )
