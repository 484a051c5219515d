"""Training of alignment heads: the draw of the pairs, the losses, and what comes out."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from stillmotion.config.scorers import MlpHeadParams
from stillmotion.config.training import TrainAggregatorParams
from stillmotion.embedding.reader import EmbeddedVideo, Embeddings
from stillmotion.io.arrays import save_array
from stillmotion.io.records import Caption
from stillmotion.io.tables import write_json, write_rows
from stillmotion.retrieval.pairs import split_rows
from stillmotion.training.heads import draw_pairs, fit_heads, pair_loss

PARAMS = {
    "kind": "mlp_head",
    "layer": "last",
    "video_pooling": "mean",
    "text_pooling": "mean",
    "inputs": "raw",
    "hidden": [16],
    "towers": "separate",
    "dropout": 0.2,
    "loss": "mse",
    "margin": 0.2,
    "positives": 2,
    "negatives": 2,
    "redraw": False,
    "precision": "float64",
    "epochs": 3,
    "batch_size": 8,
    "learning_rate": 1e-2,
    "schedule": "constant",
}
SETTINGS = TrainAggregatorParams(
    epochs=1, batch_size=2, learning_rate=1.0, weight_decay=0.0, warmup_fraction=0.1, gradient_clip=1.0, seeds=[0, 1]
)
CPU = torch.device("cpu")


def params(**changes):
    return MlpHeadParams(**PARAMS | changes)


def rows(*video_of):
    pairs = SimpleNamespace(video_of_N=np.array(video_of))
    return SimpleNamespace(
        pairs=pairs, videos_V=[10 + v for v in range(max(video_of) + 1)], texts_T=list(range(len(video_of)))
    )


def test_a_video_with_few_captions_is_paired_again_and_with_as_many_of_other_videos():
    found = draw_pairs(rows(0, 0, 0, 1, 2), params(), seed=0, epoch=0)
    table = list(zip(found.videos_M.tolist(), found.texts_M.tolist(), found.labels_M.tolist(), strict=True))
    assert [row for row in table if row[2]] == [(10, 0, 1), (10, 1, 1), (11, 3, 1), (11, 3, 1), (12, 4, 1), (12, 4, 1)]
    video_of = {0: 10, 1: 10, 2: 10, 3: 11, 4: 12}
    wrong = [row for row in table if not row[2]]
    assert len(wrong) == 6
    assert all(video_of[text] != video for video, text, _ in wrong)


def test_wrong_pairs_are_drawn_once_or_in_each_epoch_and_infonce_has_none():
    many = rows(*range(20))
    drawn = {
        redraw: [draw_pairs(many, params(redraw=redraw), seed=0, epoch=epoch).texts_M.tolist() for epoch in (0, 1)]
        for redraw in (False, True)
    }
    assert drawn[False][0] == drawn[False][1] == drawn[True][0] != drawn[True][1]
    contrast = draw_pairs(rows(0, 0, 0, 1), params(loss="infonce", negatives=0), seed=0, epoch=0)
    assert (contrast.videos_M.tolist(), contrast.texts_M.tolist()) == ([10, 10, 11], [0, 1, 3])


def unit(seed):
    found = torch.randn(4, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return found / found.norm(dim=1, keepdim=True)


def test_the_losses_are_those_of_the_literature_in_float64():
    videos, texts, labels = unit(0), unit(1), torch.tensor([1, 0, 0, 1])
    log_scale = torch.tensor(2.0, dtype=torch.float64)
    cosines = [sum(float(v * t) for v, t in zip(*pair, strict=True)) for pair in zip(videos, texts, strict=True)]
    mse = sum((c - float(y)) ** 2 for c, y in zip(cosines, labels, strict=True)) / 4
    assert float(pair_loss(videos, texts, labels, params(), log_scale)) == pytest.approx(mse, abs=1e-12)
    # PyTorch's own, with -1 for pairs that do not belong together
    signs = torch.where(labels == 1, 1, -1)
    other = torch.nn.functional.cosine_embedding_loss(videos, texts, signs, margin=0.2)
    found = pair_loss(videos, texts, labels, params(loss="contrastive"), log_scale)
    assert float(found) == pytest.approx(float(other), abs=1e-9)
    logits = np.exp(2.0) * videos.numpy() @ texts.numpy().T
    both = [logits, logits.T]
    losses = [-(row[k] - math.log(np.exp(row).sum())) for matrix in both for k, row in enumerate(matrix)]
    found = pair_loss(videos, texts, labels, params(loss="infonce", negatives=0), log_scale)
    assert float(found) == pytest.approx(float(np.mean(losses)), abs=1e-6)  # the exponential is CLIP's, in float32


@pytest.fixture
def stored(tmp_path):
    """Videos of which each caption's states are a rotation, in 40 of training, 10 of validation."""
    rng = np.random.default_rng(0)
    names = [f"v{number:02}" for number in range(50)]
    splits = ["train"] * 40 + ["validation"] * 10
    write_rows(
        tmp_path / "index.jsonl",
        [EmbeddedVideo(n, s, 4.0, 0, 1, [0], [0]).row() for n, s in zip(names, splits, strict=True)],
    )
    write_json(tmp_path / "model.json", {"dim": 8, "model": "abc", "logit_scale": 14.0, "clip_counts": [1]})
    videos = rng.standard_normal((1, 1, 50, 8)).astype(np.float32)
    save_array(tmp_path / "clips.npy", videos[0, 0][:, None])
    save_array(tmp_path / "captions.npy", videos[0, 0])
    described = {"layers": ["last"], "poolings": ["mean"], "num_layers": 4, "width": 8}
    write_json(tmp_path / "states" / "states.json", described)
    save_array(tmp_path / "states" / "videos.npy", videos)
    save_array(tmp_path / "states" / "captions.npy", videos @ np.linalg.qr(rng.standard_normal((8, 8)))[0].astype("f4"))
    embedded = Embeddings(tmp_path)
    captions = [Caption(f"{name}#0", name, name, None, None) for name in names]
    return embedded, *(split_rows(embedded, captions, split) for split in ("train", "validation"))


def fitted(stored, **changes):
    embedded, train, validation = stored
    return list(fit_heads(params(**changes), embedded, train, validation, SETTINGS, CPU))


@pytest.mark.slow
def test_a_head_learns_what_texts_and_videos_share_with_either_kind_of_loss(stored):
    for changes in ({"epochs": 30}, {"epochs": 30, "loss": "infonce", "negatives": 0, "precision": "float32"}):
        for _, found in fitted(stored, dropout=0.0, **changes):
            assert max(row["score"] for row in found.history) >= 60  # of chance 10
            assert found.history[-1]["loss"] < found.history[0]["loss"] / 2
            assert {"validation_loss", "score", "learning_rate"} <= found.history[0].keys()


def test_a_seed_ends_with_the_same_bytes_whatever_is_trained_beside_it(stored):
    embedded, train, validation = stored
    alone = dict(fit_heads(params(), embedded, train, validation, SETTINGS.model_copy(update={"seeds": [1]}), CPU))
    beside = dict(fitted(stored))
    assert all(torch.equal(value, beside[1].best[name]) for name, value in alone[1].best.items())
    assert any(not torch.equal(value, beside[0].best[name]) for name, value in alone[1].best.items())


def test_the_rate_is_constant_where_the_schedule_is(stored):
    rates = {row["learning_rate"] for _, found in fitted(stored) for row in found.history}
    assert rates == {1e-2}
