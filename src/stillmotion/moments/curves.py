"""Similarity curves: each frame's cosine with the query, and with the frame that follows it.

VClipper (Caravaca 2024), section 3; METHODS.md section 2.
"""

# Q queries, T frames (padded), U = T - 1 pairs of successive frames, D dimensions, N queries of one video.

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stillmotion.errors import InputError

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Curves:
    """The curves of a batch of queries, padded with zeros; what stands in the padding changes nothing."""

    sc_QT: Floats
    """Sc: cosine of frame and query."""
    cfsc_QU: Floats
    """CFSc: cosine of frame i and frame i + 1 of the query's video."""
    num_frames_Q: NDArray[np.int64]
    durations_Q: Floats
    """Seconds of the video."""
    clip_length_s: float
    """Frame i stands for [i · clip_length_s, min((i + 1) · clip_length_s, duration)]."""

    @property
    def valid_QT(self) -> Mask:  # noqa: N802
        return valid_frames(self.num_frames_Q, self.sc_QT.shape[1])


def valid_frames(num_frames_Q: NDArray[np.int64], num_columns: int) -> Mask:
    """Mask (Q, T) that is False on padding, for T columns."""
    return np.arange(num_columns) < num_frames_Q[:, None]


def _unit(vectors: NDArray[np.floating]) -> Floats:
    """Rows of length one; a zero row stays zero, so that its cosines are 0."""
    vectors = np.asarray(vectors, dtype=np.float64)
    if vectors.ndim != 2 or not np.isfinite(vectors).all():
        raise InputError(f"embeddings of shape {vectors.shape} are no matrix of finite numbers; give a row each")
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(norms > 0, norms, 1.0)


def query_similarity(frames_TD: NDArray[np.floating], queries_ND: NDArray[np.floating]) -> Floats:
    """Sc (N, T) of a video's frames with its queries (texts or images)."""
    return _unit(queries_ND) @ _unit(frames_TD).T


def frame_similarity(frames_TD: NDArray[np.floating]) -> Floats:
    """CFSc (T - 1,) of successive frames; once for a video, whatever its queries."""
    unit_TD = _unit(frames_TD)
    return (unit_TD[:-1] * unit_TD[1:]).sum(axis=1)


def _pad(rows: Sequence[Floats], num_columns: int) -> Floats:
    padded = np.zeros((len(rows), num_columns))
    for row, values in enumerate(rows):
        padded[row, : len(values)] = values
    return padded


def stack_curves(
    sc: Sequence[Floats],
    cfsc: Sequence[Floats],
    *,
    durations: Sequence[float] | Floats,
    clip_length_s: float,
) -> Curves:
    """Pad the curves of queries of unequal length into one batch.

    Args:
        sc: (T,) a query.
        cfsc: (T - 1,) a query: the same array for all queries of a video.
        durations: seconds of each query's video.
        clip_length_s: seconds that a frame stands for.

    Raises:
        InputError: a query has no frames, its CFSc does not fit, or its last frame starts after the video's
            end; names its index (from 0).
    """
    num_frames_Q = np.array([len(curve) for curve in sc], dtype=np.int64)
    durations_Q = np.asarray(durations, dtype=np.float64)
    if not len(sc) == len(cfsc) == len(durations_Q) or len(sc) == 0:
        raise InputError(
            f"{len(sc)} Sc curves, {len(cfsc)} CFSc curves, {len(durations_Q)} durations; give a query each"
        )
    for query, (num_frames, changes, duration) in enumerate(zip(num_frames_Q, cfsc, durations_Q, strict=True)):
        if num_frames == 0 or len(changes) != num_frames - 1:
            raise InputError(
                f"query {query}: {num_frames} frames and {len(changes)} frame similarities; give T and T - 1"
            )
        if not (num_frames - 1) * clip_length_s < duration < np.inf:
            raise InputError(
                f"query {query}: {num_frames} frames of {clip_length_s} s in a video of {duration} s; drop "
                "the frames past its end"
            )
    longest = int(num_frames_Q.max())
    return Curves(_pad(sc, longest), _pad(cfsc, longest - 1), num_frames_Q, durations_Q, clip_length_s)


def curves_from_embeddings(
    frames: Sequence[NDArray[np.floating]],
    queries_QD: NDArray[np.floating],
    *,
    video_of_query: Sequence[int] | NDArray[np.int64],
    durations: Sequence[float] | Floats,
    clip_length_s: float,
) -> Curves:
    """Curves of queries against the frames of their videos.

    Args:
        frames: (T, D) a video.
        queries_QD: embeddings of the queries.
        video_of_query: index into `frames` of each query's video.
        durations: seconds of each video, as `frames`.
        clip_length_s: seconds that a frame stands for.

    Raises:
        InputError: see `stack_curves`.
    """
    video_of_query = np.asarray(video_of_query, dtype=np.int64)
    sc: list[Floats] = [np.empty(0)] * len(video_of_query)
    cfsc = list(sc)
    for video in np.unique(video_of_query):
        queries = np.flatnonzero(video_of_query == video)
        changes = frame_similarity(frames[video])
        for query, curve in zip(queries, query_similarity(frames[video], queries_QD[queries]), strict=True):
            sc[query], cfsc[query] = curve, changes
    durations_Q = np.asarray(durations, dtype=np.float64)[video_of_query]
    return stack_curves(sc, cfsc, durations=durations_Q, clip_length_s=clip_length_s)
