import numpy as np
import pytest
import torch
from open_clip.loss import ClipLoss
from torch.nn import functional

from stillmotion.errors import InputError
from stillmotion.io.memo import Memo
from stillmotion.training.contrastive import shuffled_batches
from stillmotion.training.finetuning import FineTuning, finetune
from stillmotion.training.freezing import freeze
from stillmotion.training.pairs import Pair
from stillmotion.training.patch_dropout import PatchDropout
from stillmotion.training.processes import Processes
from stillmotion.training.recipe import apply_recipe
from stillmotion.training.schedule import one_cycle_cosine

pytestmark = pytest.mark.usefixtures("one_thread")


class Killed(Exception):
    pass


def count_clips(backbone, monkeypatch, killed_at=None):
    """A list that gets the number of clips of each forward pass of a backbone."""
    embed_clips, clips = backbone.embed_clips, []

    def counted(pixels):
        if len(clips) == killed_at:
            raise Killed
        clips.append(len(pixels))
        return embed_clips(pixels)

    monkeypatch.setattr(backbone, "embed_clips", counted)
    return clips


def one_pass_loss(backbone, task, dropout, items, epoch, step):
    """All pairs of the batch in one forward pass; the loss of Radford et al. 2021, Fig. 3."""
    recipe = task.recipe
    pixels = [task.pixels(task.train[item], np.random.default_rng([recipe.seed, epoch, item])) for item in items]
    dropout.draw([recipe.seed, epoch, step], recipe.num_frames)
    videos = backbone.embed_clips(torch.stack(pixels))
    texts = backbone.embed_texts(backbone.tokens([task.train[item].text for item in items]))
    logits = backbone.logit_scale * videos @ texts.T
    right = torch.arange(len(items))
    return (functional.cross_entropy(logits, right) + functional.cross_entropy(logits.T, right)) / 2


def gradients_of(backbone, loss):
    backbone.zero_grad(set_to_none=True)
    loss.backward()
    return {name: None if value.grad is None else value.grad.clone() for name, value in backbone.named_parameters()}


@pytest.mark.parametrize(
    ("family", "micro_batch_size", "changes"),
    [
        ("open_clip", 4, {}),
        ("open_clip", 1, {"patch_sampling": "per_frame", "frozen_blocks": 1}),
        ("xclip", 4, {"frozen_blocks": 1}),
    ],
)
def test_micro_batches_give_the_gradients_of_the_whole_batch_in_one_pass(
    corpus, double_backbone, new_recipe, family, micro_batch_size, changes
):
    recipe = new_recipe(micro_batch_size=micro_batch_size, **changes)
    backbone = double_backbone(family).train()
    frozen = freeze(backbone, embeddings=True, blocks=recipe.frozen_blocks)
    dropout = PatchDropout(recipe.patch_keep_rate, recipe.patch_sampling)
    backbone.set_patch_dropout(dropout)
    task = FineTuning(backbone, corpus.frames, corpus.train, [], recipe)
    batches = shuffled_batches(len(task.train), recipe.batch_size, seed=0, epoch=2)

    plain = one_pass_loss(backbone, task, dropout, batches[1].tolist(), 2, 1)
    expected = gradients_of(backbone, plain)
    loss = task.loss(dropout, batches, 2, 1)
    found = gradients_of(backbone, loss)

    assert loss.item() == pytest.approx(plain.item(), rel=1e-12)
    trained = [name for name, value in backbone.named_parameters() if value.requires_grad]
    assert len(trained) > 20
    for name in trained:
        size = expected[name].abs().max()
        assert (found[name] - expected[name]).abs().max() <= 1e-10 * size + 1e-15, name
    assert expected["model.logit_scale"] != 0
    assert all(found[name] is None for name in frozen)
    # The check sees patches: other ones give other gradients.
    other = gradients_of(backbone, one_pass_loss(backbone, task, dropout, batches[1].tolist(), 2, 0))
    name = max(trained, key=lambda name: expected[name].abs().max())
    assert (other[name] - expected[name]).abs().max() > 1e-3 * expected[name].abs().max()


