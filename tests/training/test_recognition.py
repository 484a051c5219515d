"""Fine-tuning that tells labelled spans apart by the texts of their classes."""

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest
import ruamel.yaml
import torch

from stillmotion.backbones.registry import load_backbone
from stillmotion.errors import InputError
from stillmotion.io.memo import Memo
from stillmotion.io.records import Action, save_records
from stillmotion.io.tables import read_json
from stillmotion.training.contrastive import shuffled_batches
from stillmotion.training.finetuning import finetune
from stillmotion.training.pairs import Pair
from stillmotion.training.processes import ALONE, Processes
from stillmotion.training.recipe import apply_recipe
from stillmotion.training.recognition import Recognition

pytestmark = pytest.mark.usefixtures("one_thread")
ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "src" / "finetune.py"
SYSTEM = {"model": "m", "base": "m", "expansion": None, "pretraining": None, "recipe": None, "seed": None}
CLASSES = ["grows a lot", "moves", "shrinks", "spins"]
"""No training span is of the last one."""


def span_of(number):
    return Pair(f"v{number:02}", CLASSES[number % 3], 0.5, 3.5)


TRAIN, VALIDATION = [span_of(number) for number in range(18)], [span_of(number) for number in range(18, 24)]


@pytest.fixture
def recognise(corpus, new_recipe):
    """Makes the task of a backbone, with changes to the recipe."""

    def make(backbone, *, validation=VALIDATION, processes=ALONE, **changes):
        recipe = new_recipe(**{"captions": "class_names", "freeze_texts": True} | changes)
        return Recognition(backbone, corpus.frames, TRAIN, validation, recipe, processes, CLASSES)

    return make


def logarithms(values):
    """The logarithms of the shares of each row, written out."""
    highest = values.max(dim=1, keepdim=True).values
    return values - highest - (values - highest).exp().sum(dim=1, keepdim=True).log()


def one_pass_loss(task, dropout, items, epoch, step):
    """All spans in one forward pass, each with the class that its number says."""
    recipe, backbone = task.recipe, task.backbone
    pixels = [task.pixels(TRAIN[item], np.random.default_rng([recipe.seed, epoch, item])) for item in items]
    dropout.draw([recipe.seed, epoch, step], recipe.num_frames)
    backbone.draw_paths([recipe.seed, epoch, step], first_clip=0)
    spans = backbone.embed_clips(torch.stack(pixels))
    texts = torch.cat([backbone.embed_texts(backbone.tokens([name])) for name in CLASSES])
    shares = logarithms(backbone.logit_scale * spans @ texts.T)
    return -torch.stack([shares[row, item % 3] for row, item in enumerate(items)]).mean()


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
        ("open_clip", 9, {}),
        ("open_clip", 4, {"freeze_texts": False}),
        ("stan", 4, {}),
        ("stan", 1, {"freeze_texts": False, "frozen_blocks": 1}),
        ("xclip", 2, {"freeze_texts": False}),
    ],
)
def test_micro_batches_give_the_gradients_of_the_cross_entropy_over_all_classes(
    double_backbone, recognise, family, micro_batch_size, changes
):
    settings = {"drop_path": 0.5} if family == "stan" else {}
    task = recognise(double_backbone(family, **settings).train(), micro_batch_size=micro_batch_size, **changes)
    dropout = apply_recipe(task.backbone, task.recipe)
    batches = shuffled_batches(len(TRAIN), task.recipe.batch_size, seed=0, epoch=2)
    plain = one_pass_loss(task, dropout, batches[1].tolist(), 2, 1)
    expected = gradients_of(task.backbone, plain)
    loss = task.loss(dropout, batches, 2, 1)
    assert loss.item() == pytest.approx(plain.item(), rel=1e-10)
    assert_same_gradients(gradients_of(task.backbone, loss), expected)
    assert expected["model.logit_scale"] != 0
    text_tower = {name for name in expected if ".text" in name or name.startswith("model.transformer")}
    assert bool(text_tower) != task.recipe.freeze_texts


def test_no_dropout_of_a_frozen_text_tower_is_drawn(recognise, new_backbone):
    losses = []
    for dropout in (0.0, 0.5):
        backbone = new_backbone()
        backbone.model.ln_final = torch.nn.Sequential(backbone.model.ln_final, torch.nn.Dropout(dropout))
        task = recognise(backbone.train())
        batches = shuffled_batches(len(TRAIN), 9, seed=0, epoch=0)
        losses.append(task.loss(apply_recipe(backbone, task.recipe), batches, 0, 0).item())
        assert backbone.training
    assert losses[0] == losses[1]


