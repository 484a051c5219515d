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

from stillmotion.backbones.xclip_prompts import build_prompts
from stillmotion.embedding.embedder import Embedder
from stillmotion.embedding.reader import Embeddings
from stillmotion.embedding.writer import write_contexts, write_videos
from stillmotion.errors import InputError
from stillmotion.io.arrays import save_array
from stillmotion.io.memo import Memo
from stillmotion.io.records import Caption, Video, save_records
from stillmotion.io.tables import write_json
from stillmotion.io.weights import load_tensors
from stillmotion.video.packed import PackedFrames, PackedVideo, write_tables
from stillmotion.video.shards import join_parts, part_file

ROOT = Path(__file__).resolve().parents[2]
IDS = ["a", "b", "c", "d", "e"]
CAPTIONS = [Caption(f"{name}-{row}", name, f"{name} moves {row} times", None, None) for name in IDS for row in (1, 2)]
PROBED = {"duration": 8.0, "fps": 1.0, "num_frames": 8, "width": 32, "height": 32, "codec": "h264"}


def store_frames(folder):
    packed = {}
    for row, name in enumerate(IDS):
        frames = np.random.default_rng(row).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
        save_array(folder / part_file(name), frames)
        packed[name] = PackedVideo(PROBED, np.arange(8.0), np.arange(8), np.array([1, 3, 5, 7]), from_memo=False)
    videos = [Video(name, f"{name}.mp4", "test", None, None, None, None, None, None, "ok") for name in IDS]
    join_parts(folder, IDS)
    write_tables(folder, videos, packed, {})
    return PackedFrames(folder), videos


@pytest.fixture
def store(tmp_path):
    return store_frames(tmp_path / "frames")[0]


@pytest.fixture(scope="module")
def backbone(new_xclip):
    backbone = new_xclip()
    with torch.no_grad():
        backbone.model.prompts_generator.alpha.fill_(1.0)
    return backbone


def embedder(backbone, root=None):
    return Embedder(backbone, Memo(root), {"model": "abc"}, "fp32")


def test_contexts_are_of_the_one_clip_that_spans_the_video(tmp_path, store, backbone):
    write_contexts(tmp_path, embedder(backbone), backbone, store, store.videos, [caption.text for caption in CAPTIONS])
    found = np.load(tmp_path / "contexts.npy")
    assert found.shape == (5, 16, 16)
    assert found.dtype == np.float32
    pixels = backbone.pixels(store.all("c")[[1, 3, 5, 7]])  # the middles of four quarters of eight
    with torch.no_grad():
        patches = backbone.model.vision_model(pixels).last_hidden_state[:, 1:]
        projected = backbone.model.prompts_visual_layernorm(patches) @ backbone.model.prompts_visual_projection
    np.testing.assert_allclose(found[2], projected.mean(0).numpy(), atol=1e-5)


def test_lengths_and_prompts_are_those_of_the_model(tmp_path, store, backbone):
    texts = [caption.text for caption in CAPTIONS]
    write_contexts(tmp_path, embedder(backbone), backbone, store, store.videos, texts)
    tokens = backbone.tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = backbone.model.get_text_features(**tokens).pooler_output.norm(dim=-1)
    np.testing.assert_allclose(np.load(tmp_path / "caption_lengths.npy"), expected.numpy(), rtol=1e-5)
    prompts = build_prompts(*load_tensors(tmp_path / "prompts.safetensors"))
    texts_1ND, context_1PD = torch.randn(1, 3, 16), torch.randn(1, 9, 16)
    with torch.no_grad():
        assert torch.equal(prompts(texts_1ND, context_1PD), backbone.model.prompts_generator(texts_1ND, context_1PD))


def test_with_a_memo_or_without_it_the_bytes_are_the_same_and_nothing_is_made_twice(
    tmp_path, store, backbone, monkeypatch
):
    for name in ("without", "first", "second"):
        (tmp_path / name).mkdir()
    write_contexts(tmp_path / "without", embedder(backbone), backbone, store, store.videos, ["x"])
    write_contexts(tmp_path / "first", embedder(backbone, tmp_path / "memo"), backbone, store, store.videos, ["x"])
    monkeypatch.setattr(type(backbone), "contexts", lambda *_: pytest.fail("made again"))
    write_contexts(tmp_path / "second", embedder(backbone, tmp_path / "memo"), backbone, store, store.videos, ["x"])
    for path in (tmp_path / "without").iterdir():
        assert path.read_bytes() == (tmp_path / "first" / path.name).read_bytes(), path.name
        assert path.read_bytes() == (tmp_path / "second" / path.name).read_bytes(), path.name


