"""VC1 and VC2: from post-processed curves to runs of frames with a confidence.

VClipper (Caravaca 2024), section 3; METHODS.md section 2. `select_vc1` and `select_vc2` give the whole
selection, `vc1_runs` and `vc2_runs` what a search needs to find the top window of each query
(`runs.top_windows`).

Where the source is silent: a query whose selection is empty gets the run around its best frame (the first of
the highest): under VC1 the run of frames above min(λ, just below the best value), under VC2 the scene that
holds it.
"""

# Q queries, T frames (padded), R runs or scenes of all queries, N frames of all runs.

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stillmotion.errors import InputError
from stillmotion.moments.curves import Curves, Floats, Mask, valid_frames
from stillmotion.moments.runs import Runs, Selection, mean_scores, rank_windows, runs_between

Scored = tuple[Runs, Floats, Mask]
"""Runs, their confidences, and the queries (Q,) that fell back to the run around the best frame."""


def _best_frame(sc_QT: Floats, valid_QT: Mask) -> NDArray[np.int64]:
    return np.argmax(np.where(valid_QT, sc_QT, -np.inf), axis=1)


def _holding(runs: Runs, frame_Q: NDArray[np.int64]) -> Mask:
    """Whether each run holds the given frame of its query."""
    frame_R = frame_Q[runs.query_R]
    return (runs.first_R <= frame_R) & (frame_R < runs.end_R)


def vc1_runs(
    curves: Curves,
    sc_QT: Floats,
    *,
    threshold: float,
    least_confidence: float | None = None,
    allow_empty: bool = False,
) -> Scored:
    """Runs of frames with Sc > λ; a run's confidence is the mean of Sc in it.

    Example: Sc [.1, .8, .6, .2, .9], λ = 0.5: runs [1, 3) at 0.7 and [4, 5) at 0.9.

    Args:
        curves: lengths and durations.
        sc_QT: post-processed similarities.
        threshold: λ.
        least_confidence: β: only runs with a confidence above it are kept; None keeps all.
        allow_empty: leave a query without a run rather than fall back to the best frame.
    """
    valid_QT = curves.valid_QT
    threshold_Q = np.full(len(sc_QT), threshold)
    if not allow_empty:
        best_Q = np.where(valid_QT, sc_QT, -np.inf).max(axis=1)
        threshold_Q = np.minimum(threshold_Q, np.nextafter(best_Q, -np.inf))
    selected_QT = valid_QT & (sc_QT > threshold_Q[:, None])
    runs = runs_between(np.zeros_like(selected_QT), selected_QT)
    confidence_R = mean_scores(runs, sc_QT)
    lowered_Q = threshold_Q < threshold
    kept_R = np.ones(len(confidence_R), dtype=bool)
    if lowered_Q.any():
        kept_R = ~lowered_Q[runs.query_R] | _holding(runs, _best_frame(sc_QT, valid_QT))
    fallback_Q = lowered_Q
    if least_confidence is not None:
        above_R = confidence_R > least_confidence
        if not allow_empty:
            has_kept_Q = np.zeros(len(sc_QT), dtype=bool)
            has_kept_Q[runs.query_R[above_R]] = True
            above_R |= ~has_kept_Q[runs.query_R] & _holding(runs, _best_frame(sc_QT, valid_QT))
            fallback_Q = lowered_Q | ~has_kept_Q
        kept_R &= above_R
    return runs.keep(kept_R), confidence_R[kept_R], fallback_Q


def scene_starts(curves: Curves, *, change: float) -> Mask:
    """Whether a scene starts at each frame (Q, T): frame 0, and frame n + 1 after a cut at n.

    There is a cut at n when CFSc[n] < α and a neighbour of it, CFSc[n - 1] or CFSc[n + 1], is not; beyond the
    ends of the curve counts as not below.

    Example: CFSc [.9, .3, .2, .1, .9], α = 0.5: cuts at 1 and 3, scenes of frames 0-1, 2-3, 4-5.

    Args:
        curves: with CFSc.
        change: α.
    """
    starts_QT = np.zeros(curves.sc_QT.shape, dtype=bool)
    starts_QT[:, 0] = True
    below_QU = valid_frames(curves.num_frames_Q - 1, curves.cfsc_QU.shape[1]) & (curves.cfsc_QU < change)
    inside_QU = below_QU.copy()  # both neighbours are below as well
    inside_QU[:, :1] = False
    inside_QU[:, -1:] = False
    inside_QU[:, 1:] &= below_QU[:, :-1]
    inside_QU[:, :-1] &= below_QU[:, 1:]
    starts_QT[:, 1:] = below_QU & ~inside_QU
    return starts_QT


@dataclass(frozen=True, slots=True)
class FrameRanks:
    """Each query's frames by falling similarity; does not depend on λ, α or p."""

    rank_QT: NDArray[np.int64]
    """Place of each frame, from 0; of equals the earlier first."""
    falling_QT: Floats
    """The similarity at each place."""


