"""One system trained with several seeds: the mean over the seeds is its result."""

# Q queries, M metrics, R resamples, S seeds.

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from stillmotion.metrics.bootstrap import resample
from stillmotion.metrics.retrieval import QueryRanks
from stillmotion.metrics.retrieval_summary import (
    METRICS,
    pessimistic_recall,
    query_statistics,
    summarise,
    with_convention_names,
)


def summarise_seeds(runs: Sequence[QueryRanks], *, rng: np.random.Generator, num_resamples: int) -> dict[str, Any]:
    """Mean of each retrieval metric over the seeds of a system, which all answered the same queries.

    Args:
        runs: one for each seed.
        rng: draws the resamples.
        num_resamples: of the bootstrap.

    Returns:
        METRICS, `std` (sample standard deviation over the seeds; left out for one seed) and `ci95`: the
        bootstrap draws queries, the same for all seeds, and averages the seeds.
    """
    values_SMQ, statistics = zip(*(query_statistics(run) for run in runs), strict=True)
    summaries = [summarise(run) for run in runs]
    result: dict[str, Any] = {name: float(np.mean([row[name] for row in summaries])) for name in METRICS}
    if len(runs) > 1:
        result["std"] = {name: float(np.std([row[name] for row in summaries], ddof=1)) for name in METRICS}
    flat = [statistic for row in statistics for statistic in row]
    resampled = resample(np.concatenate(values_SMQ), flat, rng=rng, num_resamples=num_resamples)
    means_MR = resampled.reshape(len(runs), len(METRICS), -1).mean(axis=0)
    intervals_M2 = np.percentile(means_MR, [2.5, 97.5], axis=1).T
    return result | {"ci95": dict(zip(METRICS, intervals_M2.tolist(), strict=True))}


def summarise_system(
    directions: Sequence[Mapping[str, QueryRanks]], *, num_missing: int, seed: int, num_resamples: int
) -> dict[str, Any]:
    """The metrics of a system in every direction, by the names of `with_convention_names`, as metrics files hold them.

    Args:
        directions: for each seed of the system what `rank_both_directions` gives.
        num_missing: text queries whose video could not be decoded: `pessimistic` counts them as misses.
        seed: of the bootstrap.
        num_resamples: of the bootstrap.
    """
    rng = np.random.default_rng(seed)
    result = with_convention_names(
        {
            name: summarise_seeds([run[name] for run in directions], rng=rng, num_resamples=num_resamples)
            for name in directions[0]
        }
    )
    recalls = [pessimistic_recall(run["t2v"].ranks_Q, num_missing) for run in directions]
    result["t2v"]["pessimistic"] = {name: float(np.mean([row[name] for row in recalls])) for name in recalls[0]}
    return result
