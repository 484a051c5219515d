from pathlib import Path

import pytest
import ruamel.yaml
from dvc.utils.hydra import apply_overrides

from stillmotion.config.loading import load_params
from stillmotion.errors import InputError
from stillmotion.experiments.plan import Experiment, planned_experiments

PARAMS = Path(__file__).resolve().parents[2] / "params.yaml"
RUN = {
    "run.recipes": ["half_patches"],
    "run.models": ["small_clip-half_patches"],
    "run.aggregators": ["mean", "transformer_mean"],
    "run.conditional": [],
    "embed.clip_counts": [1, 2],
}
"""So that variants that are added to params.yaml change nothing here."""


@pytest.fixture(scope="module")
def params():
    return load_params(PARAMS)


def test_each_value_has_an_experiment_for_each_seed_with_a_name_of_its_own(make_ablation, params):
    found = planned_experiments("batch_size", make_ablation(settings=RUN), params)
    assert [experiment.name for experiment in found] == [
        "ablate-batch_size-32-0",
        "ablate-batch_size-32-1",
        "ablate-batch_size-64-0",
        "ablate-batch_size-64-1",
    ]
    assert found[1].settings == {
        **RUN,
        "recipes.half_patches.batch_size": 32,
        "recipes.half_patches.seed": 1,
    }
    assert (found[1].value, found[1].seeds) == (32, (1,))


def test_seeds_of_the_aggregator_are_one_experiment(make_ablation, params):
    ablation = make_ablation(of_aggregator=True, settings=RUN, seeds=[0, 5])
    first, second = planned_experiments("a", ablation, params)
    assert (first.name, second.name) == ("ablate-a-32-0_5", "ablate-a-64-0_5")
    assert first.settings["train_aggregator.seeds"] == [0, 5]


def test_a_named_point_sets_its_own_params_and_leaves_the_varied_one(make_ablation, params):
    others = {"nothing": {"recipes.half_patches.freeze_embeddings": False}}
    ablation = make_ablation(settings=RUN, values=[], others=others, seeds=[0])
    (experiment,) = planned_experiments("f", ablation, params)
    assert experiment.name == "ablate-f-nothing-0"
    assert experiment.settings == {
        **RUN,
        "recipes.half_patches.freeze_embeddings": False,
        "recipes.half_patches.seed": 0,
    }


def test_dvc_sets_what_the_overrides_say(tmp_path):
    settings = {
        "a.whole": 64,
        "a.small": 1e-05,
        "a.one": 1.0,
        "a.off": False,
        "a.names": ["small_clip-half_patches", "a b"],
        "a.none": [],
        "a.numbers": [0, 1],
        "a.word": "adamw",
        "a.truth": "true",
        "a.digits": "16",
        "a.slot": "it's {} of a, b",
    }
    path = tmp_path / "params.yaml"
    path.write_text("a:\n" + "".join(f"  {name[2:]}: 0\n" for name in settings), encoding="utf-8")
    apply_overrides(path, Experiment("x", 1, (0,), settings).overrides)
    loaded = ruamel.yaml.YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))["a"]
    assert {f"a.{name}": value for name, value in loaded.items()} == settings
    assert [type(value) for value in loaded.values()] == [type(value) for value in settings.values()]


ALIGNED = {
    "evaluation": "evaluate_alignment",
    "aggregator": "mug",
    "settings": RUN
    | {"run.aligned": ["small_clip-half_patches"], "run.alignments": ["mug"], "run.models": [], "embed.tokens": True},
}


def test_a_model_can_be_ranked_by_an_alignment(make_ablation, params):
    assert len(planned_experiments("a", make_ablation(**ALIGNED), params)) == 4


FAULTS = {
    "an unknown param": (
        {"param": "recipes.half_patches.batchsize"},
        "b at 32: params.yaml: unknown param recipes.half_patches.batchsize; did you mean 'batch_size'?",
    ),
    "an unknown section": (
        {"param": "recipe.half_patches.batch_size"},
        "b at 32: recipe.half_patches.batch_size: params.yaml has no section 'recipe' there; known: dataset, threads,",
    ),
    "a value for a section": (
        {"param": "dataset.name"},
        "b at 32: dataset.name: dataset of params.yaml is a value, no section; name a param",
    ),
    "a value out of range": (
        {"values": [32, 0]},
        "b at 0: params.yaml: param recipes.half_patches.batch_size is 0: Input should be greater than or equal to 1",
    ),
    "a seed for a list": (
        {"seed_param": "train_aggregator.seeds"},
        "b at 32: params.yaml: param train_aggregator.seeds is 1: Input should be a valid list",
    ),
    "a model that is not evaluated": (
        {"model": "small_clip-all_patches"},
        "ablations.yaml: b.model: run.models is small_clip-half_patches; set it in settings to have "
        "small_clip-all_patches",
    ),
    "an aggregator that does not run": (
        {"aggregator": "class_token"},
        "ablations.yaml: b.aggregator: run.aggregators is mean, transformer_mean; set it in settings to have "
        "class_token",
    ),
    "clips that are not embedded": (
        {"num_clips": 4},
        "ablations.yaml: b.num_clips: embed.clip_counts is 1, 2; set it in settings to have 4",
    ),
    "a model that is not fine-tuned": (
        {"model": "small_clip", "settings": {**RUN, "run.models": ["small_clip"]}},
        "ablations.yaml: b.validation: small_clip is not fine-tuned; there are small_clip-half_patches",
    ),
    "a model that is not aligned": (
        ALIGNED | {"settings": RUN},
        "ablations.yaml: b.model: run.aligned is empty; set it in settings to have small_clip-half_patches",
    ),
    "an alignment that does not run": (
        ALIGNED | {"aggregator": "cosine"},
        "ablations.yaml: b.aggregator: run.alignments is mug; set it in settings to have cosine",
    ),
    "an alignment of several clips": (
        ALIGNED | {"num_clips": 2},
        "ablations.yaml: b.num_clips is 2 and evaluate_alignment takes one clip; set 1",
    ),
    "the training of a mean": (
        {"validation": "train_aggregator", "seed_param": "train_aggregator.seeds"},
        "ablations.yaml: b.aggregator: mean has nothing to train; name another one",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_the_pipeline_would_refuse_or_not_make_is_one_line_before_anything_runs(make_ablation, params, fault):
    changes, message = FAULTS[fault]
    with pytest.raises(InputError) as caught:
        planned_experiments("b", make_ablation(**{"settings": RUN, **changes}), params)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
