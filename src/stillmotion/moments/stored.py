"""The truth of a split from the stored frames alone: for systems that need no embeddings."""

from collections.abc import Sequence

from stillmotion.io.records import Moment
from stillmotion.moments.truth import GroundTruth, ground_truth
from stillmotion.video.packed import PackedFrames


def stored_truth(
    frames: PackedFrames, moments: Sequence[Moment], split: str, clip_length_s: float
) -> GroundTruth | None:
    """Truth of the queries whose videos have stored frames, those that models are scored on, or None without any.

    Args:
        frames: the store.
        moments: all queries of the dataset.
        split: train, validation or test.
        clip_length_s: seconds that a frame stands for.
    """
    durations = {video.video_id: video.duration for video in frames.videos if video.split == split}
    queries = [moment for moment in moments if moment.vid in durations]
    if not queries:
        return None
    asked = {query.vid for query in queries}
    return ground_truth(
        queries,
        num_frames={video_id: len(frames.clip_indices(video_id)) for video_id in asked},
        durations={video_id: float(durations[video_id] or 0.0) for video_id in asked},
        clip_length_s=clip_length_s,
    )