@pytest.mark.parametrize("family", ["open_clip", "stan", "xclip"])
def test_a_temperature_of_the_recipe_divides_the_scores_from_the_first_step_to_the_saved_model(
    corpus, new_backbone, new_recipe, family
):
    recipe = new_recipe(loss_temperature=0.02, epochs=1, patch_keep_rate=1.0, micro_batch_size=4)
    backbone = new_backbone(family)
    assert backbone.logit_scale.item() != pytest.approx(50, rel=0.1)
    task = FineTuning(backbone.train(), corpus.frames, corpus.train, corpus.validation, recipe)
    dropout = apply_recipe(backbone, recipe)
    batches = shuffled_batches(len(task.train), recipe.batch_size, seed=0, epoch=0)
    with torch.no_grad():
        items = batches[0].tolist()
        pixels = [task.pixels(task.train[item], np.random.default_rng([0, 0, item])) for item in items]
        videos = backbone.embed_clips(torch.stack(pixels))
        texts = backbone.embed_texts(backbone.tokens([task.train[item].text for item in items]))
        expected = ClipLoss()(videos, texts, torch.tensor(50.0)).item()
    assert task.loss(dropout, batches, 0, 0).item() == pytest.approx(expected, rel=1e-5)

    fitted = finetune(task, memo=Memo(None), key={})
    assert backbone.logit_scale.item() == pytest.approx(50)
    assert "model.logit_scale" not in fitted.best


def test_several_texts_of_a_video_are_scored_against_each_video_once(corpus, new_backbone, new_recipe):
    # Two videos, of three texts and of one: the third text of the first is nearer to the other video.
    pairs = [Pair("v18", text, 0.0, 4.0) for text in "abc"] + [Pair("v19", "d", 0.0, 4.0)]
    videos = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    texts = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8], [0.0, 1.0]])
    task = FineTuning(new_backbone(), corpus.frames, corpus.train, pairs, new_recipe())
    assert task.score_of((videos, texts), pairs) == 75


def test_a_single_validation_video_which_always_comes_first_chooses_no_epoch(corpus, new_backbone, new_recipe):
    one = [Pair("v18", text, 0.0, 4.0) for text in ("a", "b")]
    task = FineTuning(new_backbone(), corpus.frames, corpus.train, one, new_recipe(epochs=2))
    fitted = finetune(task, memo=Memo(None), key={})
    assert fitted.best_epoch == 1
    assert all("score" not in row for row in fitted.history)


@pytest.mark.parametrize(
    ("micro_batch_size", "forward_passes"),
    [(9, [9]), (64, [9]), (4, [4, 4, 1, 4, 4]), (5, [5, 4, 5])],
)
def test_what_fits_at_once_is_embedded_once_and_the_last_part_never_twice(
    corpus, new_backbone, new_recipe, monkeypatch, micro_batch_size, forward_passes
):
    recipe = new_recipe(micro_batch_size=micro_batch_size)
    backbone = new_backbone().train()
    clips = count_clips(backbone, monkeypatch)
    task = FineTuning(backbone, corpus.frames, corpus.train, [], recipe)
    task.loss(PatchDropout(1.0, "tubelet"), shuffled_batches(18, 9, seed=0, epoch=0), 0, 0).backward()
    assert clips == forward_passes


@pytest.mark.parametrize(("optimizer", "learning_rate"), [("adamw", 1e-3), ("sgd", 1e-1)])
def test_a_training_in_micro_batches_ends_where_one_in_whole_batches_does(
    corpus, double_backbone, new_recipe, optimizer, learning_rate
):
    ends = []
    for micro_batch_size in (9, 2):
        recipe = new_recipe(optimizer=optimizer, learning_rate=learning_rate, micro_batch_size=micro_batch_size)
        task = FineTuning(double_backbone(), corpus.frames, corpus.train, corpus.validation, recipe)
        ends.append(finetune(task, memo=Memo(None), key={}))
    whole, parts = ends
    start = dict(double_backbone().named_parameters())
    assert max((value - start[name]).abs().max() for name, value in whole.best.items()) > 1e-3
    for name, value in whole.best.items():
        torch.testing.assert_close(parts.best[name], value, atol=1e-8, rtol=0, msg=name)
    assert [row["score"] for row in parts.history] == [row["score"] for row in whole.history]
    assert [row["loss"] for row in parts.history] == pytest.approx([row["loss"] for row in whole.history], rel=1e-9)


def test_the_optimizer_of_the_recipe_is_used(corpus, new_backbone, new_recipe):
    def trained(optimizer):
        recipe = new_recipe(optimizer=optimizer, epochs=1)
        return finetune(FineTuning(new_backbone(), corpus.frames, corpus.train, [], recipe), memo=Memo(None), key={})

    adamw, sgd = trained("adamw").best, trained("sgd").best
    assert adamw.keys() == sgd.keys()
    assert not any(torch.equal(adamw[name], sgd[name]) for name in adamw if name.endswith("weight"))


