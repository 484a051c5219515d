"""Truth of the queries of a split: their windows, and the frames that stand for them."""

# Q queries, T frames (padded).

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stillmotion.io.records import Moment, Video
from stillmotion.metrics.submission import Windows, pad_windows
from stillmotion.moments.curves import Floats, Mask, valid_frames


@dataclass(frozen=True, slots=True)
class GroundTruth:
    """The queries of a split whose videos could be decoded, in the order of the dataset: by qid."""

    queries: list[Moment]
    windows: Windows
    """The true windows."""
    true_QT: Mask
    """The frames of the true windows."""
    num_frames_Q: NDArray[np.int64]
    durations_Q: Floats
    """Seconds of the query's video, as decoded."""
    clip_length_s: float
    """Frame i stands for [i · clip_length_s, min((i + 1) · clip_length_s, duration)]."""

    @property
    def valid_QT(self) -> Mask:  # noqa: N802
        return valid_frames(self.num_frames_Q, self.true_QT.shape[1])

    @property
    def middles_QT(self) -> Floats:  # noqa: N802
        """Seconds at the middle of what each frame stands for, of a short last clip its own."""
        starts_T = np.arange(self.true_QT.shape[1]) * self.clip_length_s
        return (starts_T + np.minimum(starts_T + self.clip_length_s, self.durations_Q[:, None])) / 2


def ground_truth(
    queries: Sequence[Moment],
    *,
    num_frames: Mapping[str, int],
    durations: Mapping[str, float],
    clip_length_s: float,
) -> GroundTruth:
    """The truth of at least one query.

    Args:
        queries: of one split, in the order of their qids.
        num_frames: clips of each of their videos.
        durations: seconds of each of their videos.
        clip_length_s: seconds that a frame stands for.
    """
    num_frames_Q = np.array([num_frames[query.vid] for query in queries], dtype=np.int64)
    true_QT = np.zeros((len(queries), int(num_frames_Q.max())), dtype=bool)
    for index, query in enumerate(queries):
        true_QT[index, [clip for clip in query.relevant_clip_ids if clip < num_frames_Q[index]]] = True
    windows = pad_windows(
        [query.relevant_windows for query in queries], columns=2, name="moments.jsonl", key="relevant_windows"
    )
    durations_Q = np.array([durations[query.vid] for query in queries])
    return GroundTruth(list(queries), windows, true_QT, num_frames_Q, durations_Q, clip_length_s)


@dataclass(frozen=True, slots=True)
class Missing:
    """Videos and queries that a split lacks because videos are missing or could not be decoded."""

    num_videos: int
    num_queries: int


def missing_of_split(
    videos: Sequence[Video], moments: Sequence[Moment], *, kept: Collection[str], split: str
) -> Missing:
    """Count a split's videos that are not among the `kept` ids, and the queries about them."""
    lost = {video.video_id for video in videos if video.split == split} - set(kept)
    return Missing(len(lost), sum(moment.vid in lost for moment in moments))
