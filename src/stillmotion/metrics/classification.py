"""Classification: top-1 and top-5 accuracy."""

# N samples, C classes, K cut-offs.

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stillmotion.errors import InputError
from stillmotion.metrics.bootstrap import NUM_RESAMPLES, bootstrap_intervals
from stillmotion.metrics.retrieval import TieRule, rank_queries

TOP_K = {"top1": 1, "top5": 5}


def top_k_accuracy(
    scores_NC: NDArray[Any],
    labels_N: NDArray[np.integer],
    *,
    rng: np.random.Generator,
    ties: TieRule = "average",
    num_resamples: int = NUM_RESAMPLES,
) -> dict[str, Any]:
    """`top1` and `top5` in percent, with `ci95` by the bootstrap over samples.

    A sample counts in top k when the rank of its class is at most k; rank = 1 + classes scored higher + half
    of those tied (see `retrieval.rank_queries`), so that equal scores for all classes are no hit at 1. With
    fewer than five classes top5 uses all of them and is 100.

    Example: scores [[.1, .9], [.5, .5]] with labels [1, 0]: ranks 1 and 1.5, top1 50.

    Args:
        scores_NC: higher is more likely.
        labels_N: the class's index, from 0 to C - 1.
        rng: draws the resamples.
        ties: the tie rule.
        num_resamples: of the bootstrap.

    Raises:
        InputError: a label is out of range or a score not finite.
    """
    labels_N = np.asarray(labels_N)
    if scores_NC.ndim != 2 or labels_N.shape != scores_NC.shape[:1] or labels_N.dtype.kind not in "iu":
        raise InputError(
            f"scores of shape {scores_NC.shape}, labels of shape {labels_N.shape} and dtype "
            f"{labels_N.dtype}; give a row of scores and an integer label a sample"
        )
    pairs_N2 = np.stack([np.arange(len(labels_N)), labels_N.astype(np.int64)], axis=1)
    ranks_N = rank_queries(scores_NC, pairs_N2, ties=ties).ranks_Q
    hits_KN = np.array([100.0 * (ranks_N <= k) for k in TOP_K.values()], dtype=np.float64)
    intervals_K2 = bootstrap_intervals(hits_KN, ["mean"] * len(TOP_K), rng=rng, num_resamples=num_resamples)
    return {
        **dict(zip(TOP_K, hits_KN.mean(axis=1).tolist(), strict=True)),
        "ci95": dict(zip(TOP_K, intervals_K2.tolist(), strict=True)),
    }