def test_with_cosine_each_bit_is_that_of_clip_s_loss_and_two_groups_of_adamw(corpus, new_backbone, new_recipe):
    """The training as it was before there was another similarity or a branch, written out."""
    recipe = new_recipe(epochs=2)
    fitted = finetune(FineTuning(new_backbone(), corpus.frames, corpus.train, [], recipe), memo=Memo(None), key={})

    backbone = new_backbone().train()
    freeze(backbone, embeddings=True, blocks=0)
    dropout = PatchDropout(recipe.patch_keep_rate, recipe.patch_sampling)
    backbone.set_patch_dropout(dropout)
    trained = {name: value for name, value in backbone.named_parameters() if value.requires_grad}
    groups = [
        {"params": [value for value in trained.values() if value.ndim >= 2], "weight_decay": recipe.weight_decay},
        {"params": [value for value in trained.values() if value.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=True)
    task = FineTuning(backbone, corpus.frames, corpus.train, [], recipe)
    for number in range(4):
        epoch, step = divmod(number, 2)
        items = shuffled_batches(18, 9, seed=0, epoch=epoch)[step].tolist()
        pixels = [task.pixels(task.train[item], np.random.default_rng([0, epoch, item])) for item in items]
        dropout.draw([0, epoch, step], recipe.num_frames)
        frames = backbone.model.encode_image(torch.stack(pixels).flatten(0, 1)).float()
        frames = functional.normalize(frames, dim=-1).unflatten(0, (9, recipe.num_frames))
        texts = backbone.embed_texts(backbone.tokens([task.train[item].text for item in items]))
        loss = ClipLoss()(functional.normalize(frames.mean(1), dim=-1), texts, backbone.logit_scale)
        for group in optimizer.param_groups:
            group["lr"] = one_cycle_cosine(number, total_steps=4, peak=1e-3, warmup_fraction=0.1)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(list(trained.values()), recipe.gradient_clip)
        optimizer.step()
    assert fitted.best.keys() == trained.keys()
    for name, value in trained.items():
        assert torch.equal(fitted.best[name], value), name


@pytest.mark.parametrize(("optimizer", "dropout"), [("adamw", 0.0), ("sgd", 0.0), ("adamw", 0.5)])
def test_a_fine_tuning_killed_among_its_micro_batches_goes_on_to_the_same_bits(
    corpus, new_backbone, new_recipe, monkeypatch, tmp_path, optimizer, dropout
):
    monkeypatch.setenv("STILLMOTION_CHECKPOINT_SECONDS", "0")
    recipe = new_recipe(optimizer=optimizer, micro_batch_size=4, patch_sampling="per_frame")

    def run(memo, killed_at=None):
        backbone = new_backbone()
        visual = backbone.model.visual
        visual.ln_post = torch.nn.Sequential(visual.ln_post, torch.nn.Dropout(dropout))
        clips = count_clips(backbone, monkeypatch, killed_at)
        task = FineTuning(backbone, corpus.frames, corpus.train, corpus.validation, recipe)
        return finetune(task, memo=memo, key={"data": 1}), len(clips)

    expected, calls = run(Memo(None))
    with pytest.raises(Killed):
        run(Memo(tmp_path), killed_at=calls // 2)
    fitted, rest = run(Memo(tmp_path))
    assert 0 < rest < calls
    assert all(torch.equal(fitted.best[name], value) for name, value in expected.best.items())
    assert fitted.history == expected.history


def test_a_batch_of_one_pair_from_which_nothing_is_learned_is_refused(corpus, new_backbone, new_recipe):
    task = FineTuning(new_backbone(), corpus.frames, corpus.train, [], new_recipe(batch_size=1))
    with pytest.raises(InputError) as caught:
        finetune(task, memo=Memo(None), key={})
    assert str(caught.value) == (
        "params.yaml: batch_size of a recipe is 1, and a pair is told apart from the others of its batch; set 2 or "
        "more, and micro_batch_size to how many are embedded at once"
    )


def test_more_processes_than_pairs_of_a_batch_are_refused_in_one_line(corpus, new_backbone, new_recipe, monkeypatch):
    monkeypatch.setattr(Processes, "count", 10)
    task = FineTuning(new_backbone(), corpus.frames, corpus.train, [], new_recipe())
    with pytest.raises(
        InputError, match=r"^params.yaml: a batch has 9 pairs for 10 processes; raise batch_size"
    ) as error:
        finetune(task, memo=Memo(None), key={})
    assert "\n" not in str(error.value)
