"""Paired differences between systems that answered the same queries."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stillmotion.metrics.bootstrap import PairedDifference, paired_bootstrap
from stillmotion.report.evidence import Evidence
from stillmotion.report.tables import markdown_table


@dataclass(frozen=True)
class Comparison:
    """Two systems' values of the same queries, in percent and in the same order."""

    label: str
    first_Q: np.ndarray
    second_Q: np.ndarray


def retrieval_comparisons(evidence: Evidence) -> list[Comparison]:
    """Each aggregator and the conditional texts with the first aggregator, each fine-tuned model with its base.

    Both systems have the largest number of clips that both were scored with.
    """
    run, hits = evidence.run, evidence.hits
    pairs = []
    for first in run.aggregators[:1]:
        pairs += [(f"{model}-{other}", f"{model}-{first}") for model in run.models for other in run.aggregators[1:]]
        pairs += [(f"{model}-conditional", f"{model}-{first}") for model in run.conditional]
        pairs += [
            (f"{tuned.model}-{first}", f"{tuned.base}-{first}")
            for tuned in evidence.finetuned
            if tuned.base in run.models
        ]
    comparisons = []
    for better, reference in pairs:
        common = set(hits[better]) & set(hits[reference])
        if common:
            clips = max(common)
            most = max({*hits[better], *hits[reference]})
            label = f"{better} − {reference}" + ("" if clips == most else f" ({num_clips(clips)})")
            comparisons.append(Comparison(label, hits[better][clips], hits[reference][clips]))
    return comparisons


def differences_table(comparisons: Sequence[Comparison], metric: str, *, seed: int, num_resamples: int) -> str:
    """A row for each comparison: the difference with its 95 % interval and two-sided p; nothing for none."""
    rows = []
    for pair in comparisons:
        found = paired_bootstrap(
            pair.first_Q, pair.second_Q, rng=np.random.default_rng(seed), num_resamples=num_resamples
        )
        rows.append([pair.label, with_paired_interval(found), f"{found.p_value:.3f}"])
    return markdown_table([f"{metric}, paired over the test queries", "difference", "p"], rows) if rows else ""


def with_paired_interval(found: PairedDifference) -> str:
    """A difference with its interval, such as `+2.5 (-4.5 to +9.7)`."""
    return f"{found.difference:+.1f} ({found.low:+.1f} to {found.high:+.1f})"


def num_clips(count: int) -> str:
    """`1 clip`, `4 clips`."""
    return f"{count} clip" + ("" if count == 1 else "s")
