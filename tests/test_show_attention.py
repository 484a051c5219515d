"""The stage as a command, with tiny models of random weights."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import ruamel.yaml

from stillmotion.backbones.stan_expansion import expand_stan
from stillmotion.backbones.stan_settings import StanSettings
from stillmotion.backbones.xclip_expansion import expand_clip
from stillmotion.config.models import BuiltinBackboneParams, XClipExpansionParams
from stillmotion.io.arrays import save_array
from stillmotion.io.records import Caption, Video, save_records
from stillmotion.training.builtin import new_builtin
from stillmotion.video.packed import PackedVideo, write_tables
from stillmotion.video.shards import join_parts, part_file

ROOT = Path(__file__).resolve().parents[1]
SPLITS = {"a": "test", "b": "train", "c": "test", "d": "test"}
PROBED = {"duration": 8.0, "fps": 1.0, "num_frames": 8, "width": 32, "height": 32, "codec": "h264"}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Stored videos with captions but for one that was lost, a CLIP, a STAN and an X-CLIP."""
    root = tmp_path_factory.mktemp("project")
    packed = {}
    for row, name in enumerate("abc"):
        frames = np.random.default_rng(row).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
        save_array(root / "frames" / part_file(name), frames)
        packed[name] = PackedVideo(PROBED, np.arange(8.0), np.arange(8), np.array([1, 3, 5, 7]), from_memo=False)
    videos = [
        Video(name, f"{name}.mp4", split, None, None, None, None, None, None, "ok") for name, split in SPLITS.items()
    ]
    join_parts(root / "frames", packed)
    write_tables(root / "frames", videos, packed, {"d": "lost"})
    save_records(root / "raw", Caption, [Caption(f"{name}#0", name, "a red ball", None, None) for name in SPLITS])
    save_records(root / "nothing", Caption, [])
    sizes = {"image_size_px": 32, "patch_size_px": 8, "width": 32, "layers": 2, "text_layers": 1, "heads": 2}
    training = {"steps": 1, "batch_size": 1, "learning_rate": 1e-3, "weight_decay": 0.0, "warmup_fraction": 0.0}
    clip = new_builtin(
        BuiltinBackboneParams(family="builtin", embed_dim=16, max_sentences=1, seed=0, **sizes, **training)
    )
    clip.save(root / "clip", {})
    xclip = XClipExpansionParams(
        family="xclip", num_frames=4, integration_layers=1, prompt_layers=1, max_tokens=20, seed=0
    )
    expand_clip(clip, xclip).save(root / "xclip", {})
    settings = {"num_layers": 2, "skipped_layers": 0, "interval": 1, "structure": "branch", "drop_path": 0.0, "seed": 0}
    settings |= {
        "temporal": "self_attention",
        "inter_proj": "linear",
        "class_token": "clip",
        "class_token_mean": "after_attention",
        "max_frames": 4,
        "context_frames": 4,
    }
    expand_stan(clip, StanSettings(**settings)).save(root / "stan", {})
    yaml = ruamel.yaml.YAML()
    params = yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["sample_frames"] |= {"num_uniform": 8}
    params["embed"] |= {"clip_frames": 4, "clip_counts": [1, 2]}
    params["show_attention"] |= {"num_examples": 3}
    with (root / "params.yaml").open("w", encoding="utf-8") as out:
        yaml.dump(params, out)
    return root


@pytest.fixture
def show(run_script):
    def run(project, model, output, *, raw="raw"):
        options = ["--model", model, "--raw", raw, "--frames", "frames", "--output", output]
        return run_script("show_attention", *options, cwd=project, env=os.environ | {"STILLMOTION_DEVICE": "cpu"})

    return run


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_stan_shows_frames_words_and_patches_with_the_same_bytes_each_time(project, show):
    for output in ("stan-out", "again"):
        done = show(project, "stan", output)
        assert done.returncode == 0, done.stderr
    assert files(project / "stan-out") == files(project / "again")
    rows = [json.loads(line) for line in (project / "stan-out" / "examples.jsonl").read_text().splitlines()]
    # the test videos that were decoded
    assert [(row["caption_id"], row["video_id"], row["text"]) for row in rows] == [
        (f"{name}#0", name, "a red ball") for name in "ac"
    ]
    for row in rows:
        assert row["stored_frames"] == [1, 3, 5, 7]
        assert row["tokens"] == ["<start_of_text>", "a", "red", "ball", "<end_of_text>"]
        assert sum(row["text_to_frame"]) == pytest.approx(1, abs=1e-5)
        assert sum(row["video_to_token"]) == pytest.approx(1, abs=1e-5)
        assert np.shape(row["cosines"]) == (5, 4)
    attention = np.load(project / "stan-out" / "attention.npy")
    assert (attention.shape, attention.dtype) == ((2, 4, 4, 4), np.float32)
    np.testing.assert_allclose(attention.sum((2, 3)), 1, rtol=1e-5)


def test_a_clip_has_no_branch_to_show(project, show):
    done = show(project, "clip", "clip-out")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (project / "clip-out").iterdir()] == ["examples.jsonl"]


def test_a_dataset_without_captions_has_no_examples(project, show):
    done = show(project, "stan", "empty", raw="nothing")
    assert done.returncode == 0, done.stderr
    assert files(project / "empty") == {"examples.jsonl": b""}


def test_an_x_clip_is_one_line_and_leaves_nothing(project, show):
    done = show(project, "xclip", "none")
    assert done.returncode == 2
    assert done.stderr == (
        "show_attention: error: params.yaml: run.attended names xclip, and this model (XClipBackbone) has no "
        "embeddings of single frames and tokens; take it out, or name nothing but CLIPs, CoCas and STANs\n"
    )
    assert not (project / "none").exists()