@pytest.fixture(scope="module")
def project(tmp_path_factory, backbone):
    """Raw tables and embeddings of five videos, params that score all pairs again, and the model's own cosines."""
    folder = tmp_path_factory.mktemp("project")
    store, videos = store_frames(folder / "frames")
    save_records(folder / "raw", Video, videos)
    save_records(folder / "raw", Caption, CAPTIONS)
    (folder / "embedded").mkdir()
    own, texts = embedder(backbone), [caption.text for caption in CAPTIONS]
    write_videos(folder / "embedded", own, store, store.videos, [], clip_counts=[1, 2], clip_frames=4, span_views=1)
    save_array(folder / "embedded" / "captions.npy", own.texts(texts, "captions"))
    write_contexts(folder / "embedded", own, backbone, store, store.videos, texts)
    described = {"dim": 16, "logit_scale": 14.0, "clip_counts": [1, 2], "clip_frames": 4, "truncated": {"captions": 0}}
    described["system"] = {"model": "xclip"}
    write_json(folder / "embedded" / "model.json", described)
    yaml = ruamel.yaml.YAML()
    params = yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["scorers"]["conditional"]["top_k"] = 50
    params["evaluate_retrieval"]["bootstrap_samples"] = 10
    yaml.dump(params, folder / "params.yaml")
    pixels = torch.stack([backbone.pixels(store.all(name)[[1, 3, 5, 7]]) for name in IDS])
    with torch.no_grad():
        logits_TV = backbone.model(input_ids=backbone.tokens(texts), pixel_values=pixels).logits_per_text.numpy()
    return folder, logits_TV


def evaluate(folder, embeddings="embedded"):
    options = {
        "scorer": "conditional",
        "model": "none",
        "aggregator": "none",
        "raw": "raw",
        "embeddings": embeddings,
        "metrics": "metrics.json",
        "predictions": "predictions",
    }
    command = [word for name, value in options.items() for word in (f"--{name}", value)]
    return subprocess.run(
        [sys.executable, str(ROOT / "src" / "evaluate_retrieval.py"), *command],
        cwd=folder,
        env=os.environ | {"STILLMOTION_MEMO": "off", "STILLMOTION_DEVICE": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_the_stage_ranks_as_transformers_own_logits_do(project):
    folder, logits_TV = project
    finished = evaluate(folder)
    assert finished.returncode == 0, finished.stderr
    video_of_T = np.array([IDS.index(caption.video_id) for caption in CAPTIONS])
    ranks = 1 + (logits_TV > logits_TV[np.arange(10), video_of_T][:, None]).sum(axis=1)
    found = json.loads((folder / "metrics.json").read_text())
    assert found["t2v"]["MeanR"] == pytest.approx(ranks.mean())
    assert found["t2v"]["R@1"] == pytest.approx(100 * (ranks <= 1).mean())
    best_of_V = [
        min(1 + (logits_TV[video_of_T != video, video] > logits_TV[text, video]).sum() for text in own)
        for video, own in enumerate(np.arange(10).reshape(5, 2))
    ]
    assert found["v2t"]["MeanR"] == pytest.approx(np.mean(best_of_V))
    protocol = found["protocol"]
    assert protocol["inference_tricks"] == "conditional texts for the top 50"
    assert (protocol["num_queries"], protocol["gallery_size"], protocol["num_clips"]) == (10, 5, 1)
    rows = [json.loads(line) for line in (folder / "predictions" / "ranks.jsonl").read_text().splitlines()]
    assert [row["rank"] for row in rows] == [[rank] for rank in ranks]


def test_embeddings_without_contexts_are_named_with_the_mend(project, tmp_path):
    without = shutil.copytree(project[0] / "embedded", tmp_path / "embedded")
    (without / "contexts.npy").unlink()
    with pytest.raises(InputError) as caught:
        len(Embeddings(without).contexts)
    assert str(caught.value) == (
        f"{without / 'contexts.npy'}: no such file; set embed.contexts: true and embed with an X-CLIP"
    )


@pytest.mark.parametrize(
    ("video_ids", "num_captions", "expected"),
    [
        (["a", "b", "d", "e"], 10, "its video 'c' is not in raw/videos.jsonl"),
        (IDS, 11, "it has 10 captions and raw/captions.jsonl 11"),
    ],
)
def test_embeddings_of_another_dataset_are_told_in_one_line(project, video_ids, num_captions, expected):
    embedded = Embeddings(project[0] / "embedded")
    embedded.require_dataset(IDS, 10, Path("raw"))
    with pytest.raises(InputError) as caught:
        embedded.require_dataset(video_ids, num_captions, Path("raw"))
    assert str(caught.value) == (
        f"{embedded.folder}: {expected}; these embeddings are of another dataset: run the embed stage again"
    )


def test_a_number_of_clips_that_was_not_embedded_is_an_error_that_names_the_param(project):
    with pytest.raises(InputError) as caught:
        Embeddings(project[0] / "embedded").clips(3)
    assert str(caught.value).endswith("embedded: not embedded as 3 clips; add 3 to embed.clip_counts")
