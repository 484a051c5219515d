"""Two videos, and models that are small enough to be made for a test."""

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from stillmotion.backbones.backbone import Backbone
from stillmotion.config.models import BuiltinBackboneParams
from stillmotion.training.builtin import new_builtin

SYSTEM = {"model": "clip", "base": "clip", "expansion": None, "pretraining": None, "recipe": None, "seed": None}


def write_video(path: Path, seed: int, *, seconds: int = 3, fps: int = 8) -> None:
    """A video of a smooth picture for each half second."""
    rng = np.random.default_rng(seed)
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=fps)
        stream.width, stream.height, stream.pix_fmt, stream.thread_count = 64, 48, "yuv420p", 1
        for frame in range(seconds * fps):
            if frame % (fps // 2) == 0:
                small = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
            picture = np.asarray(small.resize((64, 48), Image.Resampling.BICUBIC))
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        output.mux(stream.encode())


@pytest.fixture(scope="session")
def small_clip() -> Backbone:
    sizes = {"image_size_px": 32, "patch_size_px": 8, "width": 32, "layers": 1, "text_layers": 1, "heads": 2}
    training = {"steps": 1, "batch_size": 1, "learning_rate": 1e-3, "weight_decay": 0.0, "warmup_fraction": 0.0}
    params = BuiltinBackboneParams(family="builtin", embed_dim=16, max_sentences=1, seed=0, **sizes, **training)
    return new_builtin(params).eval()


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory, small_clip: Backbone) -> Path:
    """A folder of no repository with two videos, a text file and a model."""
    folder = tmp_path_factory.mktemp("place")
    for seed, name in enumerate(("pan.mp4", "ball.mp4")):
        write_video(folder / name, seed)
    (folder / "notes.txt").write_text("not a video\n" * 100)
    small_clip.save(folder / "clip", {"system": SYSTEM})
    return folder
