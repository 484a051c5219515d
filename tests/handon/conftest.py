"""Two videos, and models that are small enough to be made for a test."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from stillmotion.backbones.backbone import Backbone
from stillmotion.config.models import BuiltinBackboneParams
from stillmotion.config.scorers import TransformerParams
from stillmotion.io.memo import folder_digest
from stillmotion.io.tables import write_json
from stillmotion.io.weights import save_tensors
from stillmotion.retrieval.aggregators import build_aggregator
from stillmotion.training.builtin import new_builtin

ROOT = Path(__file__).resolve().parents[2]
SYSTEM = {
    "model": "small_clip",
    "base": "small_clip",
    "expansion": None,
    "pretraining": None,
    "recipe": None,
    "seed": None,
}


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


def retrieval_metrics(scorer: str, seeds: list[int]) -> dict[str, Any]:
    recalls = {"R@1": 40.0, "R@5": 60.0, "R@10": 80.0}
    direction = recalls | {"ci95": {name: [value - 5, value + 5] for name, value in recalls.items()}}
    protocol = {"split": "test", "num_queries": 30, "gallery_size": 20, "missing_videos": 2, "ties": "average"}
    protocol |= {"truncated_captions": 3, "num_clips": 4, "seeds": seeds, "inference_tricks": "none"}
    protocol |= {"selected_on": "validation" if seeds else "nothing"}
    return {"t2v": direction, "v2t": direction, "protocol": protocol, "system": SYSTEM | {"scorer": scorer}}


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory, small_clip: Backbone) -> Path:
    """What a run leaves: params.yaml, a model, an aggregator of it with two seeds, and metrics written by hand."""
    root = tmp_path_factory.mktemp("project")
    shutil.copy(ROOT / "params.yaml", root)
    small_clip.save(root / "models/backbones/small_clip", {"architecture": "ViT-Tiny", "system": SYSTEM})
    folder = root / "models/aggregators/small_clip-transformer_mean"
    chosen = TransformerParams(kind="transformer_mean", heads=2, mlp_ratio=2.0)
    for num_clips in (1, 4):
        for seed in (0, 1):
            module = build_aggregator(chosen, dim=16, num_clips=num_clips, seed=seed)
            save_tensors(folder / f"clips-{num_clips}" / f"seed-{seed}.safetensors", module.state_dict())
    trained = {"dim": 16, "clip_counts": [1, 4], "seeds": [0, 1], "selected_on": "validation"}
    digest = {"model": folder_digest(root / "models/backbones/small_clip")}
    write_json(folder / "aggregator.json", chosen.model_dump() | trained | digest)
    for name, seeds in (("mean", []), ("transformer_mean", [0, 1])):
        metrics = retrieval_metrics(name, seeds)
        write_json(root / f"metrics/retrieval/small_clip-{name}.json", metrics)
    brief = {"MR-full-R1@0.5": 50.0, "MR-full-R1@0.7": 30.0, "MR-full-mAP": 20.0}
    protocol = {"split": "test", "kind": "selection", "num_queries": 30, "num_videos": 20, "selected_on": "train"}
    moments = {"brief": brief, "ci95": {}, "coverage": 70.0, "protocol": protocol, "system": SYSTEM}
    write_json(root / "metrics/moments/small_clip-vc1_norm.json", moments)
    return root


@pytest.fixture(scope="session")
def make_video() -> Callable[..., None]:
    """Writes a video of its own for each seed."""
    return write_video
