"""Moments of all videos for one query, best first, from stored frame embeddings.

Windows are the pipeline's own: VC1 or VC2 on a post-processed curve. A post-processed curve is normalised for each
pair of query and video, so its values can't be compared across videos: moments rank by the mean raw cosine of query
and frames within the window, and for a text by its mean with the cosine of text and whole video, where a system of
retrieval gives one. That of the window is at most the highest cosine of its video, so the videos are looked at in
falling order of what they can have, and the search stops once no other can hold a better moment; the result is that of
looking at all of them.
"""

# Q queries, V videos, N stored frames, C frames that stand for a clip (of all videos), T frames of a video (padded),
# D dimensions.

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stillmotion.embedding.reader import EmbeddedVideo
from stillmotion.errors import InputError
from stillmotion.moments.curves import curves_from_embeddings
from stillmotion.moments.frame_runs import best_scores, mean_scores, run_windows, runs_between
from stillmotion.moments.postprocess import LEAST_COSINE, PostProcessing, postprocess
from stillmotion.moments.selection import select

FIRST_VIDEOS = 16
"""How many videos are looked at first; then twice as many, and so on."""
ROUNDING = 1e-5
"""How far a cosine in the precision of the stored frames may be from the same in double precision."""


@dataclass(frozen=True, slots=True)
class SelectionRule:
    """How windows are selected: what thresholds.json holds of it."""

    method: str
    post_processing: PostProcessing
    parameters: dict[str, Any]
    least_cosine: float
    frozen_range: tuple[float, float] | None


UNTUNED = SelectionRule("vc1", "norm", {"threshold": 0.75}, LEAST_COSINE, None)
"""For datasets without labelled moments: λ at the upper end of what the source assesses models with (0.5 to 0.75)."""


@dataclass(frozen=True, slots=True)
class FoundMoment:
    """A window of a video."""

    video_id: str
    start: float
    end: float
    """Seconds; at most the video's duration."""
    score: float
    """What it ranks by: a cosine, or the mean of two."""
    first_clip: int
    end_clip: int
    """One past the last clip."""


def find_moments(
    frames_ND: NDArray[np.floating],
    videos: Sequence[EmbeddedVideo],
    query_D: NDArray[np.floating],
    rule: SelectionRule,
    *,
    clip_length_s: float,
    top: int,
    wholes_V: NDArray[np.floating] | None = None,
    by_best_frame: bool = False,
) -> list[FoundMoment]:
    """The `top` moments of the videos by falling score; of equal scores by video, then by time.

    All windows that the rule keeps in a video take part, not only its ten most confident.

    Args:
        frames_ND: unit vectors of the stored frames; may be a memory map, read once.
        videos: where the frames of each lie in it.
        query_D: unit vector of a text or an image.
        rule: selects the windows of each video.
        clip_length_s: seconds that a frame stands for.
        top: how many moments, at most.
        wholes_V: cosine of the query with each video as a whole, which a moment's score is averaged with.
        by_best_frame: score a window by the highest cosine within in place of the mean; for an image, which one frame
            shows and the others of the window may not.

    Raises:
        InputError: a vector is not finite, or a video has not as many clips as its duration asks for.
    """
    if not videos:
        return []
    check_clips(videos, clip_length_s)
    _check_frames(frames_ND, videos, len(query_D))
    (best_V,) = best_cosines(frames_ND, videos, query_D[None])
    if wholes_V is not None:
        best_V = (best_V + wholes_V) / 2
    order = np.argsort(-best_V, kind="stable")
    found: list[FoundMoment] = []
    position, size = 0, FIRST_VIDEOS
    while position < len(order) and (len(found) < top or found[top - 1].score <= best_V[order[position]] + ROUNDING):
        rows = order[position : position + size]
        moments = _moments_of(frames_ND, [videos[row] for row in rows], query_D, rule, clip_length_s, by_best_frame)
        if wholes_V is not None:
            whole_of = {videos[row].video_id: float(wholes_V[row]) for row in rows}
            moments = [replace(each, score=(each.score + whole_of[each.video_id]) / 2) for each in moments]
        found += moments
        found = sorted(found, key=lambda moment: (-moment.score, moment.video_id, moment.start))[:top]
        position, size = position + size, 2 * size
    return found


