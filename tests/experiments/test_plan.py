import copy
from pathlib import Path

import pytest

from stillmotion.config.loading import load_params
from stillmotion.errors import InputError
from stillmotion.experiments.definition import Layer, read_mapping
from stillmotion.experiments.plan import check_params, planned_runs

PARAMS = Path(__file__).resolve().parents[2] / "params.yaml"
NO_OPTIONS = Layer("--set", {})


def test_an_experiment_that_varies_nothing_is_one_run_of_its_name(make_experiment, params, checked):
    ((run,), collection) = planned_runs(make_experiment({"threads": 1, "embed.tokens": True}), params, NO_OPTIONS)
    assert (run.name, run.value, run.seeds, run.dataset) == ("e", None, (), "toy")
    assert run.overrides == ("threads=1", "+run.experiment=e", "embed.tokens=true")
    assert collection is None
    ((found, where),) = checked
    assert (found["threads"], found["embed"]["tokens"], where) == (1, True, "experiments/e.yaml")


def test_each_value_has_a_run_for_each_seed_with_a_name_of_its_own(make_study, params, checked):
    runs, collection = planned_runs(make_study({"dataset": "mine"}), params, NO_OPTIONS)
    assert [(run.name, run.value, run.seeds) for run in runs] == [
        ("e-32-0", 32, (0,)),
        ("e-32-1", 32, (1,)),
        ("e-64-0", 64, (0,)),
        ("e-64-1", 64, (1,)),
    ]
    assert runs[1].overrides == (
        "dataset=mine",
        "+run.experiment=e",
        "finetuned.clip-mug.seed=1",
        "recipes.mug.batch_size=32",
    )
    assert {run.dataset for run in runs} == {"mine"}
    # The seeds of a value need no check of their own.
    assert [where for _, where in checked] == ["experiments/e.yaml at 32", "experiments/e.yaml at 64"]
    assert (collection.study, collection.key) == ("e", "recipes.mug.batch_size")
    assert (collection.model, collection.scorer) == ("clip-mug", "mean")


def test_a_seed_is_that_of_every_fine_tuned_model(make_experiment, params, checked):
    both = [{"from": "clip", "recipe": ["mug", "other"], "seed": 0}]
    runs, _ = planned_runs(make_experiment({"finetuned": both}, seeds=(3, 4)), params, NO_OPTIONS)
    assert [run.name for run in runs] == ["e-3", "e-4"]
    assert runs[1].overrides == (
        "+run.experiment=e",
        "finetuned.clip-mug.seed=4",
        "+finetuned.clip-other={from:clip,recipe:other,seed:4}",
    )


def test_seeds_of_the_aggregator_are_one_run(make_study, params, checked):
    runs, collection = planned_runs(make_study(of_aggregator=True), params, NO_OPTIONS)
    assert [(run.name, run.seeds) for run in runs] == [("e-32", (0, 5)), ("e-64", (0, 5))]
    assert collection.scorer == "transformer"


def test_a_named_point_sets_its_own_params_and_leaves_the_varied_one(make_study, params, checked):
    others = {"none": {"recipes.mug.frozen": 1}}
    ((run,), _) = planned_runs(make_study(vary={"values": [], "others": others}, seeds=(0,)), params, NO_OPTIONS)
    assert (run.name, run.value, run.overrides) == ("e-none-0", "none", ("recipes.mug.frozen=1",))


def test_options_stand_above_the_files_and_make_another_name(make_experiment, params, checked):
    experiment = make_experiment({"threads": 1})

    def planned(**settings):
        ((run,), _) = planned_runs(experiment, params, Layer("--set", settings))
        return run

    assert planned(threads=8).overrides == ("threads=8", "+run.experiment=e")
    names = [planned().name, planned(threads=8).name, planned(threads=4).name]
    assert len(set(names)) == 3
    assert all(name.startswith("e-") for name in names[1:])
    assert planned(threads=8, dataset="mine").name == planned(dataset="mine", threads=8).name


def test_an_option_with_a_number_for_a_key_is_one_line(make_experiment):
    option = Layer("--set", {"scorers.mine": {"kind": "mean", 16: "frames"}})
    with pytest.raises(InputError, match=r"^experiments/e\.yaml: params\.yaml: unknown param scorers\.mine\.16;"):
        planned_runs(make_experiment({}), read_mapping(PARAMS), option)


