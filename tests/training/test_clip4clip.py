"""Fine-tuning of a model with a head of CLIP4Clip."""

import numpy as np
import pytest
import torch

from stillmotion.backbones.clip4clip_backbone import Clip4ClipSettings, expand_clip4clip
from stillmotion.backbones.registry import load_backbone
from stillmotion.config.models import BuiltinBackboneParams
from stillmotion.errors import InputError
from stillmotion.io.memo import Memo
from stillmotion.training.builtin import new_builtin
from stillmotion.training.contrastive import shuffled_batches
from stillmotion.training.finetuning import FineTuning, finetune
from stillmotion.training.processes import Processes
from stillmotion.training.recipe import apply_recipe
from stillmotion.training.similarity import TightTransformer, similarity_of

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")


def make_backbone(head):
    """A text tower as wide as the embeddings, as the transformer needs it."""
    sizes = {"image_size_px": 16, "patch_size_px": 4, "width": 32, "layers": 2, "text_layers": 2, "heads": 2}
    training = {"steps": 1, "batch_size": 2, "learning_rate": 1e-3, "weight_decay": 0.1, "warmup_fraction": 0.1}
    clip = new_builtin(
        BuiltinBackboneParams(family="builtin", embed_dim=32, max_sentences=1, seed=0, **sizes, **training)
    )
    return expand_clip4clip(clip, Clip4ClipSettings(head, 2, 0))


@pytest.mark.parametrize("head", ["seq_lstm", "seq_transf", "tight_transformer"])
def test_training_moves_the_whole_head_and_saves_it(corpus, new_recipe, tmp_path, head):
    backbone = make_backbone(head)
    before = {name: value.detach().clone() for name, value in backbone.named_parameters()}
    recipe = new_recipe(epochs=4, learning_rate=3e-4, micro_batch_size=4, branch_learning_rate_factor=10.0)
    task = FineTuning(backbone, corpus.frames, corpus.train, corpus.validation, recipe)
    fitted = finetune(task, memo=Memo(None), key={})
    if head != "tight_transformer":  # from scores of nearly zero it learns to compare in more steps than these
        assert fitted.history[-1]["loss"] < fitted.history[0]["loss"]
    assert 0 <= fitted.history[-1]["score"] <= 100
    moved = {name for name, value in backbone.named_parameters() if not torch.equal(value, before[name])}
    assert set(backbone.branch_parameter_names()) <= moved

    backbone.save(tmp_path / "model", {"backbone": "small"})
    loaded = load_backbone(tmp_path / "model", CPU)
    pixels = torch.stack([task.pixels(pair, None) for pair in corpus.validation])
    with torch.no_grad():
        assert torch.equal(loaded.embed_clips(pixels), backbone.embed_clips(pixels))
        assert torch.equal(loaded.embed_frames(pixels[:, 0]), backbone.embed_frames(pixels[:, 0]))


def test_a_tight_transformer_is_trained_by_the_cross_entropies_of_its_scores_as_they_are(corpus, new_recipe):
    backbone = make_backbone("tight_transformer").train()
    with torch.no_grad():
        backbone.head.readout[2].weight.mul_(200)  # scores that tell a temperature
    recipe = new_recipe(micro_batch_size=4, patch_keep_rate=1.0)
    task = FineTuning(backbone, corpus.frames, corpus.train, [], recipe)
    batches = shuffled_batches(18, 9, seed=0, epoch=0)
    loss = task.loss(apply_recipe(backbone, task.recipe), batches, 0, 0)
    items = batches[0].tolist()
    pairs = [corpus.train[item] for item in items]
    rngs = [np.random.default_rng([task.recipe.seed, 0, item]) for item in items]
    frames = [backbone.frame_embeddings(task.pixels(*drawn)[None]) for drawn in zip(pairs, rngs, strict=True)]
    texts = [backbone.embed_texts(backbone.tokens([pair.text])) for pair in pairs]
    seen = torch.ones(1, frames[0].shape[1], dtype=torch.bool)
    with torch.no_grad():
        scores = np.array([[backbone.head(text, video, seen).item() for video in frames] for text in texts])
    assert scores.std() > 0.1
    shares = np.exp(scores) / np.exp(scores).sum(1, keepdims=True), np.exp(scores) / np.exp(scores).sum(0)
    expected = -np.mean([np.log(np.diag(share)).mean() for share in shares])
    assert loss.item() == pytest.approx(expected, abs=1e-5)
    loss.backward()
    assert backbone.model.logit_scale.grad is None or backbone.model.logit_scale.grad == 0


