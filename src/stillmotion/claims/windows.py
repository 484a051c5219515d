"""The systems of moment retrieval that claims, tables and figures are about.

Thresholds are those that a system was searched with, as its metrics file says, and not those of params.yaml.
"""

# Q queries.

from collections.abc import Mapping
from typing import Any, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stillmotion.claims.evidence import Evidence
from stillmotion.claims.systems import Rows, records, select
from stillmotion.config.evaluation import PostProcessing
from stillmotion.metrics.moments import moment_values

Floats = NDArray[np.float64]

METHOD, POST, OBJECTIVE = (f"protocol.thresholds.{name}" for name in ("method", "post_processing", "objective"))
"""Columns of a selection."""
WINDOWS, FRAMES = "R1@0.5", "frame_AP@0.5"
"""Objectives that thresholds are searched for."""
METHODS = ("vc1", "vc2")
POSTS = get_args(PostProcessing)
LENGTHS = ("short", "middle", "long")


def selections(evidence: Evidence, **where: Any) -> pd.DataFrame:
    """The selections that have a result, in the order of params.yaml.

    Args:
        evidence: what has been measured.
        where: conditions such as `objective=WINDOWS`.
    """
    has_result = {"task": "moments", "protocol.kind": "selection", "metrics": lambda metrics: "full" in metrics}
    conditions = {f"protocol.thresholds.{name}": value for name, value in where.items()}
    return select(evidence.systems, has_result | conditions)


def groups_of(evidence: Evidence) -> list[tuple[str, str, list[dict[str, Any]]]]:
    """Model, objective and selections of each group that differs in method and post-processing."""
    every = selections(evidence)
    found = []
    for model in every["model"].unique():
        for objective in (WINDOWS, FRAMES):
            group = select(every, {"model": model, OBJECTIVE: objective})
            if len(group):
                found.append((model, objective, records(group)))
    return found


def metrics_for_windows(evidence: Evidence) -> dict[str, Mapping[str, Any]]:
    """Metrics of the systems that have a result, without the selections whose thresholds are for frames."""
    for_frames = set(selections(evidence, objective=FRAMES)["key"])
    measured = evidence.metrics("moments")
    return {key: values for key, values in measured.items() if "full" in values and key not in for_frames}


def shown_selection(evidence: Evidence) -> str:
    """The selection whose examples are drawn: the one with the most R1@0.5, the first of equals; "" without any."""
    measured = evidence.metrics("moments")
    keys = list(selections(evidence)["key"])
    return max(keys, key=lambda key: measured[key]["brief"]["MR-full-R1@0.5"], default="")


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