def check_clips(videos: Sequence[EmbeddedVideo], clip_length_s: float) -> None:
    """Raise InputError where the videos were sampled in clips of another length."""
    for video in videos:
        if len(video.clips) != max(1, math.ceil(video.duration / clip_length_s - 1e-6)):
            raise InputError(
                f"params.yaml: sample_frames.clip_length_s is {clip_length_s:g}, but {video.video_id} of "
                f"{video.duration:g} s is embedded in {len(video.clips)} clips; run `dvc repro`"
            )


def _check_frames(frames_ND: NDArray[np.floating], videos: Sequence[EmbeddedVideo], dim: int) -> None:
    """Raise InputError where the table is not the one that the videos' rows are counted in."""
    num_rows = max(video.offset + video.count for video in videos)
    fits = frames_ND.ndim == 2 and frames_ND.shape[1] == dim and len(frames_ND) >= num_rows
    if not fits or frames_ND.dtype.kind != "f":
        raise InputError(
            f"frames.npy: holds {frames_ND.dtype} of shape {frames_ND.shape}; index.jsonl and the model ask for floats "
            f"of shape ({num_rows}, {dim}): remove the folder and run `dvc repro`"
        )


def best_cosines(
    frames_ND: NDArray[np.floating], videos: Sequence[EmbeddedVideo], queries_QD: NDArray[np.floating]
) -> NDArray[np.floating]:
    """Highest cosine of each query with a clip's frame, of each video: (Q, V)."""
    first = min(video.offset for video in videos)
    end = max(video.offset + video.count for video in videos)
    cosines_QN = queries_QD.astype(frames_ND.dtype) @ np.asarray(frames_ND[first:end]).T
    counts_V = np.array([len(video.clips) for video in videos], dtype=np.int64)
    clips_C = np.concatenate([video.clips for video in videos])
    offsets_C = np.repeat([video.offset - first for video in videos], counts_V)
    cosines_QC = cosines_QN[:, clips_C + offsets_C]
    if not np.isfinite(cosines_QC).all():
        raise InputError("frames.npy: an embedding is not finite; remove the folder and run `dvc repro`")
    return np.maximum.reduceat(cosines_QC, np.cumsum(counts_V) - counts_V, axis=1)


def _moments_of(
    frames_ND: NDArray[np.floating],
    videos: Sequence[EmbeddedVideo],
    query_D: NDArray[np.floating],
    rule: SelectionRule,
    clip_length_s: float,
    by_best_frame: bool,
) -> list[FoundMoment]:
    curves = curves_from_embeddings(
        [frames_ND[video.offset + np.asarray(video.clips)] for video in videos],
        np.broadcast_to(query_D, (len(videos), len(query_D))),
        video_of_query=np.arange(len(videos)),
        durations=[video.duration for video in videos],
        clip_length_s=clip_length_s,
    )
    processed = postprocess(
        curves.sc_QT,
        curves.num_frames_Q,
        method=rule.post_processing,
        window=rule.parameters.get("window"),
        frozen_range=rule.frozen_range,
        least_cosine=rule.least_cosine,
    )
    frames_QT = select(curves, processed.sc_QT, rule.method, rule.parameters).frames_QT
    runs = runs_between(np.zeros_like(frames_QT), frames_QT)
    scores_R = (best_scores if by_best_frame else mean_scores)(runs, curves.sc_QT)
    spans_R2 = run_windows(runs, curves)
    return [
        FoundMoment(videos[query].video_id, start, end, score, first_clip, end_clip)
        for query, (start, end), score, first_clip, end_clip in zip(
            runs.query_R.tolist(),
            spans_R2.tolist(),
            scores_R.tolist(),
            runs.first_R.tolist(),
            runs.end_R.tolist(),
            strict=True,
        )
    ]