@pytest.mark.parametrize("tokens_a_pass", [40_000, 100])
def test_two_processes_train_a_tight_transformer_as_one_does(
    corpus, new_recipe, in_two_threads, monkeypatch, tokens_a_pass
):
    recipe, batches = new_recipe(micro_batch_size=3), shuffled_batches(18, 9, seed=0, epoch=0)
    monkeypatch.setattr("stillmotion.backbones.clip4clip_heads.TOKENS_A_PASS", tokens_a_pass)
    backbones = [make_backbone("tight_transformer").train() for _ in range(2)]
    for backbone in backbones:
        with torch.no_grad():
            backbone.head.readout[2].weight.mul_(200)  # gradients of the towers that tell

    def step(processes):
        task = FineTuning(backbones[processes.rank], corpus.frames, corpus.train, [], recipe, processes)
        task.backbone.zero_grad(set_to_none=True)
        task.loss(apply_recipe(task.backbone, recipe), batches, 0, 0).backward()
        trained = {name: value for name, value in task.backbone.named_parameters() if value.requires_grad}
        processes.sum_gradients(list(trained.values()))
        return {name: value.grad for name, value in trained.items() if value.grad is not None}

    expected = step(Processes())
    assert {name for name in expected if name.startswith("head.")} == set(backbones[0].branch_parameter_names())
    for found in in_two_threads(step):
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            scale = value.abs().max().item()
            assert scale > 1e-4 or name == "head.readout.2.bias", name  # what all scores share moves none apart
            torch.testing.assert_close(found[name], value, atol=1e-4 * scale + 1e-7, rtol=1e-3, msg=name)


def test_a_tight_transformer_compares_by_its_scores_without_a_recipe_too_and_by_no_temperature(
    corpus, new_recipe, caplog
):
    backbone = make_backbone("tight_transformer")
    assert isinstance(similarity_of(None, backbone), TightTransformer)
    for temperature in ("learned", 0.05):
        recipe = new_recipe(epochs=1, loss_temperature=temperature)
        finetune(FineTuning(backbone, corpus.frames, corpus.train, [], recipe), memo=Memo(None), key={})
        told = [line for line in caplog.messages if "loss_temperature plays no part" in line]
        assert len(told) == (temperature != "learned")


def test_a_tight_transformer_is_not_trained_by_mug(corpus, new_recipe):
    task = FineTuning(make_backbone("tight_transformer"), corpus.frames, corpus.train, [], new_recipe(similarity="mug"))
    with pytest.raises(
        InputError, match=r"^params.yaml: a tight transformer is trained by its own scores, not by mug; "
    ):
        finetune(task, memo=Memo(None), key={})


def test_mug_which_would_pass_the_head_by_trains_none(corpus, new_recipe):
    task = FineTuning(make_backbone("seq_lstm"), corpus.frames, corpus.train, [], new_recipe(similarity="mug"))
    with pytest.raises(InputError, match="which PoolingClip4Clip has not; set similarity: cosine"):
        finetune(task, memo=Memo(None), key={})


def test_the_rate_factor_is_the_head_s_alone(corpus, new_recipe):
    def movement(factor):
        backbone = make_backbone("seq_lstm")
        before = {name: value.detach().clone() for name, value in backbone.named_parameters()}
        # One step, no decay: AdamW moves every weight with a gradient by the learning rate, but for its epsilon.
        recipe = new_recipe(
            epochs=1, batch_size=18, learning_rate=1e-5, weight_decay=0.0, branch_learning_rate_factor=factor
        )
        finetune(FineTuning(backbone, corpus.frames, corpus.train, [], recipe), memo=Memo(None), key={})
        most = {name: (value - before[name]).abs().max().item() for name, value in backbone.named_parameters()}
        return most["head.lstm.weight_ih_l0"], most["model.visual.proj"]

    (head, tower), (fast_head, same_tower) = movement(1.0), movement(10.0)
    assert fast_head == pytest.approx(10 * head, rel=0.05)
    assert same_tower == pytest.approx(tower, rel=0.05)
