"""Moment retrieval: the official QVHighlights evaluator, for windows of any duration, and our additions.

Lei et al. 2021 (QVMoment/QVHighlights), section 5; METHODS.md section 2. The published sample is reproduced
to the last digit. Where the official program crashes or is silent:

- An empty prediction list scores 0 in every metric and stays in the denominator (`additions` counts it).
- Windows beyond the duration are taken as they are, and one of no length has IoU 0. A window that ends before
  it starts, a NaN or an infinity is an error.
- Equal scores keep their order in the list. Of true windows with equal IoU the later one in the list is
  matched.
- Every true query needs a prediction row and the other way round; a qid may occur once.
- A range (`short`, `middle`, `long`) that no query is in has null values. A window longer than 150 s is in
  `full`.
- Fewer saliency values than clips are filled with zeros, more are cut, for mAP; the top clip of Hit1 is
  sought before the cut. Without any value both are 0. Queries that nobody rated are left out of HL-*; without
  any rating, or without any row that has `pred_saliency_scores`, HL-* is omitted.
"""

# Q queries, P predicted windows, G true windows, H IoU thresholds.

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stillmotion.errors import InputError
from stillmotion.metrics.bootstrap import NUM_RESAMPLES, bootstrap_intervals
from stillmotion.metrics.highlights import highlight_values
from stillmotion.metrics.submission import (
    Floats,
    Row,
    Windows,
    by_qid,
    check_kinds,
    predicted_windows,
    saliency,
    true_windows,
)

IOU_THRESHOLDS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
RANGES = {"short": (0.0, 10.0), "middle": (10.0, 30.0), "long": (30.0, 150.0), "full": (-np.inf, np.inf)}
"""Lengths of true windows in seconds, the lower bound excluded."""
MAX_WINDOWS = 10


def window_iou(first: Floats, second: Floats) -> Floats:
    """Intersection over union of [start, end] in the last axis, broadcast over the others.

    Example: [0, 4] and [2, 6] share 2 of 6 seconds: 1/3. Windows of no length have IoU 0.
    """
    overlap = np.minimum(first[..., 1], second[..., 1]) - np.maximum(first[..., 0], second[..., 0])
    overlap = np.maximum(overlap, 0.0)
    union = (first[..., 1] - first[..., 0]) + (second[..., 1] - second[..., 0]) - overlap
    return np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)


def top1_iou(windows_Q2: Floats, truth: Windows) -> Floats:
    """IoU (Q,) of one window a query with the best-matching true window.

    The union is the hull of the two, as the official program has it here: the same number but for the last
    bit, which decides when an IoU meets a threshold exactly.
    """
    iou_QG = np.where(truth.valid_QW, window_iou(windows_Q2[:, None], truth.spans_QW2), -1.0)
    best_Q2 = truth.spans_QW2[np.arange(len(iou_QG)), np.argmax(iou_QG, axis=1)]
    overlap_Q = np.minimum(windows_Q2[:, 1], best_Q2[:, 1]) - np.maximum(windows_Q2[:, 0], best_Q2[:, 0])
    hull_Q = np.maximum(windows_Q2[:, 1], best_Q2[:, 1]) - np.minimum(windows_Q2[:, 0], best_Q2[:, 0])
    return np.divide(np.maximum(overlap_Q, 0.0), hull_Q, out=np.zeros_like(hull_Q), where=hull_Q > 0)


def recall_at_1(iou_Q: Floats, threshold: float) -> float:
    """Share of queries in percent whose top window reaches the IoU."""
    return float(100.0 * np.mean(iou_Q >= threshold))


