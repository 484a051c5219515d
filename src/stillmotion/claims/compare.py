"""Effects with their intervals, and what they say to a claim.

Seeds are averaged query by query and taken as given: the bootstrap draws queries.
"""

# Q queries.

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stillmotion.claims.systems import Origin, origins_of, pooled, select, shared_name
from stillmotion.metrics.bootstrap import (
    PairedDifference,
    clustered_bootstrap,
    paired_bootstrap,
    unpaired_bootstrap,
)

Verdict = Literal["holds", "does not hold", "undecided", "not comparable"]
Row = Mapping[str, Any]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Draws:
    """How the bootstrap draws."""

    seed: int
    num_resamples: int


@dataclass(frozen=True)
class Measurement:
    """One effect that speaks for or against a claim."""

    what: str
    effect: str
    verdict: Verdict
    origins: Sequence[Origin] = field(compare=False)
    """The files that it was computed from."""
    is_ours: bool = False
    """Whether what is measured is a system that the source of the claim does not have."""
    interval: tuple[float, float, float] | None = field(default=None, compare=False)
    """The effect in points, and its 95 % interval; None where it is no difference, or several."""
    above: float = field(default=0.0, compare=False)
    """What it is claimed to be above."""


@dataclass(frozen=True)
class Pair:
    """Two systems, pooled over seeds, that differ in what is compared."""

    better: Row
    worse: Row

    @property
    def gain_Q(self) -> Floats:
        """What each query has more of the better one."""
        gain_Q: Floats = self.better["values"] - self.worse["values"]
        return gain_Q

    @property
    def origins(self) -> tuple[Origin, ...]:
        """The files of both."""
        return origins_of(self.better, self.worse)

    def __str__(self) -> str:
        """`a − b (R@1, 1 clip, 3 seeds)`, and of one system `a: 4 clips − 1 clip (R@1)`."""
        rows = (self.better, self.worse)
        keys, clips = [shared_name(row["keys"]) for row in rows], [row["clips"] for row in rows]
        counts = [num_clips(count) for count in clips if count is not None]
        details = [rows[0]["measure"]]
        if rows[0]["key"] == rows[1]["key"]:
            return f"{keys[0]}: {' − '.join(counts)} ({details[0]})"
        if len(set(counts)) > 1:
            keys = [f"{key} ({count})" for key, count in zip(keys, counts, strict=True)]
        else:
            details += counts[:1]
        if any(row["num_seeds"] > 1 for row in rows):
            details.append(num_seeds(*(row["num_seeds"] for row in rows)))
        return f"{' − '.join(keys)} ({', '.join(details)})"


def pairs(frame: pd.DataFrame, *, better: Row, worse: Row, within: Sequence[str]) -> list[Pair]:
    """Each system of one kind with each of another that is the same in some columns, pooled over seeds.

    Args:
        frame: of `values_frame`.
        better: conditions on the columns of the one, as in `select`.
        worse: on those of the other.
        within: columns in which the two are the same, besides what is measured.
    """
    columns = ("task", "measure", *within)
    others = pooled(select(frame, worse))
    return [
        Pair(first, second)
        for first in pooled(select(frame, better))
        for second in others
        if all(first.get(name) == second.get(name) for name in columns)
        and any(first.get(name) != second.get(name) for name in ("key", "clips"))
    ]


def compare(
    frame: pd.DataFrame,
    *,
    better: Row,
    worse: Row,
    within: Sequence[str],
    draws: Draws,
    margin: float = 0.0,
) -> list[Measurement]:
    """A measurement for each of `pairs`: whether the one is above the other by more than minus `margin` points."""
    return [measured(pair, draws, margin) for pair in pairs(frame, better=better, worse=worse, within=within)]


def measured(pair: Pair, draws: Draws, margin: float = 0.0, *, is_ours: bool = False) -> Measurement:
    """How many points more the better one has, paired over the queries, and their clusters where there are such."""
    first_Q, second_Q, cluster_Q = pair.better["values"], pair.worse["values"], pair.better.get("clusters")
    if cluster_Q is None:
        return compared(str(pair), first_Q, second_Q, pair.origins, draws, margin, is_ours=is_ours)
    difference = clustered_bootstrap(first_Q, second_Q, cluster_Q, **asdict(draws))
    return judged(str(pair), *difference, pair.origins, margin, is_ours=is_ours)


def compared(
    what: str,
    first_Q: Floats,
    second_Q: Floats,
    origins: Sequence[Origin],
    draws: Draws,
    margin: float = 0.0,
    *,
    is_ours: bool = False,
) -> Measurement:
    """How many points more the first has than the second, paired over the queries; values are in percent."""
    found = paired(first_Q, second_Q, draws)
    return judged(what, found.difference, found.low, found.high, origins, margin, is_ours=is_ours)


def compared_apart(
    what: str, first_Q: Floats, second_Q: Floats, origins: Sequence[Origin], draws: Draws, *, is_ours: bool = False
) -> Measurement:
    """How many points more the first has than the second, on queries of its own."""
    return judged(what, *unpaired_bootstrap(first_Q, second_Q, **asdict(draws)), origins, is_ours=is_ours)


def paired(first_Q: Floats, second_Q: Floats, draws: Draws) -> PairedDifference:
    """The paired bootstrap of two systems' values of the same queries."""
    rng = np.random.default_rng(draws.seed)
    return paired_bootstrap(first_Q, second_Q, rng=rng, num_resamples=draws.num_resamples)


def judged(
    what: str,
    points: float,
    low: float,
    high: float,
    origins: Sequence[Origin],
    margin: float = 0.0,
    *,
    is_ours: bool = False,
) -> Measurement:
    """The measurement of a difference, by its interval, that is claimed to be above minus `margin`."""
    effect = f"{points:+.1f} points ({low:+.1f} to {high:+.1f})"
    return Measurement(what, effect, judge(low, high, margin), origins, is_ours, (points, low, high), -margin)


def judge(low: float, high: float, margin: float = 0.0) -> Verdict:
    """The verdict on an effect that is claimed to be above minus `margin`, by its interval.

    An interval from 0.5 to 3 holds; from -3 to -0.5 it does not, but with a margin of 2 it is undecided. A margin
    below zero asks for more than any gain: of -10, for more than 10 points.
    """
    if low > -margin:
        return "holds"
    return "does not hold" if high < -margin else "undecided"


def num_clips(count: int) -> str:
    """`1 clip`, `4 clips`."""
    return f"{count} clip" + ("" if count == 1 else "s")


def num_seeds(first: int, second: int) -> str:
    """`1 seed`, `3 seeds`, or `3 and 1 seeds` where the two differ."""
    if first != second:
        return f"{first} and {second} seeds"
    return f"{first} seed" + ("" if first == 1 else "s")