@pytest.mark.parametrize("freeze_texts", [True, False])
def test_two_processes_have_the_gradients_and_the_score_of_one(
    double_backbone, recognise, in_two_threads, freeze_texts
):
    # Made here: threads share the generator that initial weights are drawn from.
    backbones = [double_backbone("stan", drop_path=0.5).train() for _ in range(2)]
    batches = shuffled_batches(len(TRAIN), 9, seed=0, epoch=0)

    def task_of(processes, validation=VALIDATION):
        changes = {"freeze_texts": freeze_texts, "micro_batch_size": 3}
        return recognise(backbones[processes.rank], validation=validation, processes=processes, **changes)

    def step(processes):
        task = task_of(processes)
        task.backbone.zero_grad(set_to_none=True)
        task.loss(apply_recipe(task.backbone, task.recipe), batches, 0, 0).backward()
        trained = {name: value for name, value in task.backbone.named_parameters() if value.requires_grad}
        processes.sum_gradients(list(trained.values()))
        return {name: value.grad for name, value in trained.items()}

    expected = step(Processes())
    for found in in_two_threads(step):
        assert_same_gradients(found, expected)
    # With one span, one of two processes has none to embed.
    for validation in (VALIDATION, VALIDATION[:1]):
        alone = task_of(Processes(), validation).validation_score()
        found = in_two_threads(lambda p, validation=validation: task_of(p, validation).validation_score())
        assert found == [alone, alone]


@pytest.mark.parametrize(("freeze_texts", "passes"), [(True, 1), (False, 6)])
def test_frozen_class_names_are_embedded_once(new_backbone, recognise, monkeypatch, freeze_texts, passes):
    backbone = new_backbone()
    embed_texts, texts = backbone.embed_texts, []

    def counted(tokens):
        texts.append(len(tokens))
        return embed_texts(tokens)

    monkeypatch.setattr(backbone, "embed_texts", counted)
    finetune(recognise(backbone, freeze_texts=freeze_texts, epochs=2), memo=Memo(None), key={})
    # Two epochs of two steps and a validation each: with texts that are trained, a pass in each of the six.
    assert texts == [len(CLASSES)] * passes


@torch.no_grad()
def test_the_score_is_the_share_of_the_spans_whose_class_has_the_highest_cosine(new_backbone, recognise):
    scores = set()
    for seed in range(5):
        backbone = new_backbone()
        generator = torch.Generator().manual_seed(seed)
        for value in backbone.parameters():
            value.add_(0.2 * torch.randn(value.shape, generator=generator))
        task = recognise(backbone, validation=TRAIN)
        scores.add(task.validation_score())
        backbone.eval()
        spans = torch.cat([backbone.embed_clips(task.pixels(span, None)[None]) for span in TRAIN])
        texts = backbone.embed_texts(backbone.tokens(CLASSES))
        right = [(span @ texts.T).argmax().item() == number % 3 for number, span in enumerate(spans)]
        assert task.validation_score() == pytest.approx(100 * sum(right) / 18)
    assert len(scores) > 1


def test_classes_that_tie_are_no_hit(new_backbone, recognise, monkeypatch):
    backbone = new_backbone()
    monkeypatch.setattr(backbone, "embed_texts", lambda tokens: torch.ones(len(tokens), backbone.dim) / 4)
    assert recognise(backbone).validation_score() == 0


@pytest.mark.slow
def test_training_names_the_spans_and_leaves_the_frozen_texts_as_they_are(new_backbone, recognise):
    backbone, before = new_backbone("stan"), new_backbone("stan")
    task = recognise(backbone, validation=TRAIN, epochs=40, batch_size=18, learning_rate=1e-2, patch_keep_rate=1.0)
    fitted = finetune(task, memo=Memo(None), key={})
    assert fitted.history[-1]["loss"] < 0.5 < np.log(3) * 0.8 < fitted.history[0]["loss"]
    assert fitted.history[fitted.best_epoch]["score"] > 80
    with torch.no_grad():
        tokens = backbone.tokens(CLASSES)
        assert torch.equal(backbone.embed_texts(tokens), before.embed_texts(tokens))


