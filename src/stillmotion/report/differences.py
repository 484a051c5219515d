"""Paired differences between systems that answered the same queries."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stillmotion.metrics.bootstrap import PairedDifference, paired_bootstrap, resample
from stillmotion.report.evidence import Evidence
from stillmotion.report.tables import markdown_table


@dataclass(frozen=True)
class Comparison:
    """Two systems' values of the same queries, in percent and in the same order."""

    label: str
    first_Q: np.ndarray
    second_Q: np.ndarray


def retrieval_comparisons(evidence: Evidence) -> list[Comparison]:
    """Pairs of systems, both with the largest number of clips that both were scored with.

    Beside a model with the first aggregator: it with each other aggregator, with conditional texts, and by each
    alignment. Beside a base model with the first aggregator: each model that was fine-tuned from it. Beside a model by
    an alignment: what it was expanded to, fine-tuned alike, by the same.
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
        pairs += [
            (f"{model}-{alignment}", f"{model}-{first}")
            for model in run.aligned
            if model in run.models
            for alignment in run.alignments
        ]
    pairs += [
        (f"{expanded}-{alignment}", f"{model}-{alignment}")
        for expanded, model in _expanded(evidence)
        for alignment in run.alignments
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


def _expanded(evidence: Evidence) -> list[tuple[str, str]]:
    """Aligned models of an expanded backbone, each with the one of the backbone itself that is fine-tuned alike."""
    run = evidence.run
    return [
        (f"{base}_{expansion}{recipe}", f"{base}{recipe}")
        for base in run.expanded
        for expansion in run.expansions
        for recipe in ("", *(f"-{recipe}" for recipe in run.recipes))
        if {f"{base}_{expansion}{recipe}", f"{base}{recipe}"} <= set(run.aligned)
    ]


def unpaired_difference(
    first_Q: np.ndarray, second_Q: np.ndarray, *, seed: int, num_resamples: int
) -> tuple[float, float, float]:
    """Difference of the means of two samples with its 95 % interval, low and high, each sample drawn for itself."""
    first_R, second_R = (
        resample(values_Q, ["mean"], rng=np.random.default_rng([seed, place]), num_resamples=num_resamples)[0]
        for place, values_Q in enumerate((first_Q, second_Q))
    )
    low, high = np.percentile(first_R - second_R, [2.5, 97.5])
    return float(first_Q.mean() - second_Q.mean()), float(low), float(high)


def clustered_difference(
    first_Q: np.ndarray, second_Q: np.ndarray, cluster_Q: np.ndarray, *, seed: int, num_resamples: int
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
    low, high = np.percentile(sum_R / size_R, [2.5, 97.5])
    return float(np.mean(first_Q - second_Q)), float(low), float(high)


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
