"""How much of the truth, and of the video, predicted windows take up together.

A system that gives ten windows a query can cover every true second by covering everything: the share of the
video stands beside the share of the truth.
"""

# Q queries, W windows a query (padded).

import numpy as np

from stillmotion.metrics.moments import MAX_WINDOWS
from stillmotion.metrics.submission import Floats, Windows


def union_length(windows: Windows) -> Floats:
    """Seconds (Q,) that lie in any of a query's windows.

    Example: [0, 4], [2, 6] and [10, 11] take up 7 s.
    """
    starts_QW = np.where(windows.valid_QW, windows.spans_QW2[..., 0], np.inf)
    order_QW = np.argsort(starts_QW, axis=1, kind="stable")
    starts_QW = np.take_along_axis(windows.spans_QW2[..., 0], order_QW, axis=1)
    ends_QW = np.take_along_axis(windows.spans_QW2[..., 1], order_QW, axis=1)
    valid_QW = np.take_along_axis(windows.valid_QW, order_QW, axis=1)
    reached_QW = np.maximum.accumulate(ends_QW, axis=1)
    starts_QW[:, 1:] = np.maximum(starts_QW[:, 1:], reached_QW[:, :-1])
    return np.where(valid_QW, np.maximum(ends_QW - starts_QW, 0.0), 0.0).sum(axis=1)


def first_windows(windows: Windows) -> Windows:
    """The ten first windows of each list: those that the official metrics look at."""
    return Windows(
        windows.spans_QW2[:, :MAX_WINDOWS], windows.scores_QW[:, :MAX_WINDOWS], windows.valid_QW[:, :MAX_WINDOWS]
    )


def _joined(first: Windows, second: Windows) -> Windows:
    return Windows(
        np.concatenate([first.spans_QW2, second.spans_QW2], axis=1),
        np.concatenate([first.scores_QW, second.scores_QW], axis=1),
        np.concatenate([first.valid_QW, second.valid_QW], axis=1),
    )


def coverage(predicted: Windows, truth: Windows) -> Floats:
    """Share (Q,), from 0 to 1, of the true seconds that lie in any of the first ten predicted windows.

    Example: truth [0, 4] and [8, 10], predicted [2, 9]: 3 of 6 s. True windows of no length count as not covered.
    """
    predicted = first_windows(predicted)
    true_Q = union_length(truth)
    both_Q = union_length(predicted) + true_Q - union_length(_joined(predicted, truth))
    return np.clip(np.divide(both_Q, true_Q, out=np.zeros_like(true_Q), where=true_Q > 0), 0.0, 1.0)


def selected_share(predicted: Windows, durations_Q: Floats) -> Floats:
    """Share (Q,), from 0 to 1, of the video that the first ten predicted windows take up together.

    What of a window lies outside the video does not count.
    """
    predicted = first_windows(predicted)
    inside_QW2 = np.clip(predicted.spans_QW2, 0.0, durations_Q[:, None, None])
    return union_length(Windows(inside_QW2, predicted.scores_QW, predicted.valid_QW)) / durations_Q
