"""Effects of a recipe's settings: what `stillmotion ablate` has collected, and FLOPs that were counted."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from stillmotion.report.evidence import Evidence
from stillmotion.report.measurement import MARGIN, Measurement, compared

HALF_PATCHES, ALL_PATCHES = "half_patches", "all_patches"
"""Recipes that differ in nothing but the patch keep rate, 0.5 and 1."""
HALF_SAVES, TOLERANCE = 45.0, 3.0
"""Percent of the forward FLOPs that half of the patches save (table 4.10), and how near to it counts."""


@dataclass(frozen=True)
class Point:
    """One value of an ablation, over its seeds."""

    value: int | float | str
    """Of the param, or the name of a point that sets others."""
    validation: float
    """Mean R@1."""
    hits_Q: np.ndarray
    """Recall of each test query in percent: R@1, or what the ablation's `recall_at` says."""
    num_seeds: int


def ablation_points(ablation: Mapping[str, Any] | None) -> list[Point]:
    """The points of a reports/ablations/<name>.json that have results; none where there is no ablation."""
    return [
        Point(
            point["value"],
            float(np.mean([run["validation_R@1"] for run in point["runs"]])),
            np.mean([run["test_hits"] for run in point["runs"]], axis=0),
            len(point["runs"]),
        )
        for point in (ablation["points"] if ablation else [])
        if point["runs"]
    ]


def larger_batches_help_finetuning(evidence: Evidence) -> list[Measurement]:
    """The largest batch of fine-tuning against the smallest."""
    return _largest_and_smallest(evidence, "batch_size")


def larger_batches_help_aggregators(evidence: Evidence) -> list[Measurement]:
    """The largest batch of training the aggregator against the smallest."""
    return _largest_and_smallest(evidence, "aggregator_batch_size")


def _largest_and_smallest(evidence: Evidence, name: str) -> list[Measurement]:
    points = [point for point in ablation_points(evidence.ablation(name)) if isinstance(point.value, int)]
    points.sort(key=lambda point: point.value)
    if len(points) < 2:
        return []
    small, large = points[0], points[-1]
    what = f"batches of {large.value} − batches of {small.value}"
    return [compared(evidence, what, large.hits_Q, small.hits_Q)]


def only_embeddings_frozen_is_best(evidence: Evidence) -> list[Measurement]:
    """No block frozen against the best of the others, chosen on validation, and against the most blocks."""
    points = {point.value: point for point in ablation_points(evidence.ablation("frozen_blocks"))}
    none = points.pop(0, None)
    if none is None or not points:
        return []
    rivals = [max(points.values(), key=lambda point: point.validation)]
    counted = [value for value in points if isinstance(value, int)]
    if counted and max(counted) != rivals[0].value:
        rivals.append(points[max(counted)])
    return [
        compared(evidence, f"0 blocks frozen − {_depth(rival.value)}{note}", none.hits_Q, rival.hits_Q)
        for rival, note in zip(rivals, (" (the best other on validation)", ""), strict=False)
    ]


def _depth(value: int | float | str) -> str:
    """`3 blocks frozen`; a point that has a name stands for itself, such as `nothing_frozen`."""
    return f"{value} blocks frozen" if isinstance(value, int) else str(value)


def half_the_patches_cost_nothing(evidence: Evidence) -> list[Measurement]:
    """Keep rate 0.5 against 1: in the ablation, and between models of the two recipes."""
    found = []
    points = {point.value: point for point in ablation_points(evidence.ablation("patch_keep_rate"))}
    if 0.5 in points and 1.0 in points:
        found.append(compared(evidence, "keep rate 0.5 − 1", points[0.5].hits_Q, points[1.0].hits_Q, MARGIN))
    for tuned in evidence.finetuned:
        half, whole = (f"{tuned.base}-{recipe}" for recipe in (HALF_PATCHES, ALL_PATCHES))
        half_Q, whole_Q = (evidence.hits_at(model, "mean", 1) for model in (half, whole))
        if tuned.model == half and half_Q is not None and whole_Q is not None:
            found.append(compared(evidence, f"{half} − {whole}, mean (1 clip)", half_Q, whole_Q, MARGIN))
    return found


def half_the_patches_save_flops(evidence: Evidence) -> list[Measurement]:
    """The share of forward FLOPs saved: of full-size architectures, and of the models that were fine-tuned."""
    costs = {}
    for name, measured in evidence.metrics["architectures"].items():
        steps = {step["keep_rate"]: step["forward_flops"] for step in measured["steps"] if not step["frozen_blocks"]}
        if 0.5 in steps and 1.0 in steps:
            costs[name] = (steps[0.5], steps[1.0])
    resources = evidence.metrics["resources"]
    for base in evidence.run.finetuned:
        half = resources.get(f"{base}-{HALF_PATCHES}")
        if half is not None:
            costs[base] = (half["forward_flops"], resources[base]["forward_flops"])
    found = []
    for name, (half, whole) in costs.items():
        saved = 100 * (1 - half / whole)
        near = abs(saved - HALF_SAVES) <= TOLERANCE
        found.append(
            Measurement(
                f"{name}: saved at keep rate 0.5", f"{saved:.1f} % (counted)", "holds" if near else "does not hold"
            )
        )
    return found


def frozen_blocks_save_flops(evidence: Evidence) -> list[Measurement]:
    """The share of the backward pass that the most frozen blocks save, with all patches kept."""
    found = []
    for name, measured in evidence.metrics["architectures"].items():
        steps = {step["frozen_blocks"]: step["backward_flops"] for step in measured["steps"] if step["keep_rate"] == 1}
        most = max(steps, default=0)
        if most and 0 in steps:
            saved = 100 * (1 - steps[most] / steps[0])
            what = f"{name}: saved of the backward pass by {most} frozen blocks"
            found.append(Measurement(what, f"{saved:.1f} % (counted)", "holds" if saved > 0 else "does not hold"))
    return found


def adamw_beats_sgd(evidence: Evidence) -> list[Measurement]:
    """The best learning rate of each optimizer, chosen on validation, compared on the test split."""
    best = []
    for name in ("learning_rate_adamw", "learning_rate_sgd"):
        points = ablation_points(evidence.ablation(name))
        if not points:
            return []
        best.append(max(points, key=lambda point: point.validation))
    adamw, sgd = best
    what = f"AdamW at {adamw.value} − SGD at {sgd.value}, each the best on validation"
    return [compared(evidence, what, adamw.hits_Q, sgd.hits_Q)]
