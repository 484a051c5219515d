"""The systems of moment retrieval by what they are, and what each query has of a metric.

Shapes: Q queries.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stillmotion.metrics.moments import moment_values
from stillmotion.report.evidence import Evidence, Rows, selected_systems

Floats = NDArray[np.float64]

WINDOWS, FRAMES = "R1@0.5", "frame_AP@0.5"
"""Objectives that thresholds are searched for."""
METHODS = ("vc1", "vc2")
POSTS = ("none", "norm", "adjust_norm", "log_smooth_norm")
LENGTHS = ("short", "middle", "long")

QUERY_METRICS: Mapping[str, Callable[[Mapping[str, Any]], float]] = {
    "R1@0.5": lambda row: 100.0 * (row["top1_iou"] >= 0.5),
    "mAP": lambda row: 100.0 * row["average_precision"],
    "frame IoU": lambda row: 100.0 * row["frame_iou"],
}
"""Of a row of queries.jsonl, in percent."""


@dataclass(frozen=True)
class Selection:
    """A method with a post-processing and an objective, applied to the frames of a model."""

    system: str
    model: str
    method: str
    post: str
    objective: str


def found_selections(evidence: Evidence) -> list[Selection]:
    """The selections that have a result, in the order of params.run."""
    model_of = {f"{model}-{name}": model for model in evidence.run.selected for name in evidence.run.selections}
    found = []
    for system in selected_systems(evidence.run):
        values = evidence.metrics["moments"].get(system, {})
        if "full" in values:
            searched = values["protocol"]["thresholds"]
            found.append(
                Selection(
                    system, model_of[system], searched["method"], searched["post_processing"], searched["objective"]
                )
            )
    return found


def groups_of(evidence: Evidence) -> list[tuple[str, str, list[Selection]]]:
    """Model, objective and selections of each group that differs in method and post-processing."""
    every = found_selections(evidence)
    groups = []
    for model in evidence.run.selected:
        for objective in (WINDOWS, FRAMES):
            group = [found for found in every if (found.model, found.objective) == (model, objective)]
            if group:
                groups.append((model, objective, group))
    return groups


def selections_of(evidence: Evidence, model: str, objective: str) -> dict[tuple[str, str], Selection]:
    """A model's selections with thresholds for one objective, by method and post-processing; the first of equals."""
    chosen: dict[tuple[str, str], Selection] = {}
    for found in found_selections(evidence):
        if (found.model, found.objective) == (model, objective):
            chosen.setdefault((found.method, found.post), found)
    return chosen


def systems_for_windows(evidence: Evidence) -> dict[str, Mapping[str, Any]]:
    """Metrics of the systems that have a result, without the selections whose thresholds are for frames."""
    for_frames = {found.system for found in found_selections(evidence) if found.objective == FRAMES}
    return {
        system: values
        for system, values in evidence.metrics["moments"].items()
        if "full" in values and system not in for_frames
    }


def shown_selection(evidence: Evidence) -> str:
    """The selection whose examples are drawn: the one with the most R1@0.5, the first of equals; "" without any."""
    systems = [found.system for found in found_selections(evidence)]
    measured = evidence.metrics["moments"]
    return max(systems, key=lambda name: measured[name]["brief"]["MR-full-R1@0.5"], default="")


def query_values(rows: Rows, metric: str) -> Floats:
    """(Q,) of `R1@0.5`, `mAP` or `frame IoU` in percent."""
    return np.array([QUERY_METRICS[metric](row) for row in rows], dtype=np.float64)


def precisions_by_length(rows: Rows) -> dict[str, Floats]:
    """Average precision (Q,) of the queries in each range of lengths in percent, by range; one can be in several.

    As the official evaluator has it: true windows of other lengths are left out, predicted ones are not.

    Args:
        rows: of queries.jsonl, at least one.
    """
    predicted = [{"qid": row["qid"], "pred_relevant_windows": row["predicted_windows"]} for row in rows]
    truth = [{"qid": row["qid"], "relevant_windows": row["true_windows"]} for row in rows]
    values = moment_values(predicted, truth)
    return {length: 100.0 * values.average_precisions[length].mean(axis=1) for length in LENGTHS}


def spread_out(rows: Sequence[Any], num: int) -> list[Any]:
    """`num` of the rows, or as many as there are: the first, the last, and evenly between."""
    num = min(num, len(rows))
    return [rows[round(index * (len(rows) - 1) / max(1, num - 1))] for index in range(num)]