def average_precisions(predicted: Windows, truth: Windows, *, thresholds: Sequence[float] = IOU_THRESHOLDS) -> Floats:
    """Average precision (Q, H), from 0 to 1, of each query at each IoU threshold.

    The first ten windows in list order, sorted by score (stable); each takes the best unused true window if
    that reaches the threshold; AP is the area under the interpolated precision at all points.
    """
    num_kept = min(MAX_WINDOWS, predicted.valid_QW.shape[1])
    valid_QP = predicted.valid_QW[:, :num_kept]
    key_QP = np.where(valid_QP, -predicted.scores_QW[:, :num_kept], np.inf)
    order_QP = np.argsort(key_QP, axis=1, kind="stable")
    spans_QP2 = np.take_along_axis(predicted.spans_QW2[:, :num_kept], order_QP[:, :, None], axis=1)
    valid_QP = np.take_along_axis(valid_QP, order_QP, axis=1)
    iou_QPG = window_iou(spans_QP2[:, :, None], truth.spans_QW2[:, None])
    usable_QPG = valid_QP[:, :, None] & truth.valid_QW[:, None]
    iou_QPG = np.where(usable_QPG, iou_QPG, -1.0)[:, :, ::-1]  # so that argmax takes the later of equals

    num_queries, _, num_truth = iou_QPG.shape
    precisions_QH = np.empty((num_queries, len(thresholds)))
    query_Q = np.arange(num_queries)
    for column, threshold in enumerate(thresholds):
        free_QG = np.ones((num_queries, num_truth), dtype=bool)
        hit_QP = np.zeros((num_queries, num_kept), dtype=bool)
        for place in range(num_kept):
            candidates_QG = np.where(free_QG, iou_QPG[:, place], -1.0)
            best_Q = np.argmax(candidates_QG, axis=1)
            hit_Q = candidates_QG[query_Q, best_Q] >= threshold
            free_QG[query_Q[hit_Q], best_Q[hit_Q]] = False
            hit_QP[:, place] = hit_Q
        precision_QP = np.cumsum(hit_QP, axis=1) / np.arange(1, num_kept + 1)
        best_precision_QP = np.maximum.accumulate(precision_QP[:, ::-1], axis=1)[:, ::-1]
        precisions_QH[:, column] = (best_precision_QP * hit_QP).sum(axis=1) / truth.num_Q
    return precisions_QH


@dataclass(frozen=True, slots=True)
class MomentValues:
    """Per-query values behind the metrics, in the order of the truth rows; all from 0 to 1."""

    qids: list[Any]
    top1_iou_Q: Floats
    """0 for an empty prediction list."""
    empty_Q: NDArray[np.bool_]
    in_range_Q: dict[str, NDArray[np.bool_]]
    """Whether a query belongs to `short`, `middle`, `long`, `full`."""
    top1_iou: dict[str, Floats]
    """For each range, of its queries, against the true windows in the range."""
    average_precisions: dict[str, Floats]
    """For each range (queries of the range, H)."""
    highlights: dict[str, dict[str, Floats]] | None
    """See `highlights.highlight_values`; None where nobody rated."""


def moment_values(
    predictions: Sequence[Row],
    truth: Sequence[Row],
    *,
    clip_length_s: float = 2.0,
    predictions_name: str = "predictions",
    truth_name: str = "ground truth",
) -> MomentValues:
    """Score each query.

    Args:
        predictions: submission rows, in any order.
        truth: truth rows.
        clip_length_s: seconds a saliency value stands for.
        predictions_name: what an error calls the predictions (the file).
        truth_name: what an error calls the truth.

    Raises:
        InputError: names the row and what to mend.
    """
    row_of_qid = by_qid(predictions, name=predictions_name)
    truth_qids = by_qid(truth, name=truth_name)
    if not truth_qids:
        raise InputError(f"{truth_name}: no rows; give one row a query")
    check_kinds(row_of_qid, truth_qids, name=predictions_name, known_name=truth_name)
    for qid, number in truth_qids.items():
        if qid not in row_of_qid:
            raise InputError(f"{predictions_name}: no row for qid {qid} ({truth_name} row {number + 1}); add one")
    for qid, number in row_of_qid.items():
        if qid not in truth_qids:
            raise InputError(f"{predictions_name} row {number + 1}: qid {qid} is not in {truth_name}; remove it")
    rows = [row_of_qid[qid] for qid in truth_qids]
    windows = predicted_windows(predictions, name=predictions_name)  # in file order, for the errors
    rated = saliency(
        predictions,
        truth,
        prediction_of_truth=rows,
        clip_length_s=clip_length_s,
        predictions_name=predictions_name,
        truth_name=truth_name,
    )
    predicted = Windows(windows.spans_QW2[rows], windows.scores_QW[rows], windows.valid_QW[rows])
    true = true_windows(truth, name=truth_name)
    lengths_QG = true.spans_QW2[..., 1] - true.spans_QW2[..., 0]

    in_range: dict[str, NDArray[np.bool_]] = {}
    iou: dict[str, Floats] = {}
    precisions: dict[str, Floats] = {}
    empty_Q = predicted.num_Q == 0
    for name, (above, up_to) in RANGES.items():
        kept_QG = true.valid_QW & (lengths_QG > above) & (lengths_QG <= up_to)
        member_Q = kept_QG.sum(axis=1) > 0
        part = Windows(true.spans_QW2[member_Q], true.scores_QW[member_Q], kept_QG[member_Q])
        ours = Windows(predicted.spans_QW2[member_Q], predicted.scores_QW[member_Q], predicted.valid_QW[member_Q])
        in_range[name] = member_Q
        iou[name] = np.where(empty_Q[member_Q], 0.0, top1_iou(ours.spans_QW2[:, 0], part))
        precisions[name] = average_precisions(ours, part)
    highlights = None if rated is None else highlight_values(rated)
    return MomentValues(list(truth_qids), iou["full"], empty_Q, in_range, iou, precisions, highlights)


