"""Small pictures of a video's frames in a row, for the figures.

Shapes: F stored frames, S their size, P size of a thumbnail, N thumbnails.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

THUMBNAIL_PX = 40
MOST = 10
"""Thumbnails in a row."""
MOST_IN_A_FIGURE = 30
"""Keeps a figure of grainy frames below 300 KiB."""


def thumbnail_strip(
    frames_FSS3: NDArray[np.uint8], stored_frames: Sequence[int], num: int, size_px: int = THUMBNAIL_PX
) -> NDArray[np.uint8]:
    """(P, N · P, 3): the clips in the middle of N equal parts of the video, side by side.

    Example: of 4 clips in 2 parts, the second and the fourth.

    Args:
        frames_FSS3: RGB frames of a video.
        stored_frames: which of the F stands for each clip, at least one.
        num: N, at most as many as there are clips.
        size_px: P.
    """
    num = min(num, len(stored_frames))
    clips = [int((place + 0.5) * len(stored_frames) / num) for place in range(num)]
    pictures = [Image.fromarray(np.asarray(frames_FSS3[stored_frames[clip]])) for clip in clips]
    small = [picture.resize((size_px, size_px), Image.Resampling.BICUBIC) for picture in pictures]
    return np.concatenate([np.asarray(picture) for picture in small], axis=1)