@pytest.fixture
def project(tmp_path, corpus, new_backbone, new_recipe):
    """Makes a folder in which src/finetune.py trains on these spans by the recipe `small`; gives its options."""

    def make(actions):
        new_backbone().save(tmp_path / "backbone", {"system": SYSTEM})
        save_records(tmp_path / "raw", Action, actions)
        (tmp_path / "frames").symlink_to(corpus.frames_folder)
        yaml = ruamel.yaml.YAML()
        params = yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
        recipe = new_recipe(captions="class_names", freeze_texts=True, epochs=2, micro_batch_size=4)
        params["recipes"] |= {"small": recipe.model_dump(exclude={"seed"})}
        params["embed"]["class_template"] = "a thing that {}"
        with (tmp_path / "params.yaml").open("w", encoding="utf-8") as out:
            yaml.dump(params, out)
        options = {name: Path(name) for name in ("backbone", "raw", "frames", "output", "plot")}
        return {"recipe": "small", "seed": recipe.seed} | options

    return make


def test_the_stage_trains_on_the_spans_of_the_train_split_with_their_classes_in_the_template(
    project, tmp_path, corpus, new_recipe, run_script
):
    spans = [Action(pair.video_id, pair.text, pair.start, pair.end) for pair in [*TRAIN, *VALIDATION]]
    # A video that has no frames: its class is one of all the same.
    options = project([*spans, Action("lost", CLASSES[3], 0.0, 1.0)])
    done = run_script(
        "finetune",
        *(word for name, value in options.items() for word in (f"--{name}", str(value))),
        cwd=tmp_path,
        env=os.environ | {"STILLMOTION_MEMO": "off", "STILLMOTION_DEVICE": "cpu"},
    )
    assert done.returncode == 0, done.stderr
    assert "18 training pairs, 6 validation pairs" in done.stderr

    def in_template(pairs):
        return [Pair(pair.video_id, f"a thing that {pair.text}", pair.start, pair.end) for pair in pairs]

    recipe = new_recipe(captions="class_names", freeze_texts=True, epochs=2, micro_batch_size=4)
    texts = [f"a thing that {name}" for name in CLASSES]
    backbone = load_backbone(tmp_path / "backbone", torch.device("cpu"))
    task = Recognition(backbone, corpus.frames, in_template(TRAIN), in_template(VALIDATION), recipe, ALONE, texts)
    fitted = finetune(task, memo=Memo(None), key={})
    history = read_json(tmp_path / "plot")
    assert [row["loss"] for row in history] == pytest.approx([row["loss"] for row in fitted.history], abs=2e-6)
    assert [row["score"] for row in history] == pytest.approx([row["score"] for row in fitted.history], abs=1e-5)
    source = read_json(tmp_path / "output" / "source.json")
    assert source["selected_on"] == "validation"
    assert source["system"] == SYSTEM | {"model": "output", "recipe": "small", "seed": 0}
    assert source["backbone"] == {"system": SYSTEM}
    assert source["recipe"] == recipe.model_dump()


def test_another_seed_orders_the_training_anew_and_a_pretraining_is_told_as_such(project, tmp_path, monkeypatch):
    options = project([Action(pair.video_id, pair.text, pair.start, pair.end) for pair in [*TRAIN, *VALIDATION]])
    spec = importlib.util.spec_from_file_location("finetune", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STILLMOTION_MEMO", "off")
    monkeypatch.setenv("STILLMOTION_DEVICE", "cpu")
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    histories = []
    for seed in (0, 1):
        module.main(**options | {"seed": seed}, pretraining="narrated")
        histories.append(read_json(tmp_path / "plot"))
        pretraining = {"dataset": "narrated", "recipe": "small", "seed": seed}
        made = SYSTEM | {"model": "output", "pretraining": pretraining}
        assert read_json(tmp_path / "output" / "source.json")["system"] == made
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)
    assert histories[0] != histories[1]


@pytest.mark.parametrize(("spans", "count"), [([], 0), (TRAIN[::3] + VALIDATION, 1)])
def test_fewer_than_two_classes_to_train_on_are_refused_in_one_line(project, tmp_path, monkeypatch, spans, count):
    spec = importlib.util.spec_from_file_location("finetune", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    options = project([Action(pair.video_id, pair.text, pair.start, pair.end) for pair in spans])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        module.main(**options)
    assert str(caught.value) == (
        f"raw/actions.jsonl: {count} classes in the train split with captions: class_names; recognition needs two or "
        "more: add labelled spans, or set recipes.small.captions: paragraph"
    )
