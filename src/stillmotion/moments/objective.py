"""Objective of a search of moment selection: a metric as a function of the parameters.

Source: Caravaca 2024 (papers/vclipper.txt), section 3; METHODS.md section 2.

Parameters by their names in the source: λ `threshold`, β `least_confidence`, α `change`, p `share`,
M `window`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from stillmotion.config.evaluation import SelectionParams
from stillmotion.metrics.frames import frame_values
from stillmotion.metrics.moments import recall_at_1, top1_iou
from stillmotion.moments.curves import Floats
from stillmotion.moments.frame_runs import Runs, top_windows
from stillmotion.moments.postprocess import log_curves, postprocess, smooth_norm, train_range
from stillmotion.moments.queries import EmbeddedQueries
from stillmotion.moments.selection import FrameRanks, rank_frames, vc1_runs, vc2_runs

LONGEST_SMOOTHING = 21
"""M is searched among the odd numbers from 3 to this."""
LEAST_SHARE = 0.05
"""p is searched from this to 1."""
_KEPT_SMOOTHINGS = 3
"""Values of M whose curves are kept: a search soon asks for the same few, and more would be gigabytes for some."""


@dataclass(frozen=True, slots=True)
class Range:
    """The values that a parameter may take."""

    low: float
    high: float
    step: int | None = None
    """Between whole numbers; None for every number between low and high."""


class Objective:
    """The objective of a selection on labelled queries, in percent.

    λ and β range over [0, 1] where the post-processing gives that and over the similarities otherwise, α over the
    CFSc, p over [0.05, 1], M over odd numbers.

    Args:
        split: the queries; of the train split for whatever is reported on others.
        selection: the method, and what is measured: `R1@0.5` of its windows or `frame_AP@0.5` of its frames.
    """

    def __init__(self, split: EmbeddedQueries, selection: SelectionParams):
        self.selection = selection
        curves = split.curves
        smoothed = selection.post_processing == "log_smooth_norm"
        low, high = train_range(curves.sc_QT, curves.num_frames_Q)
        self.frozen_range = (low, high) if selection.post_processing == "adjust_norm" else None
        """Minimum and maximum over the split, for `adjust_norm`."""
        self.ranges = {"threshold": Range(low, high) if selection.post_processing == "none" else Range(0.0, 1.0)}
        """What each parameter ranges over, in the order in which they are searched."""
        if selection.method == "vc1_beta":
            self.ranges["least_confidence"] = self.ranges["threshold"]
        if smoothed:
            self.ranges["window"] = Range(3, LONGEST_SMOOTHING, 2)
        if selection.method == "vc2":
            changes = curves.cfsc_QU[curves.valid_QT[:, 1:]]
            spread = Range(float(changes.min()), float(changes.max())) if changes.size else Range(0.0, 1.0)
            self.ranges |= {"change": spread, "share": Range(LEAST_SHARE, 1.0)}
        self._split = split
        # What no parameter changes is computed once.
        least = selection.least_cosine
        self._logs = log_curves(curves.sc_QT, curves.num_frames_Q, least_cosine=least) if smoothed else None
        self._processed = lru_cache(maxsize=_KEPT_SMOOTHINGS)(self._process)

    def _process(self, window: int | None) -> tuple[Floats, FrameRanks | None]:
        """The curves that thresholds are compared with, and for VC2 the ranks of their frames."""
        curves = self._split.curves
        if self._logs is not None and window is not None:
            sc_QT = smooth_norm(self._logs, curves.num_frames_Q, window=window).sc_QT
        else:
            sc_QT = postprocess(
                curves.sc_QT,
                curves.num_frames_Q,
                method=self.selection.post_processing,
                frozen_range=self.frozen_range,
            ).sc_QT
        return sc_QT, rank_frames(sc_QT) if self.selection.method == "vc2" else None

    def _runs(self, parameters: Mapping[str, Any]) -> tuple[Runs, Floats]:
        """Runs that the method selects, with their confidences."""
        sc_QT, ranks = self._processed(parameters.get("window"))
        threshold = parameters["threshold"]
        if self.selection.method != "vc2":
            least = parameters.get("least_confidence")
            runs, confidence_R, _ = vc1_runs(self._split.curves, sc_QT, threshold=threshold, least_confidence=least)
        else:
            change, share = parameters["change"], parameters["share"]
            runs, confidence_R, _ = vc2_runs(
                self._split.curves, sc_QT, threshold=threshold, change=change, share=share, ranks=ranks
            )
        return runs, confidence_R

    def __call__(self, parameters: Mapping[str, Any]) -> float:
        """The objective where each of `ranges` has the value given."""
        curves = self._split.curves
        runs, confidence_R = self._runs(parameters)
        if self.selection.objective == "R1@0.5":  # needs no window but the first
            return recall_at_1(top1_iou(top_windows(runs, confidence_R, curves), self._split.windows), 0.5)
        frames_QT = runs.frames(curves.sc_QT.shape)
        return float(100 * np.mean(frame_values(frames_QT, self._split.true_QT, curves.valid_QT)["AP@0.5"]))
