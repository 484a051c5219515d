"""What stands around a player on the results page: where its video lies, frames, windows, a curve, a moment.

Pictures are inside the page, so that it can be handed on alone; videos are referred to where they lie.
"""

import base64
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stillmotion.video.packed import PackedFrames
from stillmotion.video.thumbnails import thumbnail_strip

FRAMES, FRAME_PX, QUALITY = 12, 56, 60
"""Of a preview."""

FIRST_S = 0.01

Window = tuple[float, float]
"""Start and end in seconds."""


@dataclass(frozen=True)
class Player:
    """A video with its moment; times in seconds."""

    video_id: str
    source: str
    """From the page, as a URL; empty where it lies elsewhere."""
    duration: float
    moment: Window
    preview: str
    """Frames of the video side by side, as a data URL."""
    num_frames: int
    """In the preview."""
    curve: Sequence[tuple[float, float]]
    """Times and scores."""
    threshold: float | None
    """The least score that is selected."""
    true: Sequence[Window]
    found: Sequence[Window]
    """The best first."""

    @property
    def url(self) -> str:
        """The video at the moment; never at 0, where a player need not seek and shows no frame."""
        start, end = (round(second, 2) for second in self.moment)
        return f"{self.source}#t={max(start, FIRST_S):g},{end:g}" if self.source else ""


def video_source(path: str, page: Path) -> str:
    """The URL of a video from the folder of a page; empty for one that does not lie in the repository."""
    if Path(path).is_absolute():
        return ""
    return quote(os.fsencode(os.path.relpath(path, page)))


def preview(stored: PackedFrames, video_id: str) -> tuple[str, int]:
    """Frames of equal parts of a video side by side as WebP in a data URL, and how many there are."""
    clips = stored.clip_indices(video_id)
    parts = [int((place + 0.5) * len(clips) / FRAMES) for place in range(FRAMES)]
    chosen = clips[sorted(set(parts))]
    strip = thumbnail_strip(stored.at(video_id, chosen), range(len(chosen)), len(chosen), FRAME_PX)
    written = io.BytesIO()
    Image.fromarray(strip).save(written, "WEBP", quality=QUALITY, method=6)
    return f"data:image/webp;base64,{base64.b64encode(written.getvalue()).decode()}", len(chosen)


def best_run(scores_T: NDArray[np.float64]) -> tuple[int, int]:
    """First and last place of the run around the highest score that stays above half way from the mean to it.

    Example:
        0, 0, 3, 5, 4, 0 has the mean 2, and 3.5 is half way from it to 5: places 3 and 4.
    """
    best = first = last = int(np.argmax(scores_T))
    least = (scores_T[best] + scores_T.mean()) / 2
    while first > 0 and scores_T[first - 1] >= least:
        first -= 1
    while last + 1 < len(scores_T) and scores_T[last + 1] >= least:
        last += 1
    return first, last
