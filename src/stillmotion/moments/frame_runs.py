"""Runs of frames, flat over a batch of queries: found, scored, ranked as windows.

A run is a stretch of successive frames of one query. Runs of all queries stand in flat arrays, sorted by
query and first frame, so that no step loops over queries.
"""

# Q queries, T frames (padded), R runs of all queries, W windows a query (padded).

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stillmotion.moments.curves import Curves, Floats, Mask

Ints = NDArray[np.int64]

MAX_WINDOWS = 10


@dataclass(frozen=True, slots=True)
class Runs:
    """Runs sorted by query and first frame."""

    query_R: Ints
    first_R: Ints
    end_R: Ints
    """One past the last frame."""

    def keep(self, kept_R: Mask) -> "Runs":
        return Runs(self.query_R[kept_R], self.first_R[kept_R], self.end_R[kept_R])

    def frames(self, shape: tuple[int, int]) -> Mask:
        """The frames in the runs, (Q, T)."""
        edges = np.zeros((shape[0], shape[1] + 1), dtype=np.int8)
        edges[self.query_R, self.first_R] = 1
        # a run may start where another ends, so the ends are subtracted, not assigned
        np.subtract.at(edges, (self.query_R, self.end_R), 1)
        return np.cumsum(edges[:, :-1], axis=1, dtype=np.int8) > 0


def flat_nonzero(mask_QT: Mask) -> tuple[Ints, Ints]:
    """Rows and columns of the True elements, as `np.nonzero` gives them, several times faster."""
    num_columns = mask_QT.shape[1]
    places = np.flatnonzero(mask_QT)
    rows = places // num_columns
    return rows, places - rows * num_columns


def runs_between(starts_QT: Mask, selected_QT: Mask) -> Runs:
    """Maximal stretches of selected frames, which also break before every frame where `starts_QT` is True."""
    first_QT = selected_QT.copy()
    first_QT[:, 1:] &= ~selected_QT[:, :-1] | starts_QT[:, 1:]
    last_QT = selected_QT.copy()
    last_QT[:, :-1] &= ~selected_QT[:, 1:] | starts_QT[:, 1:]
    query_R, first_R = flat_nonzero(first_QT)
    return Runs(query_R, first_R, flat_nonzero(last_QT)[1] + 1)


def mean_scores(runs: Runs, sc_QT: Floats) -> Floats:
    """Mean of the curve in each run."""
    return _reduced(np.add, runs, sc_QT) / (runs.end_R - runs.first_R)


def best_scores(runs: Runs, sc_QT: Floats) -> Floats:
    """Highest value of the curve in each run."""
    return _reduced(np.maximum, runs, sc_QT)


def _reduced(operation: np.ufunc, runs: Runs, sc_QT: Floats) -> Floats:
    if len(runs.query_R) == 0:
        return np.empty(0)
    num_columns = sc_QT.shape[1]
    offset_R = runs.query_R * num_columns
    bounds = np.stack([offset_R + runs.first_R, offset_R + runs.end_R], axis=1).ravel()
    flat = np.append(sc_QT.ravel(), 0.0)  # the last run may end where the array does
    return operation.reduceat(flat, bounds)[::2]


@dataclass(frozen=True, slots=True)
class Selection:
    """Frames and windows that a method selects for each query of a batch."""

    frames_QT: Mask
    """Frames of all kept runs, also of those beyond the ten windows."""
    windows_QW2: Floats
    """Start and end in seconds, best first; zeros on padding."""
    confidence_QW: Floats
    num_windows_Q: Ints
    fallback_Q: Mask
    """Queries for which the method kept nothing, and that got the run around the best frame instead."""


def run_windows(runs: Runs, curves: Curves) -> Floats:
    """Start and end (R, 2) in seconds: frame i stands for [i · L, min((i + 1) · L, duration)]."""
    starts_R = runs.first_R * curves.clip_length_s
    ends_R = np.minimum(runs.end_R * curves.clip_length_s, curves.durations_Q[runs.query_R])
    return np.stack([starts_R, ends_R], axis=1)


def rank_windows(runs: Runs, confidence_R: Floats, curves: Curves, fallback_Q: Mask) -> Selection:
    """Selection of at most ten windows a query by falling confidence, of equal confidence the earlier first."""
    num_queries = len(curves.num_frames_Q)
    order = np.lexsort((-confidence_R, runs.query_R))  # stable: runs of a query are in order of time
    query_R = runs.query_R[order]
    counts_Q = np.bincount(query_R, minlength=num_queries)
    place_R = np.arange(len(order)) - np.repeat(np.cumsum(counts_Q) - counts_Q, counts_Q)
    kept = order[place_R < MAX_WINDOWS]
    query_K, place_K = runs.query_R[kept], place_R[place_R < MAX_WINDOWS]
    num_windows_Q = np.minimum(counts_Q, MAX_WINDOWS)
    windows_QW2 = np.zeros((num_queries, MAX_WINDOWS, 2))
    confidence_QW = np.zeros((num_queries, MAX_WINDOWS))
    windows_QW2[query_K, place_K] = run_windows(runs, curves)[kept]
    confidence_QW[query_K, place_K] = confidence_R[kept]
    frames_QT = runs.frames(curves.sc_QT.shape)
    return Selection(frames_QT, windows_QW2, confidence_QW, num_windows_Q, fallback_Q)


def top_windows(runs: Runs, confidence_R: Floats, curves: Curves) -> Floats:
    """First window (Q, 2) of `rank_windows` without ranking the rest, [0, 0] where there is none."""
    windows_Q2 = np.zeros((len(curves.num_frames_Q), 2))
    if len(runs.query_R) == 0:
        return windows_Q2
    is_first_R = np.diff(runs.query_R, prepend=-1) > 0
    best = np.maximum.reduceat(confidence_R, np.flatnonzero(is_first_R))
    group_R = np.cumsum(is_first_R) - 1
    candidates = np.flatnonzero(confidence_R == best[group_R])
    candidates = candidates[np.diff(group_R[candidates], prepend=-1) > 0]  # the earliest of equals
    top = Runs(runs.query_R[candidates], runs.first_R[candidates], runs.end_R[candidates])
    windows_Q2[top.query_R] = run_windows(top, curves)
    return windows_Q2
