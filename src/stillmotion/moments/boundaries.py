"""Comparison of the cuts of VC2 with where true moments begin and end.

VClipper (Caravaca 2024), chapters 3 and 4, takes a drop of CFSc for a change of scene; whether such changes are
boundaries of moments is measured here, against cuts placed by chance.
"""

# V videos with a true boundary.

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stillmotion.metrics.bootstrap import resample
from stillmotion.metrics.submission import Floats
from stillmotion.moments.curves import Mask
from stillmotion.moments.truth import GroundTruth

_SLACK_S = 1e-6
"""Times are products and sums of floats: a distance this much above the tolerance is still within it."""


@dataclass(frozen=True, slots=True)
class VideoBoundaries:
    """Cuts against true boundaries in one video."""

    num_boundaries: int
    num_cuts: int
    boundaries_with_cut: int
    """Boundaries with a cut within the tolerance."""
    cuts_at_boundary: int
    """Cuts with a boundary within the tolerance."""
    expected_with_cut: float
    """Boundaries that would have a cut within the tolerance, were as many cuts placed at random."""


def true_boundaries(windows: Sequence[Sequence[float]], *, duration: float, margin_s: float) -> list[float]:
    """Starts and ends of windows, each once, in order, without those within `margin_s` of the video's start or end.

    Example: windows [0, 4], [4, 9] and [20, 29] of a video of 30 s, margin 2 s: 4, 9 and 20 s.
    """
    times = {float(time) for window in windows for time in window}
    return sorted(time for time in times if margin_s + _SLACK_S < time < duration - margin_s - _SLACK_S)


def chance_of_a_cut(num_places: int, num_near: int, num_cuts: int) -> float:
    """Probability that at least one of a boundary's near places is among `num_cuts` drawn without replacement.

    1 - C(N - m, k) / C(N, k), the hypergeometric probability of one draw or more, for N places, m near ones, k cuts.

    Example: 1 of 4 places near, 1 cut: 1/4. 2 of 4 near, 2 cuts: 1 - C(2, 2) / C(4, 2) = 5/6.
    """
    nowhere_near = 1.0
    for place in range(num_near):
        nowhere_near *= max(num_places - num_cuts - place, 0) / (num_places - place)
    return 1.0 - nowhere_near


def compare_boundaries(cuts: Floats, boundaries: Floats, *, places: Floats, tolerance_s: float) -> VideoBoundaries:
    """Cuts of one video against its true boundaries.

    Args:
        cuts: seconds of the cuts.
        boundaries: seconds of the true boundaries.
        places: seconds at which there could have been a cut.
        tolerance_s: a cut this far from a boundary, or less, coincides with it.
    """
    reach = tolerance_s + _SLACK_S
    near_BC = np.abs(boundaries[:, None] - cuts) <= reach
    num_near_B = (np.abs(boundaries[:, None] - places) <= reach).sum(axis=1)
    chances = [chance_of_a_cut(len(places), int(num_near), len(cuts)) for num_near in num_near_B]
    return VideoBoundaries(
        num_boundaries=len(boundaries),
        num_cuts=len(cuts),
        boundaries_with_cut=int(near_BC.any(axis=1).sum()),
        cuts_at_boundary=int(near_BC.any(axis=0).sum()),
        expected_with_cut=float(sum(chances)),
    )


def boundaries_by_video(truth: GroundTruth, starts_QT: Mask) -> dict[str, VideoBoundaries]:
    """Cuts of each video, from where scenes start in it, against the boundaries of all its queries' windows.

    The tolerance, and the margin at the ends of the video, is the length of a clip; a cut can lie before each
    frame but the first.

    Args:
        truth: the queries.
        starts_QT: `selection.scene_starts` of the queries' curves: the same for all queries of a video.
    """
    first: dict[str, int] = {}
    windows: dict[str, list[list[float]]] = {}
    for index, query in enumerate(truth.queries):
        first.setdefault(query.vid, index)
        windows.setdefault(query.vid, []).extend(query.relevant_windows)
    clip_length_s = truth.clip_length_s
    compared = {}
    for video_id, index in first.items():
        boundaries = true_boundaries(
            windows[video_id], duration=float(truth.durations_Q[index]), margin_s=clip_length_s
        )
        frames = np.flatnonzero(starts_QT[index, : truth.num_frames_Q[index]])
        compared[video_id] = compare_boundaries(
            frames[frames > 0].astype(np.float64) * clip_length_s,
            np.array(boundaries, dtype=np.float64),
            places=np.arange(1, truth.num_frames_Q[index], dtype=np.float64) * clip_length_s,
            tolerance_s=clip_length_s,
        )
    return compared


def boundary_metrics(
    videos: Sequence[VideoBoundaries], *, tolerance_s: float, rng: np.random.Generator, num_resamples: int
) -> dict[str, Any]:
    """Recall and precision of the cuts over all videos, in percent, and the recall that chance would give.

    `above_chance` is recall less chance_recall; its interval is a bootstrap over the videos that have a true
    boundary, all boundaries of a drawn video at once. Null where there is nothing to divide by.

    Args:
        videos: of the test split.
        tolerance_s: that was applied.
        rng: draws the resamples.
        num_resamples: how many.
    """
    num_boundaries, num_cuts = sum(v.num_boundaries for v in videos), sum(v.num_cuts for v in videos)
    result: dict[str, Any] = {
        "recall": None,
        "precision": 100.0 * sum(v.cuts_at_boundary for v in videos) / num_cuts if num_cuts else None,
        "chance_recall": None,
        "above_chance": None,
        "ci95": None,
    }
    if num_boundaries:
        recall = 100.0 * sum(v.boundaries_with_cut for v in videos) / num_boundaries
        chance = 100.0 * sum(v.expected_with_cut for v in videos) / num_boundaries
        counted = [v for v in videos if v.num_boundaries]
        sums_2V = np.array(
            [[v.boundaries_with_cut - v.expected_with_cut for v in counted], [v.num_boundaries for v in counted]]
        )
        excess_R, count_R = resample(sums_2V, ["mean", "mean"], rng=rng, num_resamples=num_resamples)
        interval = np.percentile(100.0 * excess_R / count_R, [2.5, 97.5]).tolist()
        result |= {"recall": recall, "chance_recall": chance, "above_chance": recall - chance, "ci95": interval}
    return result | {
        "num_boundaries": num_boundaries,
        "num_cuts": num_cuts,
        "num_videos": len(videos),
        "tolerance_s": tolerance_s,
    }