def _percent(share: np.floating[Any]) -> float:
    """Rounded as the official program writes it."""
    return float(f"{100 * share:.2f}")


def official_metrics(values: MomentValues) -> dict[str, Any]:
    """The official result: `brief`, `HL-min-*`, `full`, `long`, `middle`, `short`, in percent."""
    details: dict[str, Any] = {}
    for name in ("full", "long", "middle", "short"):
        keys = [str(threshold) for threshold in IOU_THRESHOLDS]
        if not values.in_range_Q[name].any():
            details[name] = {"MR-mAP": dict.fromkeys([*keys, "average"]), "MR-R1": dict.fromkeys(keys)}
            continue
        means_H = values.average_precisions[name].mean(axis=0)
        precisions = {key: _percent(mean) for key, mean in zip(keys, means_H, strict=True)}
        precisions["average"] = _percent(np.mean(means_H))
        recalls = {
            key: _percent(np.mean(values.top1_iou[name] >= threshold))
            for key, threshold in zip(keys, IOU_THRESHOLDS, strict=True)
        }
        details[name] = {"MR-mAP": precisions, "MR-R1": recalls}
    highlights = {
        f"HL-min-{level}": {metric: _percent(np.mean(values_Q)) for metric, values_Q in metrics.items()}
        for level, metrics in (values.highlights or {}).items()
    }
    brief = {
        "MR-full-R1@0.5": details["full"]["MR-R1"]["0.5"],
        "MR-full-R1@0.7": details["full"]["MR-R1"]["0.7"],
        "MR-full-mAP": details["full"]["MR-mAP"]["average"],
        "MR-full-mAP@0.5": details["full"]["MR-mAP"]["0.5"],
        "MR-full-mAP@0.75": details["full"]["MR-mAP"]["0.75"],
        "MR-long-mAP": details["long"]["MR-mAP"]["average"],
        "MR-middle-mAP": details["middle"]["MR-mAP"]["average"],
        "MR-short-mAP": details["short"]["MR-mAP"]["average"],
    }
    for level, metrics in highlights.items():
        brief |= {f"{level}-{metric.removeprefix('HL-')}": value for metric, value in metrics.items()}
    return {"brief": brief, **highlights, **details}


def newer_metrics(values: MomentValues) -> dict[str, float]:
    """`MR-full-R1@0.3` and `MR-full-mIoU`, which later evaluators (Lighthouse) have: percent, rounded likewise."""
    iou_Q = values.top1_iou_Q
    return {"MR-full-R1@0.3": _percent(np.mean(iou_Q >= 0.3)), "MR-full-mIoU": _percent(np.mean(iou_Q))}


def additions(values: MomentValues) -> dict[str, float | int]:
    """`mIoU` (percent, mean IoU of the top window, unrounded) and `num_empty` (queries without a window)."""
    return {
        "mIoU": float(100.0 * values.top1_iou_Q.mean()),
        "num_empty": int(values.empty_Q.sum()),
    }


def moment_intervals(
    values: MomentValues,
    *,
    rng: np.random.Generator,
    num_resamples: int = NUM_RESAMPLES,
    others: Mapping[str, Floats] | None = None,
) -> dict[str, list[float]]:
    """95 % bootstrap intervals [low, high] over queries, in percent, of the headline metrics and mIoU.

    Args:
        values: of each query.
        rng: draws the resamples.
        num_resamples: how many.
        others: values (Q,) from 0 to 1 of further metrics, which see the same draws.
    """
    rows = {
        "MR-full-R1@0.5": values.top1_iou_Q >= 0.5,
        "MR-full-R1@0.7": values.top1_iou_Q >= 0.7,
        "MR-full-mAP": values.average_precisions["full"].mean(axis=1),
        "mIoU": values.top1_iou_Q,
        **(others or {}),
    }
    values_MQ = 100.0 * np.stack([np.asarray(row, dtype=np.float64) for row in rows.values()])
    intervals_M2 = bootstrap_intervals(values_MQ, ["mean"] * len(rows), rng=rng, num_resamples=num_resamples)
    return dict(zip(rows, intervals_M2.tolist(), strict=True))


def evaluate_moments(predictions: Sequence[Row], truth: Sequence[Row], *, clip_length_s: float = 2.0) -> dict[str, Any]:
    """The official result of a submission; see `moment_values` for the arguments and errors."""
    return official_metrics(moment_values(predictions, truth, clip_length_s=clip_length_s))
