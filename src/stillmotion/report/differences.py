"""Paired differences between systems that answered the same queries."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from stillmotion.metrics.bootstrap import paired_bootstrap
from stillmotion.report.tables import markdown_table

Values = Mapping[str, np.ndarray]
"""One value a query (percent), by system; queries in the same order for all."""


def recall_values(rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """R@1 of each caption in percent, the mean over the seeds, from the rows of ranks.jsonl."""
    return np.array([100 * np.mean(np.asarray(row["rank"]) <= 1) for row in rows])


def top1_values(rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """R1@0.5 of each moment query in percent, from the rows of queries.jsonl."""
    return np.array([100.0 * (row["top1_iou"] >= 0.5) for row in rows])


def retrieval_pairs_to_compare(run: Any) -> list[tuple[str, str]]:
    """Each trained aggregator with the first of the list, and each fine-tuned model with its backbone."""
    first, *others = run.aggregators
    pairs = [(f"{model}-{other}", f"{model}-{first}") for model in run.models for other in others]
    return pairs + [(f"{model}-{first}", f"{base}-{first}") for model, base in _finetuned(run)]


def moment_pairs_to_compare(run: Any) -> list[tuple[str, str]]:
    """Each selection with the first of the list, by model."""
    first, *others = run.selections
    return [(f"{model}-{other}", f"{model}-{first}") for model in run.models for other in others]


def _finetuned(run: Any) -> list[tuple[str, str]]:
    return [
        (f"{backbone}-{recipe}", backbone)
        for backbone in run.finetuned
        for recipe in run.recipes
        if backbone in run.models and f"{backbone}-{recipe}" in run.models
    ]


def differences_table(
    values: Values, pairs: Sequence[tuple[str, str]], metric: str, *, seed: int, num_resamples: int
) -> str:
    """A row for each pair: the difference with its 95 % interval and two-sided p; nothing where there is no query."""
    rows = []
    for first, second in pairs:
        if not len(values[first]):
            continue
        found = paired_bootstrap(
            values[first], values[second], rng=np.random.default_rng(seed), num_resamples=num_resamples
        )
        interval = f"{found.difference:+.1f} ({found.low:+.1f} to {found.high:+.1f})"
        rows.append([f"{first} − {second}", interval, f"{found.p_value:.3f}"])
    return markdown_table([f"{metric}, paired over the test queries", "difference", "p"], rows) if rows else ""
