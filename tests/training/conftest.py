"""A data set of noise and models with random weights, so small that a training takes a tenth of a second."""

import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stillmotion.backbones.backbone import Backbone
from stillmotion.backbones.stan_expansion import expand_stan
from stillmotion.backbones.stan_settings import StanSettings
from stillmotion.backbones.xclip_expansion import expand_clip
from stillmotion.config.models import BuiltinBackboneParams, XClipExpansionParams
from stillmotion.config.training import SeededRecipe, seeded_recipe
from stillmotion.io.arrays import save_array
from stillmotion.io.records import Caption, Video, save_records
from stillmotion.training.builtin import new_builtin
from stillmotion.training.pairs import Pair
from stillmotion.training.processes import Processes
from stillmotion.video.packed import PackedFrames, PackedVideo, write_tables
from stillmotion.video.shards import join_parts, part_file

SIZE_PX = 16
NUM_TRAIN, NUM_VALIDATION = 18, 6
RECIPE: dict[str, Any] = {
    "captions": "paragraph",
    "num_frames": 4,
    "epochs": 3,
    "batch_size": 9,
    "micro_batch_size": 9,
    "precision": "fp32",
    "optimizer": "adamw",
    "learning_rate": 1e-3,
    "branch_learning_rate_factor": 1.0,
    "weight_decay": 0.01,
    "warmup_fraction": 0.1,
    "gradient_clip": 1.0,
    "gradient_checkpointing": False,
    "similarity": "cosine",
    "tau": 100.0,
    "loss_temperature": "learned",
    "freeze_texts": False,
    "freeze_embeddings": True,
    "frozen_blocks": 0,
    "patch_keep_rate": 0.5,
    "patch_sampling": "tubelet",
    "seed": 0,
}


def make_recipe(**changes: Any) -> SeededRecipe:
    return seeded_recipe(**RECIPE | changes)


def make_backbone(family: str = "open_clip", *, drop_path: float = 0.0) -> Backbone:
    """In eval mode; random weights in all that is trained."""
    sizes = {"image_size_px": SIZE_PX, "patch_size_px": 4, "width": 32, "layers": 2, "text_layers": 2, "heads": 2}
    training = {"steps": 1, "batch_size": 2, "learning_rate": 1e-3, "weight_decay": 0.1, "warmup_fraction": 0.1}
    clip = new_builtin(
        BuiltinBackboneParams(family="builtin", embed_dim=16, max_sentences=1, seed=0, **sizes, **training)
    ).eval()
    if family == "open_clip":
        return clip
    backbone: Backbone
    if family == "stan":
        kinds = ("branch", "self_attention", "linear", "clip", "after_attention")
        backbone = expand_stan(clip, StanSettings(2, 0, 1, *kinds, 6, 4, drop_path=drop_path, seed=0))
    else:
        expansion = XClipExpansionParams(
            family="xclip", num_frames=4, integration_layers=1, prompt_layers=1, max_tokens=20, seed=0
        )
        backbone = expand_clip(clip, expansion)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in backbone.parameters():  # what the families add starts as zeros
            value.add_(0.02 * torch.randn(value.shape, generator=generator))
    return backbone.eval()


@dataclass(frozen=True)
class Corpus:
    """Folders as the stages write them, and what is read from them."""

    raw: Path
    frames_folder: Path

    @property
    def frames(self) -> PackedFrames:
        return PackedFrames(self.frames_folder)

    @property
    def train(self) -> list[Pair]:
        return [pair_of(number) for number in range(NUM_TRAIN)]

    @property
    def validation(self) -> list[Pair]:
        return [pair_of(number) for number in range(NUM_TRAIN, NUM_TRAIN + NUM_VALIDATION)]


def pair_of(number: int) -> Pair:
    # Texts of different lengths: how far a batch is padded depends on what is in it.
    return Pair(f"v{number:02}", "word " * (number % 5) + f"number {number}", 0.0, 4.0)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """24 videos of 8 stored frames of noise, 18 to train on and 6 for validation. Read only."""
    root = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    videos, packed, captions = [], {}, []
    for number in range(NUM_TRAIN + NUM_VALIDATION):
        pair = pair_of(number)
        split = "train" if number < NUM_TRAIN else "validation"
        videos.append(Video(pair.video_id, pair.video_id, split, 4.0, 2.0, 8, SIZE_PX, SIZE_PX, "h264", "ok"))
        packed[pair.video_id] = PackedVideo({}, np.arange(8) / 2, np.arange(8), np.arange(2), False)
        frames = rng.integers(0, 256, (8, SIZE_PX, SIZE_PX, 3), dtype=np.uint8)
        save_array(root / "frames" / part_file(pair.video_id), frames)
        captions.append(Caption(f"{pair.video_id}#0", pair.video_id, pair.text, None, None))
    join_parts(root / "frames", packed)
    write_tables(root / "frames", videos, packed, {})
    save_records(root / "raw", Caption, captions)
    return Corpus(root / "raw", root / "frames")


@pytest.fixture
def new_recipe():
    """Makes one, with changes to RECIPE."""
    return make_recipe


@pytest.fixture
def new_backbone():
    """Makes one of a family: open_clip, stan (which may have a `drop_path`) or xclip."""
    return make_backbone


@pytest.fixture
def double_backbone(new_backbone, monkeypatch):
    """Makes one that computes in float64 throughout, so that rounding hides nothing."""
    # Backbones turn their vectors into float32 before they scale them.
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)

    def make(*args, **settings):
        backbone = new_backbone(*args, **settings).double()
        pixels = backbone.pixels
        monkeypatch.setattr(backbone, "pixels", lambda frames: pixels(frames).double())
        return backbone

    return make


class Exchange:
    """Fabric's sum over two processes that are threads."""

    def __init__(self):
        self.barrier = threading.Barrier(2, timeout=60)
        self.values = [None, None]

    def of(self, rank):
        exchange = self

        class Fabric:
            global_rank, world_size, device = rank, 2, torch.device("cpu")

            def autocast(self):
                return contextlib.nullcontext()

            def all_reduce(self, value, reduce_op):
                assert reduce_op == "sum"
                exchange.values[rank] = value.clone()
                exchange.barrier.wait()
                value.copy_(exchange.values[0] + exchange.values[1])
                exchange.barrier.wait()

        return Processes(Fabric())


@pytest.fixture
def in_two_threads():
    """Gives what a function of a process returns in each of two."""

    def in_two_threads(work: Callable[[Processes], Any]) -> list[Any]:
        exchange, results = Exchange(), [None, None]

        def run(rank):
            try:
                results[rank] = work(exchange.of(rank))
            except BaseException:
                exchange.barrier.abort()
                raise

        threads = [threading.Thread(target=run, args=(rank,)) for rank in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return results

    return in_two_threads


@pytest.fixture
def one_thread():
    """As many as in the other of two trainings, whatever other tests set."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
