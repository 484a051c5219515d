"""How much of a video its caption speaks of, in three groups: partial misalignment.

Source: Liu et al. 2023 (papers/mug-stan.txt), section I and figure 1 (b). A frame is aligned with the text if the
sigmoid of their dot product is above 0.5; a pair is `up` where more than 2/3 of the video's frames are aligned,
`bottom` where less than 1/3 are, `middle` in between. The source measures with CLIP ViT-L/14.

Taken as printed, a frame would be aligned wherever its cosine is above 0. CLIP's cosines are, all of them, so that
every pair would be `up`; the source must have centred them, and does not say how. Decided here:

- The cosines are centred midway between two means: of frames with the text of their own video, and of frames with the
  texts of all other videos. The first has the aligned frames in it, the second none.
- The text is the query, whole, as in the source: of a paragraph, not sentence by sentence, since sentences need not
  come apart. A sentence that nothing in the video matches lowers the cosines of all its frames.
- The frames are the uniform ones, one model's for all systems. A group belongs to the text and its video.
"""

# T texts, V videos, F frames of a video, D embedding dimensions.

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

GROUPS = ("up", "middle", "bottom")
"""From the best covered videos to the worst."""


def covered_shares(
    texts_TD: NDArray[np.floating],
    video_of_T: NDArray[np.int64],
    frames_of: Callable[[int], NDArray[np.floating]],
    num_videos: int,
) -> NDArray[np.float64]:
    """The share of its video's frames that each text is aligned with; one video is in memory at a time.

    Example: two videos of two frames, each cosine 0.3 with the own text but one, 0.1, and 0.1 with the other's: the
    means are 0.25 and 0.1, so that frames above 0.175 are aligned, and the shares are 1/2 and 1.

    Args:
        texts_TD: unit vectors.
        video_of_T: which of the videos each text is about.
        frames_of: unit vectors (F, D) of a video's frames, by its number.
        num_videos: V. With a single one there is nothing to centre by, and its frames are aligned above 0.

    Returns:
        (T,) from 0 to 1.
    """
    texts_TD = np.asarray(texts_TD, dtype=np.float64)
    own: list[NDArray[np.float64]] = [np.zeros(0)] * len(texts_TD)
    mean_frame_D = np.zeros(texts_TD.shape[1])
    for video in range(num_videos):
        frames_FD = np.asarray(frames_of(video), dtype=np.float64)
        mean_frame_D += frames_FD.mean(axis=0) / num_videos
        for text in np.flatnonzero(video_of_T == video):
            own[text] = frames_FD @ texts_TD[text]
    own_mean = np.mean([cosines_F.mean() for cosines_F in own])
    centre = 0.0
    if num_videos > 1:
        mean_of_all = texts_TD.mean(axis=0) @ mean_frame_D
        other_mean = (num_videos * mean_of_all - own_mean) / (num_videos - 1)
        centre = float(own_mean + other_mean) / 2
    return np.array([np.mean(cosines_F > centre) for cosines_F in own])


def coverage_groups(shares_T: NDArray[np.float64]) -> list[str]:
    """The group of each share: `up` above 2/3, `bottom` below 1/3, else `middle`."""
    return ["up" if share > 2 / 3 else "bottom" if share < 1 / 3 else "middle" for share in shares_T.tolist()]
