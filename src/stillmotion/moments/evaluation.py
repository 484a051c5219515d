"""Evaluation of predicted windows and selected frames against the truth, the same for every system.

METHODS.md section 2. Selections, shots, references and submissions of other systems are scored by the same
code on the same queries, so that their numbers can stand in one table.
"""

# Q queries, T frames (padded).

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from stillmotion.config.evaluation import EvaluateMomentsParams
from stillmotion.metrics.annotators import window_scores
from stillmotion.metrics.coverage import coverage, selected_share
from stillmotion.metrics.frames import frame_values
from stillmotion.metrics.moments import (
    MAX_WINDOWS,
    additions,
    moment_intervals,
    moment_values,
    newer_metrics,
    official_metrics,
)
from stillmotion.metrics.submission import Row, Windows, by_qid, predicted_windows
from stillmotion.moments.curves import Mask
from stillmotion.moments.predictions import Kind
from stillmotion.moments.truth import GroundTruth, Missing


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Values of a system's predictions."""

    metrics: dict[str, Any]
    """The metrics file but for its protocol and system; empty where there are no queries."""
    rows: list[dict[str, Any]]
    """A row a query, in the order of the truth: its windows, and its values from 0 to 1."""


def frames_of_top_windows(predicted: Windows, truth: GroundTruth) -> Mask:
    """Frames (Q, T) whose middle lies in the first window of each query: what a system without frames selects.

    A window holds its start and not its end, so that a frame belongs to one of two windows that touch.

    Example: clips of 2 s and the window [1, 4]: the middles 1 and 3 s, so frames 0 and 1.

    Args:
        predicted: in the order of the truth.
        truth: of the queries.
    """
    start_Q1, end_Q1 = predicted.spans_QW2[:, 0, :1], predicted.spans_QW2[:, 0, 1:]
    middles_QT = truth.middles_QT
    # the padding of an empty list is a window of no length, which holds no frame
    return truth.valid_QT & (start_Q1 <= middles_QT) & (middles_QT < end_Q1)


def protocol_of(
    kind: Kind, truth: GroundTruth | None, missing: Missing, *, clip_length_s: float, **others: Any
) -> dict[str, Any]:
    """Protocol of a metrics file: how its numbers came about.

    Args:
        kind: what the system is; only a selection gives frames of its own.
        truth: None where the test split has no queries.
        missing: videos and queries that are not scored.
        clip_length_s: seconds that a frame stands for.
        others: what only this kind has to say.
    """
    return {
        "split": "test",
        "kind": kind,
        "num_queries": 0 if truth is None else len(truth.queries),
        "num_videos": 0 if truth is None else len({query.vid for query in truth.queries}),
        "missing_videos": missing.num_videos,
        "missing_queries": missing.num_queries,
        "clip_length_s": clip_length_s,
        "frames_from": "selection" if kind == "selection" else "top window",
        "selected_on": None,
        "thresholds": None,
    } | others


def metrics_file(metrics: Mapping[str, Any], protocol: Mapping[str, Any], system: Mapping[str, Any]) -> dict[str, Any]:
    """Content of the metrics file: values rounded to four decimals, protocol and system as they are.

    The protocol repeats what was searched, where 1e-6 is no zero.
    """
    return {**_rounded(metrics), "protocol": protocol, "system": system}


def _rounded(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _rounded(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return round(value, 4) if isinstance(value, float) else value


def evaluate(
    rows: Sequence[Row],
    truth: GroundTruth,
    *,
    frames_QT: Mask | None,
    missing: Missing,
    params: EvaluateMomentsParams,
    name: str = "predictions",
) -> Evaluation:
    """Score a submission and the frames selected beside it.

    Args:
        rows: official submission rows, one for each query of the truth, in any order.
        truth: the queries.
        frames_QT: the selected frames; None takes `frames_of_top_windows`.
        missing: for `pessimistic`: the value if every query about a missing video were answered wrongly.
        params: resamples and seed of the intervals.
        name: what an error calls the rows (the file).

    Raises:
        InputError: a row has another form; names it and the mend.
    """
    values = moment_values(
        rows,
        [asdict(query) for query in truth.queries],
        clip_length_s=truth.clip_length_s,
        predictions_name=name,
        truth_name="moments.jsonl",
    )
    row_of_qid = by_qid(rows, name=name)
    in_order = [rows[row_of_qid[query.qid]] for query in truth.queries]
    predicted = predicted_windows(in_order, name=name)
    if frames_QT is None:
        frames_QT = frames_of_top_windows(predicted, truth)
    frames = frame_values(frames_QT, truth.true_QT, truth.valid_QT)
    intervals = moment_intervals(
        values,
        rng=np.random.default_rng(params.seed),
        num_resamples=params.bootstrap_samples,
        others={"frames IoU": frames["IoU"]},
    )
    metrics = official_metrics(values) | {
        **newer_metrics(values),
        "frames": {metric: float(100.0 * values_Q.mean()) for metric, values_Q in frames.items()},
        **additions(values),
        "coverage": float(100.0 * coverage(predicted, truth.windows).mean()),
        "selected_share": float(100.0 * selected_share(predicted, truth.durations_Q).mean()),
        "ci95": intervals,
    }
    if any(query.annotated_windows for query in truth.queries):
        metrics["annotators"] = window_scores(
            [row["pred_relevant_windows"] for row in in_order],
            [query.annotated_windows for query in truth.queries],
            truth.durations_Q.tolist(),
        )
    share = len(truth.queries) / (len(truth.queries) + missing.num_queries)
    headline = metrics["brief"] | {"mIoU": metrics["mIoU"], "frames IoU": metrics["frames"]["IoU"]}
    metrics["pessimistic"] = {metric: share * headline[metric] for metric in intervals}
    precision_Q = values.average_precisions["full"].mean(axis=1)
    per_query = [
        {
            "qid": query.qid,
            "query": query.query,
            "vid": query.vid,
            "duration": float(truth.durations_Q[index]),
            "true_windows": query.relevant_windows,
            "predicted_windows": in_order[index]["pred_relevant_windows"][:MAX_WINDOWS],
            "top1_iou": float(values.top1_iou_Q[index]),
            "average_precision": float(precision_Q[index]),
            "frame_iou": float(frames["IoU"][index]),
        }
        for index, query in enumerate(truth.queries)
    ]
    return Evaluation(metrics, per_query)
