"""Percentile bootstrap over queries: intervals for one system, and the difference between two.

Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapters 13 and 16. Queries are the unit that
is drawn, with replacement; how often each was drawn (its count) is all that a mean needs, so the means of a
chunk of resamples are one product of values and counts.
"""

# Q queries, M statistics, R resamples, B resamples in one chunk.

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stillmotion.errors import InputError

Statistic = Literal["mean", "median"]

NUM_RESAMPLES = 1000
_ROUNDED = 1e-11
"""A difference below this share of the largest value is none: values that are means over seeds are rounded, so that
those of a resample seldom cancel to the last bit."""
_CHUNK_DRAWS = 2_000_000
"""Draws held at once: bounds the memory to about 50 MB whatever the number of queries."""


def _draws(num_queries: int, num_resamples: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Yield chunks (B, Q) of drawn queries."""
    rows = max(1, _CHUNK_DRAWS // num_queries)
    for start in range(0, num_resamples, rows):
        yield rng.integers(num_queries, size=(min(rows, num_resamples - start), num_queries))


def _counts(drawn_BQ: NDArray[np.int64]) -> NDArray[np.float64]:
    """How often each query was drawn, (B, Q); a row sums to Q."""
    num_rows, num_queries = drawn_BQ.shape
    cells_BQ = drawn_BQ + num_queries * np.arange(num_rows)[:, None]
    counts = np.bincount(cells_BQ.ravel(), minlength=drawn_BQ.size)
    return counts.reshape(drawn_BQ.shape).astype(np.float64)


def _medians(drawn_BQ: NDArray[np.int64], values_Q: NDArray[np.float64]) -> NDArray[np.float64]:
    """Median of each resample: the mean of its two middle values, as np.median has it."""
    num_queries = len(values_Q)
    order = np.argsort(values_Q, kind="stable")
    # places in the order stand for the values: small whole numbers are partitioned several times faster
    place_Q = np.empty(num_queries, dtype=np.min_scalar_type(num_queries))
    place_Q[order] = np.arange(num_queries)
    places_BQ = place_Q[drawn_BQ]
    lower, upper = (num_queries - 1) // 2, num_queries // 2
    places_BQ.partition([lower, upper], axis=1)
    sorted_Q = values_Q[order]
    return (sorted_Q[places_BQ[:, lower]] + sorted_Q[places_BQ[:, upper]]) / 2


def resample(
    values_MQ: NDArray[np.float64],
    statistics: Sequence[Statistic],
    *,
    rng: np.random.Generator,
    num_resamples: int = NUM_RESAMPLES,
) -> NDArray[np.float64]:
    """Draw queries with replacement and compute each row's statistic; all rows see the same draws.

    Args:
        values_MQ: one value a query, for each of M statistics.
        statistics: `mean` or `median`, one for each row.
        rng: the generator that draws; the same state gives the same resamples.
        num_resamples: R.

    Returns:
        (M, R), in the units of the values.

    Raises:
        InputError: there is no query, or a value is not finite.
    """
    values_MQ = np.atleast_2d(np.asarray(values_MQ, dtype=np.float64))
    num_statistics, num_queries = values_MQ.shape
    if len(statistics) != num_statistics:
        raise ValueError(f"{num_statistics} rows of values and {len(statistics)} statistics")
    if num_queries == 0:
        raise InputError("bootstrap: no queries to draw from; give at least one")
    if not np.isfinite(values_MQ).all():
        raise InputError("bootstrap: a query's value is NaN or infinite; score every query first")
    mean_rows = [row for row, statistic in enumerate(statistics) if statistic == "mean"]
    chunks = []
    for drawn_BQ in _draws(num_queries, num_resamples, rng):
        chunk = np.empty((num_statistics, len(drawn_BQ)))
        if mean_rows:
            # not `@`: so thin a product gains nothing from BLAS threads, and waits for them on a busy machine
            sums = np.einsum("mq,bq->mb", values_MQ[mean_rows], _counts(drawn_BQ))
            chunk[mean_rows] = sums / num_queries
        for row, statistic in enumerate(statistics):
            if statistic == "median":
                chunk[row] = _medians(drawn_BQ, values_MQ[row])
        chunks.append(chunk)
    return np.concatenate(chunks, axis=1)


def bootstrap_intervals(
    values_MQ: NDArray[np.float64],
    statistics: Sequence[Statistic],
    *,
    rng: np.random.Generator,
    num_resamples: int = NUM_RESAMPLES,
    level: float = 0.95,
) -> NDArray[np.float64]:
    """Percentile intervals (M, 2) as low, high; see `resample` for the arguments and errors.

    Where every query has the same value, low and high are that value, to the last digit or two.
    """
    tail = 50.0 * (1.0 - level)
    statistics_MR = resample(values_MQ, statistics, rng=rng, num_resamples=num_resamples)
    return np.percentile(statistics_MR, [tail, 100.0 - tail], axis=1).T


def _cancelled(differences_R: NDArray[np.float64], *values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The differences, those that only rounding keeps from zero as zero."""
    largest = max(float(np.abs(values_Q).max()) for values_Q in values)
    return np.where(np.abs(differences_R) <= _ROUNDED * largest, 0.0, differences_R)


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """First system minus second, in the units of the values."""

    difference: float
    low: float
    high: float
    p_value: float
    """Two-sided; never below 2 / (R + 1), the least that R resamples can show."""


def paired_bootstrap(
    first_Q: NDArray[np.float64],
    second_Q: NDArray[np.float64],
    *,
    rng: np.random.Generator,
    statistic: Statistic = "mean",
    num_resamples: int = NUM_RESAMPLES,
    level: float = 0.95,
) -> PairedDifference:
    """Compare two systems on the same queries: every resample draws the same queries for both.

    The p-value is twice the smaller share of resampled differences on either side of zero, zero itself
    counted on both, with one added to count and total (Davison and Hinkley 1997, section 4.2), at most 1.

    Args:
        first_Q: the first system's value of each query (for R@1: 100 or 0).
        second_Q: the second system's, in the same order.
        rng: the generator that draws.
        statistic: what is compared.
        num_resamples: R.
        level: of the interval.

    Raises:
        InputError: the systems did not answer the same number of queries, or answered none.
    """
    first_Q, second_Q = np.asarray(first_Q, np.float64), np.asarray(second_Q, np.float64)
    if first_Q.shape != second_Q.shape or first_Q.ndim != 1:
        raise InputError(
            f"paired bootstrap: {first_Q.shape} and {second_Q.shape} values; give both systems' "
            "values of the same queries in the same order"
        )
    if statistic == "mean":  # linear, so that equal systems differ by exactly zero in every resample
        differences_R = resample(first_Q - second_Q, ["mean"], rng=rng, num_resamples=num_resamples)[0]
        difference = float(np.mean(first_Q - second_Q))
    else:
        both_2R = resample(np.stack([first_Q, second_Q]), [statistic] * 2, rng=rng, num_resamples=num_resamples)
        differences_R = both_2R[0] - both_2R[1]
        difference = float(np.median(first_Q) - np.median(second_Q))
    differences_R = _cancelled(differences_R, first_Q, second_Q)
    tail = 50.0 * (1.0 - level)
    low, high = np.percentile(differences_R, [tail, 100.0 - tail])
    fewer_side = min((differences_R <= 0).sum(), (differences_R >= 0).sum())
    p_value = min(1.0, 2.0 * (fewer_side + 1) / (num_resamples + 1))
    return PairedDifference(difference, float(low), float(high), float(p_value))


def unpaired_bootstrap(
    first_Q: NDArray[np.float64], second_Q: NDArray[np.float64], *, seed: int, num_resamples: int
) -> tuple[float, float, float]:
    """Difference of the means of two samples with its 95 % interval, low and high, each sample drawn for itself."""
    first_R, second_R = (
        resample(values_Q, ["mean"], rng=np.random.default_rng([seed, place]), num_resamples=num_resamples)[0]
        for place, values_Q in enumerate((first_Q, second_Q))
    )
    low, high = np.percentile(_cancelled(first_R - second_R, first_Q, second_Q), [2.5, 97.5])
    return float(first_Q.mean() - second_Q.mean()), float(low), float(high)


def clustered_bootstrap(
    first_Q: NDArray[np.float64],
    second_Q: NDArray[np.float64],
    cluster_Q: NDArray[np.str_],
    *,
    seed: int,
    num_resamples: int,
) -> tuple[float, float, float]:
    """Paired difference of the means with its 95 % interval, low and high, where whole clusters are drawn.

    Queries of one cluster, such as the labelled spans of a video, are not independent: drawn one by one, they would
    make the interval too narrow. The mean of a resample is over the queries of the clusters that it has drawn.

    Args:
        first_Q: the first system's value of each query.
        second_Q: the second system's, in the same order.
        cluster_Q: what tells the clusters apart, such as ids.
        seed: of the draws.
        num_resamples: R.

    Source: Davison and Hinkley 1997, section 3.8, the clusters drawn and their members kept.
    """
    _, place_Q = np.unique(cluster_Q, return_inverse=True)
    sums_C, sizes_C = np.bincount(place_Q, weights=first_Q - second_Q), np.bincount(place_Q)
    rng = np.random.default_rng(seed)
    sum_R, size_R = resample(np.stack([sums_C, sizes_C]), ["mean", "mean"], rng=rng, num_resamples=num_resamples)
    low, high = np.percentile(_cancelled(sum_R / size_R, first_Q, second_Q), [2.5, 97.5])
    return float(np.mean(first_Q - second_Q)), float(low), float(high)
