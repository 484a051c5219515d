"""Assessment of how well a model's frames tell a query's moments from the rest, before any threshold is searched.

VClipper (Caravaca 2024), section 4.2; METHODS.md section 2: VC1 with `norm` over a range of λ, judged by the IoU of
the selected with the true frames.
"""

# Q queries, H thresholds.

from collections.abc import Sequence
from typing import Any

import numpy as np

from stillmotion.metrics.bootstrap import NUM_RESAMPLES, bootstrap_intervals
from stillmotion.metrics.frames import frame_values
from stillmotion.moments.curves import Floats
from stillmotion.moments.postprocess import PostProcessing, postprocess
from stillmotion.moments.queries import EmbeddedQueries
from stillmotion.moments.selection import select_vc1

METHOD = "vc1"
POST_PROCESSING: PostProcessing = "norm"


def frame_iou_by_threshold(split: EmbeddedQueries, thresholds: Sequence[float]) -> Floats:
    """Frame IoU (H, Q), from 0 to 1, of VC1 with `norm` at each λ.

    Example: Sc [.1, .3, .2, .1], true frames 1 and 2: `norm` gives [0, 1, .5, 0], so that λ = 0.4 selects both (1),
    and λ = 0.6 one of the two (1/2).

    Args:
        split: queries with their curves and true frames.
        thresholds: each λ.
    """
    curves = split.curves
    sc_QT = postprocess(curves.sc_QT, curves.num_frames_Q, method=POST_PROCESSING).sc_QT
    selections = (select_vc1(curves, sc_QT, threshold=threshold) for threshold in thresholds)
    return np.stack([frame_values(one.frames_QT, split.true_QT, curves.valid_QT)["IoU"] for one in selections])


def assess(
    split: EmbeddedQueries | None,
    thresholds: Sequence[float],
    *,
    rng: np.random.Generator,
    num_resamples: int = NUM_RESAMPLES,
) -> dict[str, Any]:
    """`IoU` at each λ, `mean_IoU` over them, and its 95 % bootstrap interval over queries: all in percent.

    Args:
        split: queries; None where the dataset has none, which gives an empty result.
        thresholds: each λ; written as a key.
        rng: draws the resamples.
        num_resamples: of the bootstrap.
    """
    if split is None:
        return {"IoU": {}, "mean_IoU": None, "ci95": {}}
    percent_HQ = 100.0 * frame_iou_by_threshold(split, thresholds)
    mean_Q = percent_HQ.mean(axis=0)
    interval = bootstrap_intervals(mean_Q[None], ["mean"], rng=rng, num_resamples=num_resamples)[0]
    return {
        "IoU": {str(threshold): float(iou_Q.mean()) for threshold, iou_Q in zip(thresholds, percent_HQ, strict=True)},
        "mean_IoU": float(mean_Q.mean()),
        "ci95": {"mean_IoU": interval.tolist()},
    }