def test_planning_changes_no_params(make_study, params, checked):
    before = copy.deepcopy(params)
    planned_runs(make_study({"threads": 1}), params, NO_OPTIONS)
    assert params == before


def test_files_and_stages_are_those_of_the_model_and_the_system(make_study, params, checked):
    _, tuned = planned_runs(make_study(collect={"cost": True}), params, NO_OPTIONS)
    assert tuned.targets == ["evaluate_retrieval@clip-mug-mean", "measure_resources@clip-mug"]
    assert tuned.validation_file == "plots/finetune/clip-mug.json"
    assert tuned.ranks_file == "data/predictions/retrieval/clip-mug-mean/ranks.jsonl"
    assert tuned.cost_file == "metrics/resources/clip-mug.json"
    _, aggregated = planned_runs(make_study(of_aggregator=True), params, NO_OPTIONS)
    assert aggregated.targets == ["evaluate_retrieval@clip-mug-transformer"]
    assert aggregated.validation_file == "plots/train_aggregator/clip-mug-transformer.json"


FAULTS = {
    "an unknown param": (
        {"vary": {"key": "recipes.mug.batchsize"}},
        ": vary: params.yaml has no recipes.mug.batchsize; did you mean 'batch_size'?",
    ),
    "seeds that nothing takes": (
        {"settings": {"finetuned": {}}},
        ": seeds: no model is fine-tuned, so that nothing takes them; take them out",
    ),
    "seeds of a record that is none": (
        {"settings": {"finetuned": {"a": 5}}},
        ": finetuned: a record that is no section; give each from, recipe and seed",
    ),
    "a system that is not evaluated": (
        {"collect": {"system": "clip-own"}},
        ": collect.system: retrieval is clip-mean, clip-mug-mean, clip-mug-transformer, clip-mug-cosine; set it to "
        "have clip-own",
    ),
    "clips that are not embedded": (
        {"collect": {"num_clips": 4}},
        ": collect.num_clips: embed.clip_counts is 1, 2; set it to have 4",
    ),
    "an interaction of several clips": (
        {"collect": {"system": "clip-mug-cosine", "num_clips": 2}},
        ": collect.num_clips is 2 and cosine takes one clip; set 1",
    ),
    "a model that is not fine-tuned": (
        {"collect": {"system": "clip-mean"}},
        ": collect.validation: clip is not fine-tuned; there are clip-mug",
    ),
    "a cost that is not measured": (
        {"settings": {"run.embedded": ["clip"]}, "collect": {"cost": True}},
        ": collect.cost: clip-mug is not in run.embedded, whose steps are measured; set it, or cost: false",
    ),
    "the training of a mean": (
        {"collect": {"validation": "train_aggregator"}},
        ": collect.system: mean has nothing to train; name another one",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_the_pipeline_would_not_make_is_one_line_before_anything_runs(make_study, params, checked, fault):
    changes, message = FAULTS[fault]
    study = make_study(changes.get("settings", {}), vary=changes.get("vary"), collect=changes.get("collect"))
    with pytest.raises(InputError) as caught:
        planned_runs(study, params, NO_OPTIONS)
    assert str(caught.value) == f"experiments/e.yaml{message}"


def test_results_of_what_varies_nothing_are_not_collected(make_experiment, make_study, params, checked):
    study = make_experiment(collect=make_study().collect)
    with pytest.raises(
        InputError, match=r"^experiments/e\.yaml: collect needs vary: its table has a row for each value"
    ):
        planned_runs(study, params, NO_OPTIONS)


def test_params_are_checked_as_those_of_the_stages_are():
    params = read_mapping(PARAMS)
    check_params(params, "here")
    assert load_params(PARAMS).threads == params["threads"]
    with pytest.raises(InputError, match=r"^here: params\.yaml: unknown param thread; did you mean 'threads'\?$"):
        check_params({**params, "thread": 1}, "here")
    with pytest.raises(InputError, match=r"^here: params\.yaml: param threads is 0: Input should be greater than"):
        check_params({**params, "threads": 0}, "here")
