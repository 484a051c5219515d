"""Accuracy of action recognition, zero-shot and with few-shot probes.

Source: Lindgren 2023 (papers/video-embeddings.txt), section 3.2.4; METHODS.md section 4.
"""

# N spans, K classes, D embedding dimensions, D1 = D + 1 (the bias last), R probes, S seeds.

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from stillmotion.io.checked import STRICT
from stillmotion.metrics.classification import TOP_K, top_k_accuracy


class Probed(BaseModel):
    """What evaluation reads of a row of probes.jsonl."""

    model_config = STRICT

    shots: int
    seed: int
    validation_top1: float | None


@dataclass(frozen=True, slots=True)
class Recognition:
    """Classes that spans were given, and what that is worth."""

    metrics: dict[str, Any]
    """`zero_shot`, and `top1` and `top5` by number of shots; empty where there are no spans."""
    zero_shot_N: NDArray[np.int64]
    """Class of each span; of equal scores the first."""
    probed_SN: dict[int, NDArray[np.int64]] = field(default_factory=dict)
    """The same by each probe, by number of shots."""

    def curve(self) -> list[dict[str, Any]]:
        """Rows `shots, top1, zero_shot` of accuracy by number of shots."""
        zero_shot = self.metrics["zero_shot"].get("top1")
        return [
            {"shots": int(shots), "top1": top1["mean"], "zero_shot": zero_shot}
            for shots, top1 in self.metrics["top1"].items()
        ]


def over_seeds(values: Sequence[float], *, share: float) -> dict[str, Any]:
    """Mean, sample standard deviation and the values of one metric, and the mean if the missing spans were wrong.

    Example: 40 and 60 with a share of 0.5: mean 50, std 14.14, pessimistic 25.

    Args:
        values: of each seed.
        share: of the split's spans that are there.
    """
    std = np.std(values, ddof=1) if len(values) > 1 else 0.0
    return {"mean": np.mean(values), "std": std, "runs": list(values), "pessimistic": share * np.mean(values)}


def recognise(
    spans_ND: NDArray[Any],
    labels_N: NDArray[np.int64],
    *,
    classes_KD: NDArray[Any],
    weights_RKD1: NDArray[Any],
    shots_R: Sequence[int],
    num_missing: int,
    rng: np.random.Generator,
    num_resamples: int,
) -> Recognition:
    """Name the spans zero-shot and by each probe.

    Args:
        spans_ND: embeddings of the spans.
        labels_N: their classes.
        classes_KD: embeddings of the classes' names.
        weights_RKD1: of the probes.
        shots_R: samples a class that each probe was fitted on.
        num_missing: spans of the split that could not be embedded, for `pessimistic`.
        rng: draws the resamples.
        num_resamples: of the bootstrap.
    """
    metrics: dict[str, Any] = {"zero_shot": {}, "top1": {}, "top5": {}}
    if not len(spans_ND):
        return Recognition(metrics, np.empty(0, dtype=np.int64))
    share = len(spans_ND) / (len(spans_ND) + num_missing)
    zero_shot_NK = spans_ND @ classes_KD.T
    metrics["zero_shot"] = top_k_accuracy(zero_shot_NK, labels_N, rng=rng, num_resamples=num_resamples)
    metrics["zero_shot"]["pessimistic"] = {name: share * metrics["zero_shot"][name] for name in TOP_K}
    probed_SN = {}
    for shots in sorted(set(shots_R)):
        scores_SNK = [
            spans_ND @ weights_KD1[:, :-1].T + weights_KD1[:, -1]
            for of_probe, weights_KD1 in zip(shots_R, weights_RKD1, strict=True)
            if of_probe == shots
        ]
        of_seeds = [top_k_accuracy(scores, labels_N, rng=rng, num_resamples=num_resamples) for scores in scores_SNK]
        probed_SN[shots] = np.array([scores_NK.argmax(axis=1) for scores_NK in scores_SNK])
        for name in TOP_K:
            metrics[name][str(shots)] = over_seeds([one[name] for one in of_seeds], share=share)
    return Recognition(metrics, zero_shot_NK.argmax(axis=1), probed_SN)
