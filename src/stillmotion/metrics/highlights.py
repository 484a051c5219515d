"""Highlight detection as the official QVHighlights evaluator scores it (Lei et al. 2021, section 5)."""

# Q queries, T clips (padded), A annotators.

import numpy as np
from numpy.typing import NDArray

from stillmotion.metrics.submission import Floats, Saliency

RATING_LEVELS = {"Fair": 2, "Good": 3, "VeryGood": 4}
"""The least rating that makes a clip a highlight."""


def average_precision(scores_QT: Floats, positive_QTA: NDArray[np.bool_], valid_QT: NDArray[np.bool_]) -> Floats:
    """Interpolated average precision (Q, A) of ranked clips against each annotator's labels.

    A threshold sits after each group of equal scores. For every threshold at which recall has grown, the best
    precision at this or a lower threshold is taken; AP is the plain mean of these (tied positives grow recall
    once, so a group of them counts once). Without a positive clip it is 0.

    Example: scores [3, 2, 1], labels [1, 0, 1]: precisions 1 and 2/3, AP 5/6. Scores [1, 1, 1]: AP 2/3.
    """
    key_QT = np.where(valid_QT, scores_QT, -np.inf)
    order_QT = np.argsort(-key_QT, axis=1, kind="stable")
    sorted_QT = np.take_along_axis(key_QT, order_QT, axis=1)
    labels_QTA = np.take_along_axis(positive_QTA & valid_QT[:, :, None], order_QT[:, :, None], axis=1)
    group_end_QT = np.ones(sorted_QT.shape, dtype=bool)
    group_end_QT[:, :-1] = sorted_QT[:, 1:] != sorted_QT[:, :-1]
    group_end_QT &= sorted_QT > -np.inf
    hits_QTA = np.cumsum(labels_QTA, axis=1)
    precision_QTA = hits_QTA / np.arange(1, sorted_QT.shape[1] + 1)[:, None]
    precision_QTA *= group_end_QT[:, :, None]
    best_QTA = np.maximum.accumulate(precision_QTA[:, ::-1], axis=1)[:, ::-1]
    seen_QTA = np.maximum.accumulate(hits_QTA * group_end_QT[:, :, None], axis=1)
    grown_QTA = np.diff(seen_QTA, axis=1, prepend=0) > 0
    return (best_QTA * grown_QTA).sum(axis=1) / np.maximum(grown_QTA.sum(axis=1), 1)


def highlight_values(saliency: Saliency) -> dict[str, dict[str, Floats]]:
    """`HL-mAP` and `HL-Hit1` of each rated query (0 to 1), for each rating level.

    Hit1 is 1 if any annotator gave the top-scored clip the level; the first of equal scores is the top, and a
    top clip beyond the end of the video is no hit. A query for which nothing is predicted has 0 in both.
    """
    predicted_Q1 = saliency.top_clip_Q[:, None] >= 0
    valid_QT = np.arange(saliency.scores_QT.shape[1]) < saliency.num_clips_Q[:, None]
    inside_Q = (saliency.top_clip_Q >= 0) & (saliency.top_clip_Q < saliency.num_clips_Q)
    top_rating_QA = saliency.ratings_QTA[np.arange(len(inside_Q)), np.where(inside_Q, saliency.top_clip_Q, 0)]
    values = {}
    for name, level in RATING_LEVELS.items():
        precision_QA = average_precision(saliency.scores_QT, saliency.ratings_QTA >= level, valid_QT) * predicted_Q1
        hit_Q = inside_Q & (top_rating_QA >= level).any(axis=1)
        values[name] = {"HL-mAP": precision_QA.mean(axis=1), "HL-Hit1": hit_Q.astype(np.float64)}
    return values
