"""Which frames to take: index arithmetic on timestamps, with no video in sight.

Times are seconds from the start of the file. A frame is shown from its timestamp to the next frame's, so with a
variable frame rate the frame at a time is found among the timestamps, never as time × average rate.
"""

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

# Timestamps are sums of fractions such as 1/30 s: a frame due within a microsecond counts as shown.
_TOLERANCE_S = 1e-6


def segment_times(duration: float, num: int, *, rng: np.random.Generator | None = None) -> NDArray[np.float64]:
    """One time in each of `num` equal segments of [0, duration]: its middle, or a random one with `rng`.

    The sampling of training and testing in Mug-STAN; the middles are also the stored uniform frames.

    Returns:
        (num,) seconds, ascending. `segment_times(8.0, 4)` is 1, 3, 5, 7.
    """
    if num < 1 or not duration > 0:
        raise ValueError(f"{num} segments of {duration} s: both must be above 0")
    within = np.full(num, 0.5) if rng is None else rng.random(num)
    return (np.arange(num, dtype=np.float64) + within) * (duration / num)


def clip_times(duration: float, *, clip_length_s: float, position: Literal["start", "middle"]) -> NDArray[np.float64]:
    """The time that stands for each clip of `clip_length_s` of a video.

    Clip i is [i · clip_length_s, min((i + 1) · clip_length_s, duration]], as in QVHighlights; its middle is
    the middle of that, so a short last clip is still represented by itself.

    Returns:
        (ceil(duration / clip_length_s),) seconds. 5 s in clips of 2 s: 0, 2, 4 or 1, 3, 4.5.
    """
    if not (duration > 0 and clip_length_s > 0):
        raise ValueError(f"clips of {clip_length_s} s in {duration} s: both must be above 0")
    num_clips = max(1, math.ceil(duration / clip_length_s - _TOLERANCE_S))
    starts = np.arange(num_clips, dtype=np.float64) * clip_length_s
    if position == "start":
        return starts
    ends = np.minimum(starts + clip_length_s, duration)
    return np.asarray((starts + ends) / 2, dtype=np.float64)


def frames_shown_at(timestamps: NDArray[np.float64], times: NDArray[np.float64]) -> NDArray[np.int64]:
    """The index of the frame that is on the screen at each time.

    Args:
        timestamps: (frames,) ascending.
        times: (n,) any order; a time before the first frame gives frame 0.

    Returns:
        (n,) indices. Timestamps 0, 1, 5 and times 0.5, 4.9, 5: frames 0, 1, 2.
    """
    found = np.searchsorted(timestamps, np.asarray(times) + _TOLERANCE_S, side="right") - 1
    return np.clip(found, 0, len(timestamps) - 1).astype(np.int64)


def segment_indices(num_stored: int, num: int, *, rng: np.random.Generator | None = None) -> NDArray[np.int64]:
    """One of each of `num` equal segments of `num_stored` frames: the middle one, or a random one with `rng`.

    For stored uniform frames. With fewer frames than segments some are taken more than once.

    Returns:
        (num,) indices, ascending. `segment_indices(64, 8)` is 4, 12, …, 60.
    """
    if num < 1 or num_stored < 1:
        raise ValueError(f"{num} segments of {num_stored} frames: both must be above 0")
    segment = np.arange(num, dtype=np.int64)
    if rng is None:
        return (2 * segment + 1) * num_stored // (2 * num)
    low = segment * num_stored // num
    high = np.maximum(low + 1, (segment + 1) * num_stored // num)
    return rng.integers(low, high)


def clip_layout(num_stored: int, *, num_clips: int, clip_frames: int) -> NDArray[np.int64]:
    """Stored uniform frames as the clips of a model that takes `clip_frames` at a time.

    num_clips × clip_frames frames are taken uniformly from the stored ones, and each clip is a run of
    consecutive ones of those: the clips follow one another and together span the whole video, however many
    there are. The embeddings thesis says only that models with 8 or 16 frames "sample multiple clips from
    those 64 frames" (3.1.2) and that "all frames used were uniformly sampled from each video" (5.1); this
    layout is the one that fits both, and one clip of 8 frames is then the usual uniform sampling.

    Returns:
        (num_clips, clip_frames) indices. Two clips of two out of 8: [[1, 3], [5, 7]].
    """
    if num_clips * clip_frames > num_stored:
        raise ValueError(f"{num_clips} clips of {clip_frames} frames need more than the {num_stored} stored")
    return segment_indices(num_stored, num_clips * clip_frames).reshape(num_clips, clip_frames)


def span_indices(
    timestamps: NDArray[np.float64],
    start: float,
    end: float,
    num: int,
    *,
    within: float = 0.5,
    rng: np.random.Generator | None = None,
) -> NDArray[np.int64]:
    """The stored frames nearest to one time in each of `num` equal segments of the span [start, end].

    A span that reaches past the video gives its first or last frame there; of two frames equally near, the
    earlier one is taken.

    Args:
        timestamps: (frames,) ascending, of the stored frames.
        start: Seconds.
        end: Seconds, not before `start`.
        num: How many.
        within: Where in each segment the time is, from 0 (its start) to 1 (its end); the middle.
        rng: Takes a random time of each segment instead, for training.

    Returns:
        (num,) indices, ascending. Timestamps 0, 1, 2, 3, span [1, 3], two frames: 1 (for 1.5), 2 (for 2.5).
    """
    if num < 1 or end < start:
        raise ValueError(f"{num} frames of the span [{start}, {end}]: none are asked for, or it ends too early")
    within_N = np.full(num, within) if rng is None else rng.random(num)
    times = start + (np.arange(num) + within_N) * ((end - start) / num)
    after = np.clip(np.searchsorted(timestamps, times), 0, len(timestamps) - 1)
    before = np.maximum(after - 1, 0)
    nearer_after = np.abs(timestamps[after] - times) < np.abs(times - timestamps[before])
    return np.where(nearer_after, after, before).astype(np.int64)


def view_indices(
    timestamps: NDArray[np.float64], start: float, end: float, num: int, *, num_views: int
) -> NDArray[np.int64]:
    """Several temporal views of the span [start, end], each of `num` stored frames.

    View v of V has, of each of `num` equal segments, the frame nearest to the point (2v + 1) / (2V) of its length: V
    frames of a segment lie as far apart as can be, and the one view is `span_indices`.

    Args:
        timestamps: (frames,) ascending, of the stored frames.
        start: Seconds.
        end: Seconds, not before `start`.
        num: How many a view has.
        num_views: V.

    Returns:
        (V, num) indices. Timestamps 0, 1, …, 8, span [0, 8], two views of two frames: [[1, 5], [3, 7]].
    """
    points = (2 * np.arange(num_views) + 1) / (2 * num_views)
    return np.stack([span_indices(timestamps, start, end, num, within=float(point)) for point in points])


def frame_groups(num_stored: int, group_frames: int) -> NDArray[np.int64]:
    """Stored frames in runs of consecutive ones that together hold all of them.

    Returns:
        (G, group_frames) indices: the last run is the last `group_frames`; with fewer stored, the last is repeated.
        Five in runs of two: [[0, 1], [2, 3], [3, 4]]; one in runs of two: [[0, 0]].
    """
    starts = list(range(0, max(1, num_stored - group_frames + 1), group_frames))
    if starts[-1] + group_frames < num_stored:
        starts.append(num_stored - group_frames)
    return np.minimum(np.add.outer(starts, np.arange(group_frames)), num_stored - 1)
