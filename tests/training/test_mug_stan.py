"""Fine-tuning of a model with a STAN branch, and by Mug."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from stillmotion.backbones.registry import load_backbone
from stillmotion.errors import InputError
from stillmotion.io.memo import Memo
from stillmotion.training.contrastive import shuffled_batches
from stillmotion.training.finetuning import FineTuning, finetune
from stillmotion.training.processes import Processes
from stillmotion.training.recipe import apply_recipe

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")


def score(tokens, frames, tau):
    """aᵀ S b of METHODS.md, section 6, for one text and one video."""
    cosines = tokens @ frames.T
    of_tokens = ((tau * cosines).softmax(1) * cosines).sum(1)
    of_frames = ((tau * cosines).softmax(0) * cosines).sum(0)
    return (tau * of_tokens).softmax(0) @ cosines @ (tau * of_frames).softmax(0)


def one_pass_loss(backbone, task, dropout, items, epoch, step):
    """All pairs of the batch in one forward pass, scored one by one."""
    recipe = task.recipe
    pixels = [task.pixels(task.train[item], np.random.default_rng([recipe.seed, epoch, item])) for item in items]
    dropout.draw([recipe.seed, epoch, step], recipe.num_frames)
    backbone.draw_paths([recipe.seed, epoch, step], first_clip=0)
    frames = backbone.frame_embeddings(torch.stack(pixels))
    texts = [backbone.token_embeddings(backbone.tokens([task.train[item].text]))[0][0] for item in items]
    logits = torch.stack([torch.stack([score(text, video, recipe.tau) for video in frames]) for text in texts])
    logits = backbone.logit_scale * logits
    right = torch.arange(len(items))
    return (functional.cross_entropy(logits, right) + functional.cross_entropy(logits.T, right)) / 2


def gradients_of(backbone, loss):
    backbone.zero_grad(set_to_none=True)
    loss.backward()
    return {name: value.grad.clone() for name, value in backbone.named_parameters() if value.grad is not None}


def assert_same_gradients(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert (found[name] - value).abs().max() <= 1e-9 * value.abs().max() + 1e-14, name


@pytest.mark.parametrize(
    ("family", "micro_batch_size", "changes"),
    [
        ("stan", 9, {}),
        ("stan", 4, {}),
        ("stan", 1, {"frozen_blocks": 1, "freeze_texts": True}),
        ("stan", 4, {"gradient_checkpointing": True}),
        ("open_clip", 4, {"patch_sampling": "per_frame"}),
    ],
)
def test_with_mug_micro_batches_give_the_gradients_of_the_whole_batch_in_one_pass(
    corpus, double_backbone, new_recipe, family, micro_batch_size, changes
):
    recipe = new_recipe(similarity="mug", tau=20.0, micro_batch_size=micro_batch_size, **changes)
    backbone = double_backbone(family, drop_path=0.5).train()
    dropout = apply_recipe(backbone, recipe)
    task = FineTuning(backbone, corpus.frames, corpus.train, [], recipe)
    batches = shuffled_batches(len(task.train), recipe.batch_size, seed=0, epoch=2)

    plain = one_pass_loss(backbone, task, dropout, batches[1].tolist(), 2, 1)
    expected = gradients_of(backbone, plain)
    loss = task.loss(dropout, batches, 2, 1)
    assert loss.item() == pytest.approx(plain.item(), rel=1e-10)
    assert_same_gradients(gradients_of(backbone, loss), expected)
    assert expected["model.logit_scale"] != 0
    assert expected.keys() == {name for name, value in backbone.named_parameters() if value.requires_grad}


def test_with_mug_two_processes_have_the_gradients_and_the_recall_of_one(
    corpus, double_backbone, new_recipe, in_two_threads
):
    recipe = new_recipe(similarity="mug", tau=20.0, micro_batch_size=3)
    batches = shuffled_batches(18, 9, seed=0, epoch=0)

    # Made here: threads share the generator that initial weights are drawn from.
    backbones = [double_backbone("stan", drop_path=0.5).train() for _ in range(2)]

    def task_of(processes, num_validation=6):
        validation = corpus.validation[:num_validation]
        return FineTuning(backbones[processes.rank], corpus.frames, corpus.train, validation, recipe, processes)

    def step(processes):
        task = task_of(processes)
        task.backbone.zero_grad(set_to_none=True)
        task.loss(apply_recipe(task.backbone, recipe), batches, 0, 0).backward()
        trained = {name: value for name, value in task.backbone.named_parameters() if value.requires_grad}
        processes.sum_gradients(list(trained.values()))
        return {name: value.grad for name, value in trained.items()}

    expected = step(Processes())
    for found in in_two_threads(step):
        assert_same_gradients(found, expected)
    # With one pair, one of two processes has none to embed.
    for num_validation in (6, 1):
        alone = task_of(Processes(), num_validation).validation_score()
        assert in_two_threads(lambda p, n=num_validation: task_of(p, n).validation_score()) == [alone, alone]


@pytest.mark.slow
@torch.no_grad()
def test_validation_ranks_by_mug_where_the_loss_compares_by_mug(corpus, new_backbone, new_recipe):
    recalls = {}
    for similarity in ("mug", "cosine"):
        recipe = new_recipe(similarity=similarity, tau=5.0)
        for seed in range(4):
            backbone = new_backbone("stan")
            generator = torch.Generator().manual_seed(seed)
            for value in backbone.parameters():
                value.add_(0.2 * torch.randn(value.shape, generator=generator))
            task = FineTuning(backbone, corpus.frames, corpus.train, corpus.train, recipe)
            recalls[similarity, seed] = task.validation_score()
            if similarity == "mug":
                backbone.eval()
                frames = [backbone.frame_embeddings(task.pixels(pair, None)[None])[0] for pair in corpus.train]
                texts = [backbone.token_embeddings(backbone.tokens([pair.text]))[0][0] for pair in corpus.train]
                scores = torch.tensor([[score(text, video, 5.0) for video in frames] for text in texts])
                expected = (scores.argmax(1) == torch.arange(18)).double().mean().item()
                assert recalls[similarity, seed] == pytest.approx(100 * expected)
    assert any(recalls["mug", seed] != recalls["cosine", seed] for seed in range(4))


def trained(corpus, backbone, recipe):
    return finetune(FineTuning(backbone, corpus.frames, corpus.train, [], recipe), memo=Memo(None), key={})


def test_paths_are_dropped_in_training_and_micro_batches_change_nothing(corpus, double_backbone, new_recipe):
    def end(drop_path, **changes):
        return trained(corpus, double_backbone("stan", drop_path=drop_path), new_recipe(epochs=2, **changes)).best

    dropped, parts, plain = end(0.6), end(0.6, micro_batch_size=2), end(0.0)
    for name, value in dropped.items():
        torch.testing.assert_close(parts[name], value, atol=1e-8, rtol=0, msg=name)
    other = [name for name, value in dropped.items() if (value - plain[name]).abs().max() > 1e-5]
    assert {name.split(".")[0] for name in other} == {"model", "branch"}


def test_the_branch_trains_at_its_multiple_of_the_rate(corpus, new_backbone, new_recipe):
    """The first step of AdamW has the size of the rate, whatever the gradient."""
    changes = {"epochs": 1, "batch_size": 18, "micro_batch_size": 18, "weight_decay": 0.0, "learning_rate": 1e-5}
    recipe = new_recipe(branch_learning_rate_factor=10.0, **changes)
    backbone = new_backbone("stan")
    before = {name: value.detach().clone() for name, value in backbone.named_parameters()}
    fitted = trained(corpus, backbone, recipe)
    steps = {name: (value - before[name]).abs().max().item() for name, value in fitted.best.items()}
    branch = {name for name in steps if name.startswith("branch.")}
    assert len(branch) > 20
    for name in branch:
        assert steps[name] == pytest.approx(1e-4, rel=0.05), name
    for name in steps.keys() - branch:
        assert steps[name] == pytest.approx(1e-5, rel=0.2), name


@pytest.mark.parametrize(("factor", "told"), [(1.0, False), (10.0, True)])
def test_a_factor_without_a_branch_is_told_and_changes_nothing(corpus, new_backbone, new_recipe, caplog, factor, told):
    recipe = new_recipe(epochs=1, branch_learning_rate_factor=factor)
    with caplog.at_level("WARNING", logger="stillmotion"):
        found = trained(corpus, new_backbone(), recipe).best
    assert ("no STAN branch and no head: branch_learning_rate_factor plays no part" in caplog.text) == told
    expected = trained(corpus, new_backbone(), new_recipe(epochs=1)).best
    assert all(torch.equal(found[name], value) for name, value in expected.items())


@pytest.mark.parametrize("similarity", ["cosine", "mug"])
def test_gradient_checkpointing_ends_where_training_without_it_does(
    corpus, double_backbone, new_recipe, monkeypatch, similarity
):
    ends, calls = [], []
    for on in (False, True):
        recipe = new_recipe(epochs=1, gradient_checkpointing=on, similarity=similarity, micro_batch_size=4)
        backbone = double_backbone("stan", drop_path=0.5)
        seen = []
        backbone.branch.layers[0].register_forward_pre_hook(lambda module, inputs, seen=seen: seen.append(1))
        ends.append(trained(corpus, backbone, recipe).best)
        calls.append(len(seen))
    for name, value in ends[0].items():
        torch.testing.assert_close(ends[1][name], value, atol=1e-8, rtol=0, msg=name)
    # 2 batches in parts of 4, 4 and 1: each part but the last is embedded twice. With checkpoints a layer is computed
    # once more each time that its part has a backward pass.
    assert calls == [2 * 5, 2 * (5 + 3)]


@pytest.mark.parametrize("family", ["open_clip", "xclip"])
def test_gradient_checkpointing_without_a_branch_is_refused_and_the_param_named(
    corpus, new_backbone, new_recipe, family
):
    with pytest.raises(InputError, match=r"^params.yaml: gradient_checkpointing is true and .* set grad") as error:
        trained(corpus, new_backbone(family), new_recipe(gradient_checkpointing=True))
    assert "\n" not in str(error.value)


def test_with_frozen_texts_the_texts_stay_as_they_are_and_the_videos_do_not(corpus, new_backbone, new_recipe):
    texts = [pair.text for pair in corpus.train]
    pixels = torch.randn(2, 4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    before = new_backbone("stan")
    backbone = new_backbone("stan")
    recipe = new_recipe(similarity="mug", freeze_texts=True, freeze_embeddings=False)
    fitted = trained(corpus, backbone, recipe)
    with torch.no_grad():
        tokens = backbone.tokens(texts)
        assert torch.equal(backbone.embed_texts(tokens), before.embed_texts(tokens))
        assert torch.equal(backbone.token_embeddings(tokens)[0], before.token_embeddings(tokens)[0])
        assert (backbone.embed_clips(pixels) - before.embed_clips(pixels)).abs().max() > 1e-2
    assert {name.split(".")[1] for name in fitted.best if name.startswith("model.")} == {"visual", "logit_scale"}


def test_a_model_without_a_known_text_tower_is_refused_and_the_param_named(corpus, new_backbone, new_recipe):
    with pytest.raises(InputError, match="^params.yaml: freeze_texts does not know the text tower of XClipBackbone"):
        trained(corpus, new_backbone("xclip"), new_recipe(freeze_texts=True))


def test_from_a_small_clip_to_a_stan_that_mug_trained_and_back_from_its_folder(
    corpus, new_backbone, new_recipe, tmp_path
):
    changes = {"branch_learning_rate_factor": 10.0, "micro_batch_size": 4, "learning_rate": 3e-4, "epochs": 2}
    recipe = new_recipe(similarity="mug", gradient_checkpointing=True, **changes)
    backbone = new_backbone("stan", drop_path=0.1)
    before = {name: value.detach().clone() for name, value in backbone.named_parameters()}
    task = FineTuning(backbone, corpus.frames, corpus.train, corpus.validation, recipe)
    fitted = finetune(task, memo=Memo(None), key={})
    assert [row["epoch"] for row in fitted.history] == [0, 1]
    assert fitted.history[1]["loss"] < fitted.history[0]["loss"]
    moved = {name for name, value in backbone.named_parameters() if not torch.equal(value, before[name])}
    assert set(backbone.branch_parameter_names()) <= moved

    backbone.save(tmp_path / "model", {"backbone": "small"})
    loaded = load_backbone(tmp_path / "model", CPU)
    pixels = torch.stack([task.pixels(pair, None) for pair in corpus.validation])
    tokens = backbone.tokens([pair.text for pair in corpus.validation])
    with torch.no_grad():
        assert torch.equal(loaded.frame_embeddings(pixels), backbone.frame_embeddings(pixels))
        assert torch.equal(loaded.embed_clips(pixels), backbone.embed_clips(pixels))
        assert torch.equal(loaded.embed_texts(tokens), backbone.embed_texts(tokens))
        for found, expected in zip(loaded.token_embeddings(tokens), backbone.token_embeddings(tokens), strict=True):
            assert torch.equal(found, expected)
