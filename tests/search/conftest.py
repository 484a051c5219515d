"""A small CLIP with random weights, and embeddings made by hand."""

import json
from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import open_clip
import pytest
import torch
from open_clip.transform import PreprocessCfg

from stillmotion.backbones.open_clip_backbone import OpenClipBackbone
from stillmotion.embedding.reader import EmbeddedVideo


def make_clip() -> OpenClipBackbone:
    vision = {"width": 32, "layers": 1, "image_size": 32, "patch_size": 8, "head_width": 16}
    text = {"width": 32, "layers": 1, "heads": 2, "context_length": 16, "vocab_size": 49408}
    config = {
        "model_cfg": {"embed_dim": 16, "vision_cfg": vision, "text_cfg": text},
        "preprocess_cfg": asdict(PreprocessCfg(size=32)),
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = open_clip.CLIP(**json.loads(json.dumps(config["model_cfg"])))
    open_clip.model.set_model_preprocess_cfg(model, config["preprocess_cfg"])
    return OpenClipBackbone(model, open_clip.SimpleTokenizer(context_length=16), config).eval()


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
