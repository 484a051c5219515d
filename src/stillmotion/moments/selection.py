"""VC1 and VC2: from post-processed curves to runs of frames with a confidence.

VClipper (Caravaca 2024), section 3; METHODS.md section 2. `select_vc1` and `select_vc2` give the whole
selection, `vc1_runs` and `vc2_runs` what a search needs to find the top window of each query
(`frame_runs.top_windows`).

Where the source is silent: a query whose selection is empty gets the run around its best frame (the first of
the highest): under VC1 the run of frames that reach its value, under VC2 the scene that holds it.
"""

# Q queries, T frames (padded), F queries that fall back, R runs or scenes of all queries, N frames of all runs.

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stillmotion.errors import InputError
from stillmotion.moments.curves import Curves, Floats, Mask, valid_frames
from stillmotion.moments.frame_runs import Runs, Selection, flat_nonzero, mean_scores, rank_windows, runs_between

Scored = tuple[Runs, Floats, Mask]
"""Runs, their confidences, and the queries (Q,) that fell back to the run around the best frame."""


def _best_frame(sc_QT: Floats, valid_QT: Mask) -> NDArray[np.int64]:
    return np.argmax(np.where(valid_QT, sc_QT, -np.inf), axis=1)


def _holding(runs: Runs, frame_Q: NDArray[np.int64]) -> Mask:
    """Mask (R,) of the runs that hold the given frame of their query."""
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
    selected_QT = valid_QT & (sc_QT > threshold)
    fallback_Q = np.zeros(len(sc_QT), dtype=bool)
    if not allow_empty:
        np.logical_not(selected_QT.any(axis=1), out=fallback_Q)
        # by >=, for a threshold just below a best value of 0 is a denormal number, which some modes flush to 0
        tried_FT = np.where(valid_QT[fallback_Q], sc_QT[fallback_Q], -np.inf)
        selected_QT[fallback_Q] = tried_FT >= tried_FT.max(axis=1, keepdims=True)
    runs = runs_between(np.zeros_like(selected_QT), selected_QT)
    confidence_R = mean_scores(runs, sc_QT)
    kept_R = np.ones(len(confidence_R), dtype=bool)
    if fallback_Q.any():
        kept_R = ~fallback_Q[runs.query_R] | _holding(runs, _best_frame(sc_QT, valid_QT))
    if least_confidence is not None:
        above_R = confidence_R > least_confidence
        if not allow_empty:
            has_kept_Q = np.zeros(len(sc_QT), dtype=bool)
            has_kept_Q[runs.query_R[above_R]] = True
            above_R |= ~has_kept_Q[runs.query_R] & _holding(runs, _best_frame(sc_QT, valid_QT))
            fallback_Q |= ~has_kept_Q
        kept_R &= above_R
    return runs.keep(kept_R), confidence_R[kept_R], fallback_Q


def scene_starts(curves: Curves, *, change: float) -> Mask:
    """Mask (Q, T) of the frames at which a scene starts: frame 0, and frame n + 1 after a cut at n.

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


def _scenes(curves: Curves, *, change: float) -> Runs:
    """The scenes of all queries: together they hold every frame."""
    query_R, first_R = flat_nonzero(scene_starts(curves, change=change))
    end_R = curves.num_frames_Q[query_R]
    followed = np.flatnonzero(query_R[1:] == query_R[:-1])
    end_R[followed] = first_R[followed + 1]
    return Runs(query_R, first_R, end_R)


def _merge_adjacent(scenes: Runs, kept_R: Mask) -> Runs:
    """Kept scenes, those that follow each other as one."""
    joined_R = kept_R.copy()
    joined_R[:1] = False
    joined_R[1:] &= kept_R[:-1] & (scenes.query_R[1:] == scenes.query_R[:-1])  # with the scene before
    is_first_R = kept_R & ~joined_R
    is_last_R = kept_R.copy()
    is_last_R[:-1] &= ~joined_R[1:]
    return Runs(scenes.query_R[is_first_R], scenes.first_R[is_first_R], scenes.end_R[is_last_R])


@dataclass(frozen=True, slots=True)
class FrameRanks:
    """Frames of each query by falling similarity, which depends on neither λ nor α nor p."""

    rank_QT: NDArray[np.int32]
    """Place of each frame, from 0; of equals the earlier first."""
    falling_QT: Floats
    """The similarity at each place."""


def rank_frames(sc_QT: Floats) -> FrameRanks:
    """Rank the frames of post-processed curves for `vc2_runs`."""
    num_queries, num_columns = sc_QT.shape
    place_QT = np.argsort(-sc_QT, axis=1, kind="stable")
    place_QT += np.arange(num_queries)[:, None] * num_columns  # in the flat array
    rank_QT = np.empty(sc_QT.shape, dtype=np.int32)
    rank_QT.ravel()[place_QT] = np.arange(num_columns, dtype=np.int32)
    return FrameRanks(rank_QT, sc_QT.ravel()[place_QT])


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
    num_top_R = np.maximum(np.ceil(share * length_R - 1e-9), 1.0)
    run_N = np.repeat(np.arange(len(length_R)), length_R)
    place_N = np.arange(len(run_N))
    row_R = runs.query_R * num_columns
    # one sort of whole numbers orders the frames of every run by falling similarity
    key_N = run_N * num_columns
    key_N += ranks.rank_QT.ravel()[(row_R + runs.first_R - offset_R)[run_N] + place_N]
    key_N.sort()
    key_N += (row_R - np.arange(len(row_R)) * num_columns)[run_N]
    is_top_N = place_N < (offset_R + num_top_R)[run_N]
    return np.add.reduceat(np.where(is_top_N, ranks.falling_QT.ravel()[key_N], 0.0), offset_R) / num_top_R


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
    scenes = _scenes(curves, change=change)
    kept_R = top_share_means(scenes, ranks, share=share) > threshold
    has_kept_Q = np.zeros(len(sc_QT), dtype=bool)
    has_kept_Q[scenes.query_R[kept_R]] = True
    fallback_Q = np.zeros(len(sc_QT), dtype=bool)
    if not allow_empty:
        fallback_Q = ~has_kept_Q
        kept_R |= fallback_Q[scenes.query_R] & _holding(scenes, _best_frame(sc_QT, valid_QT))
    merged = _merge_adjacent(scenes, kept_R)
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


def select(curves: Curves, sc_QT: Floats, method: str, parameters: dict[str, Any]) -> Selection:
    """Frames and ranked windows of VC1, with or without β, or of VC2, with the parameters of a search."""
    if method != "vc2":
        return select_vc1(
            curves,
            sc_QT,
            threshold=parameters["threshold"],
            least_confidence=parameters.get("least_confidence"),
        )
    return select_vc2(
        curves, sc_QT, threshold=parameters["threshold"], change=parameters["change"], share=parameters["share"]
    )
