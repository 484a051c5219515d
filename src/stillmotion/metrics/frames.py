"""Frame selection: how well the selected frames match the frames of the true windows.

Macro averages over queries (VClipper, section 4: its printed F1 is below the F1 of its mean precision and
recall, so the mean is taken last). METHODS.md section 2.
"""

# Q queries, T frames (padded).

import numpy as np
from numpy.typing import NDArray

from stillmotion.errors import InputError

Mask = NDArray[np.bool_]

FRAME_METRICS = ("accuracy", "precision", "recall", "F1", "IoU", "AP@0.5", "AP@0.7")


def frame_values(selected_QT: Mask, true_QT: Mask, valid_QT: Mask) -> dict[str, NDArray[np.float64]]:
    """Each metric of each query, from 0 to 1; AP@t is whether the frame IoU reaches t.

    A ratio without a denominator (precision when nothing is selected, recall when nothing is true, IoU and F1
    when neither is) is 0.

    Example: 4 frames, selected 1 1 0 0, true 0 1 1 0: accuracy 2/4, precision 1/2, recall 1/2, F1 1/2, IoU
    1/3.

    Args:
        selected_QT: the frames that the method selects; padding is ignored.
        true_QT: the frames of the true windows.
        valid_QT: False on padding.

    Raises:
        InputError: the shapes differ, or a query has no frame.
    """
    if not selected_QT.shape == true_QT.shape == valid_QT.shape or selected_QT.ndim != 2:
        raise InputError(
            f"frame masks of shapes {selected_QT.shape}, {true_QT.shape}, {valid_QT.shape}; give three equal "
            "(queries, frames)"
        )
    num_frames_Q = valid_QT.sum(axis=1)
    if len(num_frames_Q) == 0 or not num_frames_Q.all():
        raise InputError("frame masks: a query has no frames; leave it out")
    selected_QT, true_QT = selected_QT & valid_QT, true_QT & valid_QT
    both_Q = (selected_QT & true_QT).sum(axis=1)
    num_selected_Q, num_true_Q = selected_QT.sum(axis=1), true_QT.sum(axis=1)
    either_Q = num_selected_Q + num_true_Q - both_Q
    iou_Q = both_Q / np.maximum(either_Q, 1)
    return {
        "accuracy": 1.0 - (either_Q - both_Q) / num_frames_Q,
        "precision": both_Q / np.maximum(num_selected_Q, 1),
        "recall": both_Q / np.maximum(num_true_Q, 1),
        "F1": 2 * both_Q / np.maximum(num_selected_Q + num_true_Q, 1),
        "IoU": iou_Q,
        "AP@0.5": (iou_Q >= 0.5).astype(np.float64),
        "AP@0.7": (iou_Q >= 0.7).astype(np.float64),
    }


def frame_metrics(selected_QT: Mask, true_QT: Mask, valid_QT: Mask) -> dict[str, float]:
    """Means over queries in percent; see `frame_values` for the arguments and errors."""
    values = frame_values(selected_QT, true_QT, valid_QT)
    return {name: float(100.0 * values_Q.mean()) for name, values_Q in values.items()}
