"""Two systems that answered the same queries: the paired difference of a metric, and the queries that moved most.

Only metrics that are means over queries have a paired difference query by query; MedR has none.
"""

# Q queries, S seeds.

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stillmotion.errors import InputError
from stillmotion.metrics.bootstrap import NUM_RESAMPLES, PairedDifference, paired_bootstrap
from stillmotion.metrics.retrieval_summary import RECALL_AT

Floats = NDArray[np.floating]
_GAIN_DIGITS = 9
"""Decimals of percent and ranks by which gains differ."""


@dataclass(frozen=True, slots=True)
class PairedMetric:
    """A metric that is a mean over queries."""

    value: Callable[[Floats], Floats]
    """Of each outcome: percent, or a rank."""
    lower_is_better: bool = False


@dataclass(frozen=True, slots=True)
class Task:
    """What systems of one kind are compared by."""

    metrics: dict[str, PairedMetric]
    """By name, the default first."""
    lower_outcome_is_better: bool


def _recall(k: int) -> PairedMetric:
    return PairedMetric(lambda ranks: 100.0 * (ranks <= k))


def _recall_at_iou(threshold: float) -> PairedMetric:
    return PairedMetric(lambda ious: 100.0 * (ious >= threshold))


TASKS = {
    "retrieval": Task(
        {
            **{f"R@{k}": _recall(k) for k in RECALL_AT},
            "MRR": PairedMetric(lambda ranks: 100.0 / ranks),
            "MeanR": PairedMetric(lambda ranks: ranks, lower_is_better=True),
        },
        lower_outcome_is_better=True,
    ),
    "moments": Task(
        {
            "R1@0.5": _recall_at_iou(0.5),
            "R1@0.7": _recall_at_iou(0.7),
            "mIoU": PairedMetric(lambda ious: 100.0 * ious),
        },
        lower_outcome_is_better=False,
    ),
}


@dataclass(frozen=True, slots=True)
class Query:
    """What identifies a query."""

    query_id: str
    video_id: str
    text: str


@dataclass(frozen=True, slots=True)
class Answers:
    """What one system made of each query."""

    queries: list[Query]
    outcomes_QS: Floats
    """Ranks (retrieval) or IoU of the best window (moments), one column a seed."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The first system against the second."""

    values: tuple[float, float]
    """Of the two, the mean over queries and seeds."""
    paired: PairedDifference
    first_better: list[int]
    """Queries that the first answered better, the most first."""
    second_better: list[int]


def check_same_queries(first: Sequence[Query], second: Sequence[Query], names: tuple[str, str]) -> None:
    """Refuse systems that did not answer the same queries in the same order.

    Raises:
        InputError: names the first row (from 1) that differs; `names` are what it calls the two.
    """
    for number in range(max(len(first), len(second))):
        one, other = first[number : number + 1], second[number : number + 1]
        if one != other:
            shown = [
                f"{row[0].query_id} ({row[0].text[:60]!r} about {row[0].video_id})" if row else "missing"
                for row in (one, other)
            ]
            raise InputError(
                f"{names[0]} row {number + 1} is {shown[0]}, but {names[1]} row {number + 1} is {shown[1]}; "
                "evaluate both systems on the same dataset (dvc repro)"
            )


def compare_answers(
    first: Answers,
    second: Answers,
    task: Task,
    metric: str,
    *,
    rng: np.random.Generator,
    num_resamples: int = NUM_RESAMPLES,
) -> Comparison:
    """Compare two systems on the same queries; a query's value is the mean over the seeds of its system.

    A query moved by the difference of its values; those of equal difference are ordered by that of their outcomes
    (mean over seeds), so that for R@1 a change from rank 90 to 1 stands before one from 2 to 1. Example: ranks [1, 4]
    against [2, 9]: R@1 50 against 0, and both moved towards the first system, query 0 before query 1.

    Args:
        first: the answers of a system.
        second: those of another to the same queries, see `check_same_queries`.
        task: of both.
        metric: one of the task's.
        rng: draws the resamples.
        num_resamples: of the bootstrap.

    Raises:
        InputError: there is no query.
    """
    chosen = task.metrics[metric]
    first_Q, second_Q = (chosen.value(answers.outcomes_QS).mean(axis=1) for answers in (first, second))
    paired = paired_bootstrap(first_Q, second_Q, rng=rng, num_resamples=num_resamples)
    value_gain_Q = (second_Q - first_Q) if chosen.lower_is_better else (first_Q - second_Q)
    outcome_gain_Q = first.outcomes_QS.mean(axis=1) - second.outcomes_QS.mean(axis=1)
    if task.lower_outcome_is_better:
        outcome_gain_Q = -outcome_gain_Q
    return Comparison(
        (float(first_Q.mean()), float(second_Q.mean())),
        paired,
        _gained(value_gain_Q, outcome_gain_Q),
        _gained(-value_gain_Q, -outcome_gain_Q),
    )


def _gained(value_gain_Q: Floats, outcome_gain_Q: Floats) -> list[int]:
    """Queries with a gain, the largest first, equal gains in the order of the queries."""
    # means over seeds are rounded: 2/3 - 1/3 is not 1/3 - 0
    value_gain_Q, outcome_gain_Q = np.round(value_gain_Q, _GAIN_DIGITS), np.round(outcome_gain_Q, _GAIN_DIGITS)
    order = np.lexsort((-outcome_gain_Q, -value_gain_Q))
    gained_Q = (value_gain_Q > 0) | ((value_gain_Q == 0) & (outcome_gain_Q > 0))
    return order[gained_Q[order]].tolist()
