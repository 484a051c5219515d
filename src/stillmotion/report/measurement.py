"""An effect with its interval, and what it says to a claim."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from stillmotion.metrics.bootstrap import paired_bootstrap
from stillmotion.report.evidence import Evidence

MARGIN = 2.0
"""Points of R@1 by which what is said to cost nothing, or to reach another, may be below it."""

Verdict = Literal["holds", "does not hold", "undecided", "not comparable"]


@dataclass(frozen=True)
class Measurement:
    """One effect that speaks for or against a claim."""

    what: str
    effect: str
    verdict: Verdict
    is_ours: bool = False
    """Whether what is measured is a system that the source of the claim does not have."""


def judge(low: float, high: float, margin: float = 0.0) -> Verdict:
    """The verdict on an effect that is claimed to be above minus `margin`, by its interval.

    An interval from 0.5 to 3 holds; from -3 to -0.5 it does not, but with a margin of 2 it is undecided. A margin
    below zero asks for more than any gain: of -10, for more than 10 points.
    """
    if low > -margin:
        return "holds"
    return "does not hold" if high < -margin else "undecided"


def compared(
    evidence: Evidence,
    what: str,
    first_Q: np.ndarray,
    second_Q: np.ndarray,
    margin: float = 0.0,
    *,
    is_ours: bool = False,
) -> Measurement:
    """How many points more the first has than the second, paired over the queries; values are in percent."""
    found = paired_bootstrap(
        first_Q, second_Q, rng=np.random.default_rng(evidence.seed), num_resamples=evidence.num_resamples
    )
    effect = f"{found.difference:+.1f} points ({found.low:+.1f} to {found.high:+.1f})"
    return Measurement(what, effect, judge(found.low, found.high, margin), is_ours)