def rank_frames(sc_QT: Floats) -> FrameRanks:
    """Rank the frames of post-processed curves for `vc2_runs`."""
    order_QT = np.argsort(-sc_QT, axis=1, kind="stable")
    rank_QT = np.empty_like(order_QT)
    np.put_along_axis(rank_QT, order_QT, np.arange(sc_QT.shape[1])[None], axis=1)
    return FrameRanks(rank_QT, np.take_along_axis(sc_QT, order_QT, axis=1))


def top_share_means(runs: Runs, ranks: FrameRanks, *, share: float) -> Floats:
    """Mean of the ceil(p · n) highest similarities in each run of n frames.

    Example: similarities [.2, .8, .5] and p = 0.5: two frames, 0.65.

    Args:
        runs: disjoint runs.
        ranks: of the curves.
        share: p. The product is lessened by 1e-9, so that 0.55 · 100 asks for 55 frames.
    """
    if len(runs.query_R) == 0:
        return np.empty(0)
    num_columns = ranks.rank_QT.shape[1]
    length_R = runs.end_R - runs.first_R
    offset_R = np.cumsum(length_R) - length_R
    query_N = np.repeat(runs.query_R, length_R)
    place_N = np.arange(len(query_N)) - np.repeat(offset_R, length_R)
    frame_N = np.repeat(runs.first_R, length_R) + place_N
    # one sort of whole numbers orders the frames of every run by falling similarity
    run_key_N = np.repeat(np.arange(len(length_R)), length_R) * num_columns
    rank_N = np.sort(run_key_N + ranks.rank_QT[query_N, frame_N]) - run_key_N
    num_top_R = np.maximum(np.ceil(share * length_R - 1e-9), 1.0)
    is_top_N = place_N < np.repeat(num_top_R, length_R)
    return np.add.reduceat(np.where(is_top_N, ranks.falling_QT[query_N, rank_N], 0.0), offset_R) / num_top_R


def vc2_runs(
    curves: Curves,
    sc_QT: Floats,
    *,
    threshold: float,
    change: float,
    share: float,
    ranks: FrameRanks | None = None,
    allow_empty: bool = False,
) -> Scored:
    """Scenes between cuts whose confidence is above λ; adjacent kept scenes merge and are scored again.

    Args:
        curves: CFSc, lengths and durations.
        sc_QT: post-processed similarities.
        threshold: λ.
        change: α, see `scene_starts`.
        share: p: a scene's confidence is the mean of its ceil(p · n) highest similarities.
        ranks: `rank_frames(sc_QT)` where the caller has it.
        allow_empty: leave a query without a scene rather than fall back to the best frame's.

    Raises:
        InputError: p is not above 0 and at most 1.
    """
    if not 0 < share <= 1:
        raise InputError(f"share p is {share}; give a number above 0 and at most 1")
    ranks = rank_frames(sc_QT) if ranks is None else ranks
    valid_QT = curves.valid_QT
    scenes = runs_between(scene_starts(curves, change=change), valid_QT)
    kept_R = top_share_means(scenes, ranks, share=share) > threshold
    has_kept_Q = np.zeros(len(sc_QT), dtype=bool)
    has_kept_Q[scenes.query_R[kept_R]] = True
    fallback_Q = np.zeros(len(sc_QT), dtype=bool)
    if not allow_empty:
        fallback_Q = ~has_kept_Q
        kept_R |= fallback_Q[scenes.query_R] & _holding(scenes, _best_frame(sc_QT, valid_QT))
    frames_QT = scenes.keep(kept_R).frames(sc_QT.shape)
    merged = runs_between(np.zeros_like(frames_QT), frames_QT)
    return merged, top_share_means(merged, ranks, share=share), fallback_Q


def select_vc1(
    curves: Curves,
    sc_QT: Floats,
    *,
    threshold: float,
    least_confidence: float | None = None,
    allow_empty: bool = False,
) -> Selection:
    """Frames and ranked windows of VC1; see `vc1_runs`."""
    runs, confidence_R, fallback_Q = vc1_runs(
        curves, sc_QT, threshold=threshold, least_confidence=least_confidence, allow_empty=allow_empty
    )
    return rank_windows(runs, confidence_R, curves, fallback_Q)


def select_vc2(
    curves: Curves,
    sc_QT: Floats,
    *,
    threshold: float,
    change: float,
    share: float,
    allow_empty: bool = False,
) -> Selection:
    """Frames and ranked windows of VC2; see `vc2_runs`."""
    runs, confidence_R, fallback_Q = vc2_runs(
        curves, sc_QT, threshold=threshold, change=change, share=share, allow_empty=allow_empty
    )
    return rank_windows(runs, confidence_R, curves, fallback_Q)
