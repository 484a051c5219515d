"""Models of the published size, with random weights, on real clips: from the files to retrieval by the stage scripts.

About 140 s of one core, most of it starting fourteen processes and writing and reading models of 0.6 to 1.2 GB.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch

from stillmotion.video.packed import PackedFrames

pytestmark = [pytest.mark.pipeline, pytest.mark.slow, pytest.mark.real]

CLIPS = {
    "testdata__Big_Buck_Bunny_180_10s.webm": "an animated burrow under a tree on a meadow",
    "vision__RATRACE_wave_f_nm_np1_fr_goo_37.avi": "a man in a crowd laughs and waves",
    "decord__flipping_a_pancake.mkv": "a person flips a pancake in a kitchen",
}
SIZE_PX, CLIP_FRAMES, DIM = 224, 2, 512
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""CLIP's."""


STAN = {
    "family": "stan",
    "num_layers": 4,
    "skipped_layers": 0,
    "interval": 1,
    "structure": "branch",
    "temporal": "self_attention",
    "inter_proj": "linear",
    "class_token": "clip",
    "class_token_mean": "after_attention",
    "max_frames": 64,
    "context_frames": 8,
    "drop_path": 0.1,
    "seed": 0,
}


def random_weights(architecture: str) -> dict[str, Any]:
    return {
        "family": "open_clip",
        "architecture": architecture,
        "pretrained": "random",
        "revision": "main",
        "seed": 0,
    }


@pytest.fixture
def sampled(workplace, real_material):
    """A folder of three real clips, sampled at 224 px, with params of its own."""
    folder = workplace.root / "data" / "sources" / "real"
    folder.mkdir(parents=True)
    rows = ["video,caption,split"]
    for name, caption in CLIPS.items():
        shutil.copyfile(real_material / "videos" / name, folder / name)
        rows.append(f"{name},{caption},test")
    (folder / "captions.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    workplace.set_params(
        {
            "dataset": "real",
            "sample_frames.size_px": SIZE_PX,
            "sample_frames.num_uniform": 2 * CLIP_FRAMES,
            "sample_frames.clip_length_s": 10.0,
            "embed.clip_frames": CLIP_FRAMES,
            "embed.clip_counts": [1, 2],
            "embed.tokens": True,
            "expansions": {"stan": STAN},
        }
    )
    workplace.stage("download.py --source data/sources/real --output data/raw/real")
    workplace.stage("sample_frames.py --raw data/raw/real/tables --output data/frames/real")
    return workplace


@pytest.mark.parametrize("architecture", ["ViT-B-32", "coca_ViT-B-32"])
def test_real_clips_go_through_a_model_of_the_published_size_and_its_stan(sampled, architecture):
    sampled.set_params({"backbones": {"small_clip": random_weights(architecture)}})
    sampled.stage("backbone.py --name small_clip --weights data/weights --output models/backbones/image")
    sampled.stage(
        "expand_backbone.py --expansion stan --backbone models/backbones/image --output models/backbones/stan"
    )
    for model in ("image", "stan"):
        sampled.stage(
            f"embed.py --model models/backbones/{model} --raw data/raw/real/tables --frames data/frames/real "
            f"--output data/embeddings/{model}"
        )
    packed = PackedFrames(sampled.root / "data" / "frames" / "real")
    names = [video.video_id for video in packed.videos]
    assert sorted(names) == sorted(Path(name).stem for name in CLIPS)
    counts = [len(packed.timestamps(name)) for name in names]
    for model in ("image", "stan"):
        check_embeddings(sampled.root / "data" / "embeddings" / model, counts)

    # By open_clip alone, from its own layout of a model folder, in float64 up to the model.
    frames = np.concatenate([np.array(packed.all(name)) for name in names])
    assert frames.shape == (sum(counts), SIZE_PX, SIZE_PX, 3)
    pixels = torch.from_numpy(((frames / 255 - MEAN) / STD).transpose(0, 3, 1, 2)).float()
    alone = open_clip.create_model(f"local-dir:{sampled.root / 'models' / 'backbones' / 'image'}").eval()
    with torch.no_grad():
        expected = alone.encode_image(pixels, normalize=True).numpy()
    found = np.load(sampled.root / "data" / "embeddings" / "image" / "frames.npy")
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.abs(np.load(sampled.root / "data" / "embeddings" / "stan" / "frames.npy") - expected).max() > 1e-3

    sampled.stage(
        "evaluate_retrieval.py --scorer mug --model models/backbones/stan --aggregator models/aggregators/none "
        "--raw data/raw/real/tables --embeddings data/embeddings/stan "
        "--metrics metrics/retrieval/stan-mug.json --predictions data/predictions/retrieval/stan-mug"
    )
    metrics = json.loads((sampled.root / "metrics" / "retrieval" / "stan-mug.json").read_text(encoding="utf-8"))
    assert (metrics["protocol"]["num_queries"], metrics["protocol"]["gallery_size"]) == (3, 3)


def check_embeddings(folder: Path, counts: list[int]) -> None:
    """Rows of what was asked for, of length 1."""
    offsets = np.load(folder / "caption_token_offsets.npy")
    shapes = {
        "frames": (sum(counts), DIM),
        "clips": (len(CLIPS), 1 + 2, DIM),
        "captions": (len(CLIPS), DIM),
        "clip_frames": (len(CLIPS), CLIP_FRAMES, DIM),
        "caption_tokens": (offsets[-1], DIM),
    }
    # A start, an end, and words of one or more tokens.
    assert (np.diff(offsets) >= 2 + min(len(caption.split()) for caption in CLIPS.values())).all()
    for name, shape in shapes.items():
        array = np.load(folder / f"{name}.npy")
        assert array.shape == shape, name
        np.testing.assert_allclose(np.linalg.norm(array, axis=-1), 1, atol=1e-5, err_msg=name)
