"""A small CLIP with random weights, and embeddings made by hand."""

from collections.abc import Callable

import numpy as np
import pytest
from search_project import make_clip

from stillmotion.backbones.open_clip_backbone import OpenClipBackbone
from stillmotion.embedding.reader import EmbeddedVideo


@pytest.fixture(scope="session")
def clip() -> OpenClipBackbone:
    return make_clip()


@pytest.fixture(scope="session")
def stored() -> Callable[..., tuple[np.ndarray, list[EmbeddedVideo]]]:
    """Makes frames whose cosines with [1, 0] are the given ones, a curve a video.

    Before each video's clips stands one stored frame that belongs to no clip, and whose cosine is 1.
    """

    def make(curves: dict[str, list[float]], duration: float | None = None) -> tuple[np.ndarray, list[EmbeddedVideo]]:
        cosines, videos = [], []
        for video_id, curve in curves.items():
            seconds = 2.0 * len(curve) if duration is None else duration
            clips = list(range(1, len(curve) + 1))
            videos.append(EmbeddedVideo(video_id, "test", seconds, len(cosines), len(curve) + 1, [0], clips))
            cosines += [1.0, *curve]
        values = np.array(cosines)
        return np.stack([values, np.sqrt(1 - values**2)], axis=1).astype(np.float32), videos

    return make
