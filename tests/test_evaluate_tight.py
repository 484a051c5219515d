"""The stage as a command, on embeddings made by hand; what the head makes of a pair is tested beside it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import ruamel.yaml
import torch

from stillmotion.backbones.clip4clip_backbone import Clip4ClipSettings, expand_clip4clip
from stillmotion.backbones.registry import load_backbone
from stillmotion.config.models import BuiltinBackboneParams
from stillmotion.embedding.reader import EmbeddedVideo
from stillmotion.io.arrays import save_array
from stillmotion.io.memo import folder_digest
from stillmotion.io.records import Caption, Video, save_records
from stillmotion.io.tables import write_json, write_rows
from stillmotion.training.builtin import new_builtin

ROOT = Path(__file__).resolve().parents[1]
DIM, FRAMES = 16, 3
TEST = [f"v{number}" for number in range(6)]
TEXT_OF = {"v0": "equal", "v1": "equal"} | {name: f"about {name}" for name in TEST[2:]}
CAPTIONS = sorted(
    [Caption(f"{name}#0", name, TEXT_OF.get(name, "other"), None, None) for name in [*TEST, "train"]]
    + [Caption(f"{name}#1", name, "a part", 0.0, 1.0) for name in TEST],
    key=lambda caption: caption.caption_id,
)


def unit(*shape, seed):
    found = np.random.default_rng(seed).standard_normal((*shape, DIM)).astype(np.float32)
    return found / np.linalg.norm(found, axis=-1, keepdims=True)


def make_clip():
    sizes = {"image_size_px": 16, "patch_size_px": 8, "width": 16, "layers": 1, "text_layers": 1, "heads": 2}
    training = {"steps": 1, "batch_size": 2, "learning_rate": 1e-3, "weight_decay": 0.1, "warmup_fraction": 0.1}
    params = BuiltinBackboneParams(family="builtin", embed_dim=DIM, max_sentences=1, seed=0, **sizes, **training)
    return new_builtin(params).eval()


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Videos of the test split in the rows after one of train; a model whose scores are far apart."""
    root = tmp_path_factory.mktemp("project")
    yaml = ruamel.yaml.YAML()
    params = yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["evaluate_retrieval"] |= {"bootstrap_samples": 10}
    with (root / "params.yaml").open("w", encoding="utf-8") as out:
        yaml.dump(params, out)
    make_clip().save(root / "clip", {})
    model = expand_clip4clip(make_clip(), Clip4ClipSettings("tight_transformer", 1, 0))
    with torch.no_grad():
        for value in model.head.parameters():
            value.add_(torch.randn(value.shape, generator=torch.Generator().manual_seed(1)), alpha=0.3)
    model.save(root / "model", {})
    splits = {"train": "train"} | dict.fromkeys(TEST, "test")
    videos = [
        Video(name, f"{name}.mp4", split, None, None, None, None, None, None, "ok") for name, split in splits.items()
    ]
    save_records(root / "raw", Video, videos)
    save_records(root / "raw", Caption, CAPTIONS)
    write_rows(
        root / "embedded" / "index.jsonl",
        [EmbeddedVideo(name, split, 4.0, 0, 1, [0], [0]).row() for name, split in splits.items()],
    )
    described = {"model": folder_digest(root / "model"), "clip_counts": [1], "clip_frames": FRAMES}
    write_json(root / "embedded" / "model.json", described | {"logit_scale": 14.0, "truncated": {"captions": 0}})
    save_array(root / "embedded" / "clips.npy", unit(len(splits), 1, seed=0))
    save_array(root / "embedded" / "clip_frames.npy", unit(len(splits), FRAMES, seed=1))
    vectors = {text: unit(seed=number + 10) for number, text in enumerate(sorted({row.text for row in CAPTIONS}))}
    save_array(root / "embedded" / "captions.npy", np.stack([vectors[caption.text] for caption in CAPTIONS]))
    return root


