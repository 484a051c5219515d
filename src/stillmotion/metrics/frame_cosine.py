"""How alike the frames of a video are to a model: where they are one vector, no text can choose between them.

Shapes: V videos, F frames of a video, D embedding dimensions.
"""

import numpy as np


def mean_frame_cosine(frames_VFD: np.ndarray) -> float | None:
    """The mean cosine of two frames of a video: all pairs of a video alike, and all videos.

    Args:
        frames_VFD: unit vectors.

    Returns:
        None where there is no video, or a video is one frame.
    """
    num_videos, num_frames, _ = frames_VFD.shape
    if num_videos == 0 or num_frames < 2:
        return None
    # The square of a sum of unit vectors is their number and each pair twice.
    squares_V = np.square(frames_VFD.sum(axis=1, dtype=np.float64)).sum(axis=1)
    return float(((squares_V - num_frames) / (num_frames * (num_frames - 1))).mean())
