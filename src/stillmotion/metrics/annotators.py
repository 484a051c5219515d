"""Moments that several annotators marked in steps of 5 s: the official score of DiDeMo (Hendricks et al. 2017, 5).

A system ranks the 21 moments of the first 30 s, which begin and end at a step. The score of a query counts the three
annotators that agree best with it. Windows of any length stand for the moments that they overlap best.
"""

from collections.abc import Sequence

import numpy as np

STEP_S, NUM_STEPS = 5.0, 6
MOMENTS = [(first, last) for first in range(NUM_STEPS) for last in range(first, NUM_STEPS)]
"""First and last step of each moment, both included."""
NUM_ANNOTATORS = 3
"""That count of each query."""

Step = tuple[int, int]


def step_iou(first: Step, second: Step) -> float:
    """Intersection over union of two moments; of two that lie apart the union is the hull.

    Example: (0, 1) and (1, 2) share one of three steps: 1/3.
    """
    shared = min(first[1], second[1]) + 1 - max(first[0], second[0])
    return max(0, shared) / (max(first[1], second[1]) + 1 - min(first[0], second[0]))


def nearest_moment(window: Sequence[float], duration: float) -> Step | None:
    """The moment that has the largest IoU with [start, end, …] in a video, the first of equals; None without overlap.

    The last step ends with the video, so that in 28 s the window [20, 28] is all of (4, 5).
    """
    best, best_iou = None, 0.0
    for first, last in MOMENTS:
        start, end = first * STEP_S, min((last + 1) * STEP_S, duration)
        shared = min(end, window[1]) - max(start, window[0])
        if start < end and shared > 0 and (iou := shared / (max(end, window[1]) - min(start, window[0]))) > best_iou:
            best, best_iou = (first, last), iou
    return best


def ranked_moments(windows: Sequence[Sequence[float]], duration: float) -> list[Step]:
    """The moments that windows, best first, stand for, each once.

    Args:
        windows: [start, end, …] in seconds.
        duration: of the video, in seconds.
    """
    nearest = (nearest_moment(window, duration) for window in windows)
    return list(dict.fromkeys(moment for moment in nearest if moment is not None))


def window_scores(
    predicted: Sequence[Sequence[Sequence[float]]],
    annotated: Sequence[Sequence[Sequence[float]]],
    durations: Sequence[float],
) -> dict[str, float]:
    """`annotator_scores` of windows in seconds.

    Args:
        predicted: of each query, best first.
        annotated: of each query, one an annotator.
        durations: of each query's video.
    """
    rankings, marked = [], []
    for windows, truth, duration in zip(predicted, annotated, durations, strict=True):
        rankings.append(ranked_moments(windows, duration))
        marked.append([moment for window in truth if (moment := nearest_moment(window, duration)) is not None])
    return annotator_scores(rankings, marked)


def annotator_scores(rankings: Sequence[Sequence[Step]], marked: Sequence[Sequence[Step]]) -> dict[str, float]:
    """`rank@1`, `rank@5` and `mIoU` in percent, as LocalizingMoments' utils/eval.py computes them.

    Of each query the mean of the best three ranks that annotators' moments have must be at most k, and the IoU of the
    first moment is the mean of the best three. A moment that is not ranked has the last rank; without any, IoU is 0.

    Example: annotators marked (0, 0), (0, 0), (1, 1) and (2, 2). The ranking (0, 0), (1, 1) has the ranks 1, 1, 2 and
        21: 4/3 is above 1 and below 5; IoU (1 + 1 + 0)/3.

    Args:
        rankings: of each query, best first.
        marked: of each query, one an annotator.
    """
    ranks, ious = [], []
    for ranking, moments in zip(rankings, marked, strict=True):
        places = {moment: place for place, moment in enumerate(ranking, start=1)}
        ranks.append(np.mean(np.sort([places.get(moment, len(MOMENTS)) for moment in moments])[:NUM_ANNOTATORS]))
        shares = [step_iou(ranking[0], moment) if ranking else 0.0 for moment in moments]
        ious.append(np.mean(np.sort(shares)[-NUM_ANNOTATORS:]))
    return {
        "rank@1": float(100 * np.mean(np.array(ranks) <= 1)),
        "rank@5": float(100 * np.mean(np.array(ranks) <= 5)),
        "mIoU": float(100 * np.mean(ious)),
    }