def evaluate(project, model="model", *, raw="raw", embeddings="embedded"):
    options = {"model": model, "raw": raw, "embeddings": embeddings}
    options |= {"metrics": "metrics/tight.json", "predictions": "predictions/tight"}
    return subprocess.run(
        [
            sys.executable,
            str(ROOT / "src" / "evaluate_tight.py"),
            *(word for name, value in options.items() for word in (f"--{name}", value)),
        ],
        cwd=project,
        env=os.environ | {"STILLMOTION_MEMO": "off", "STILLMOTION_DEVICE": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )


def rank(scores, own):
    others = np.delete(scores, own)
    return 1 + np.sum(others > scores[own]) + np.sum(others == scores[own]) / 2


def test_the_stage_ranks_in_both_directions_by_the_score_of_each_pair(project):
    done = evaluate(project)
    assert done.returncode == 0, done.stderr
    metrics = json.loads((project / "metrics" / "tight.json").read_text())
    rows = [json.loads(line) for line in (project / "predictions" / "tight" / "ranks.jsonl").read_text().splitlines()]

    head = load_backbone(project / "model", torch.device("cpu")).head
    frames = torch.from_numpy(np.load(project / "embedded" / "clip_frames.npy"))[1:]
    texts = torch.from_numpy(np.load(project / "embedded" / "captions.npy"))
    asked = [
        (row, caption) for row, caption in enumerate(CAPTIONS) if caption.start is None and caption.video_id in TEST
    ]
    seen = torch.ones(1, FRAMES, dtype=torch.bool)
    with torch.no_grad():
        scores = np.array(
            [[head(texts[row : row + 1], video[None], seen).item() for video in frames] for row, _ in asked]
        )
    video_of = [TEST.index(caption.video_id) for _, caption in asked]
    ranks = [rank(of_text, own) for of_text, own in zip(scores, video_of, strict=True)]
    assert [row["caption_id"] for row in rows] == [caption.caption_id for _, caption in asked]
    assert [row["rank"] for row in rows] == [[rank] for rank in ranks]
    assert metrics["t2v"]["MeanR"] == pytest.approx(np.mean(ranks), abs=1e-4)  # four digits in the file
    # two videos have texts that are equal, and tie
    of_videos = [rank(scores[:, own], row) for row, own in enumerate(video_of)]
    assert any(place % 1 for place in of_videos)
    assert metrics["v2t"]["MeanR"] == pytest.approx(np.mean(of_videos), abs=1e-4)
    assert metrics["protocol"]["num_queries"] == len(TEST)
    assert metrics["protocol"]["clip_frames"] == FRAMES


def test_a_model_without_a_tight_transformer_is_one_line(project):
    done = evaluate(project, "clip")
    assert (done.returncode, done.stderr) == (
        2,
        "evaluate_tight: error: clip: no CLIP4Clip with head: tight_transformer; take this one out of run.tight\n",
    )


def test_embeddings_by_another_model_are_one_line(project):
    expand_clip4clip(make_clip(), Clip4ClipSettings("tight_transformer", 1, 1)).save(project / "other", {})
    done = evaluate(project, "other")
    assert (done.returncode, done.stderr) == (
        2,
        "evaluate_tight: error: embedded: made by another model than other; run the embed stage again\n",
    )


def test_embeddings_without_frames_of_clips_are_one_line(project, tmp_path):
    shutil.copytree(project / "embedded", tmp_path / "embedded")
    (tmp_path / "embedded" / "clip_frames.npy").unlink()
    done = evaluate(project, embeddings=str(tmp_path / "embedded"))
    assert done.returncode == 2
    assert done.stderr.startswith(
        f"evaluate_tight: error: {tmp_path / 'embedded' / 'clip_frames.npy'}: no such file; set "
    )


def test_a_test_split_without_captions_is_an_empty_result(project, tmp_path):
    save_records(tmp_path, Video, [Video("train", "t.mp4", "train", None, None, None, None, None, None, "ok")])
    save_records(tmp_path, Caption, [])
    folder = tmp_path / "embedded"
    write_rows(folder / "index.jsonl", [EmbeddedVideo("train", "train", 4.0, 0, 1, [0], [0]).row()])
    described = {"model": folder_digest(project / "model"), "clip_counts": [1], "clip_frames": FRAMES}
    write_json(folder / "model.json", described | {"logit_scale": 1.0, "truncated": {}})
    save_array(folder / "clips.npy", unit(1, 1, seed=0))
    save_array(folder / "captions.npy", np.zeros((0, DIM), np.float32))
    done = evaluate(project, raw=str(tmp_path), embeddings=str(folder))
    assert done.returncode == 0, done.stderr
    metrics = json.loads((project / "metrics" / "tight.json").read_text())
    assert (metrics["t2v"], metrics["by_num_clips"]) == ({}, {})
    assert (project / "predictions" / "tight" / "ranks.jsonl").read_text() == ""
