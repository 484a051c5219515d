from pathlib import Path

import pytest
import ruamel.yaml

from stillmotion.config.loading import load_params
from stillmotion.errors import InputError
from stillmotion.experiments.definition import chosen, find_ablation, load_ablations
from stillmotion.experiments.plan import planned_experiments

REPOSITORY = Path(__file__).resolve().parents[2]
EXPECTED_BY_THE_REPORT = {
    "batch_size",
    "aggregator_batch_size",
    "learning_rate_adamw",
    "learning_rate_sgd",
    "frozen_blocks",
    "patch_keep_rate",
}
OF_MUG = {"told_cosine", "told_mug", "told_stan_cosine", "told_stan_mug"}


@pytest.fixture
def message_of(tmp_path):
    """The one line that a file with this content is refused with, after its name."""

    def of(content):
        path = tmp_path / "ablations.yaml"
        if isinstance(content, dict):
            with path.open("w", encoding="utf-8") as file:
                ruamel.yaml.YAML(typ="safe", pure=True).dump(content, file)
        else:
            path.write_bytes(content)
        with pytest.raises(InputError) as caught:
            load_ablations(path)
        message = str(caught.value)
        assert "\n" not in message
        assert message.startswith(f"{path}: ")
        return message.removeprefix(f"{path}: ")

    return of


def test_the_ablations_of_the_repository_are_those_of_the_thesis_and_of_mug_and_params_yaml_takes_them():
    ablations = load_ablations(REPOSITORY / "ablations.yaml")
    params = load_params(REPOSITORY / "params.yaml")
    assert set(ablations) == EXPECTED_BY_THE_REPORT | OF_MUG
    assert ablations["patch_keep_rate"].values == [0.05, 0.25, 0.5, 0.75, 1.0]
    assert [value for value, _ in ablations["frozen_blocks"].points] == [0, 1, 2, "nothing"]
    for name, ablation in ablations.items():
        assert planned_experiments(name, ablation, params)


def test_files_come_from_the_model_and_the_stage(make_ablation):
    tuned = make_ablation(cost=True)
    assert tuned.targets == [
        "evaluate_retrieval@small_clip-half_patches-mean",
        "measure_resources_finetuning@small_clip-half_patches",
    ]
    assert tuned.validation_file == "plots/finetune/small_clip-half_patches.json"
    assert tuned.ranks_file == "data/predictions/retrieval/small_clip-half_patches-mean/ranks.jsonl"
    assert tuned.cost_file == "metrics/resources/small_clip-half_patches.json"
    aggregated = make_ablation(of_aggregator=True)
    assert aggregated.targets == ["evaluate_retrieval@small_clip-half_patches-transformer_mean"]
    assert aggregated.validation_file == "plots/train_aggregator/small_clip-half_patches-transformer_mean.json"


def test_an_alignment_is_ranked_by_its_own_stage(make_ablation):
    aligned = make_ablation(evaluation="evaluate_alignment", aggregator="mug")
    assert aligned.targets == ["evaluate_alignment@small_clip-half_patches-mug"]
    assert aligned.ranks_file == "data/predictions/retrieval/small_clip-half_patches-mug/ranks.jsonl"


def test_fine_tuning_has_an_experiment_for_each_seed_and_the_aggregator_one_for_all(make_ablation):
    assert make_ablation().seeds_of_experiments == [(0,), (1,)]
    assert make_ablation(of_aggregator=True).seeds_of_experiments == [(0, 1)]


FAULTS = {
    "a misspelt field": (
        lambda plain: {**{name: plain[name] for name in plain if name != "num_clips"}, "num_clip": 1},
        "unknown batch.num_clip; did you mean 'num_clips'?",
    ),
    "a missing field": (
        lambda plain: {name: plain[name] for name in plain if name != "seeds"},
        "batch.seeds is missing; add it",
    ),
    "no point": (lambda plain: {**plain, "values": []}, "batch: values and others are both empty; name a value"),
    "a value twice": (
        lambda plain: {**plain, "values": [64, 64.0]},
        "batch: one of values and others stands there twice; name each once",
    ),
    "a value and a point of one name": (
        lambda plain: {**plain, "values": [64], "others": {"64": {}}},
        "batch: one of values and others stands there twice; name each once",
    ),
    "a seed twice": (lambda plain: {**plain, "seeds": [1, 1]}, "batch: one of seeds stands there twice"),
    "no seed": (lambda plain: {**plain, "seeds": []}, "batch.seeds is []: List should have at least 1 item"),
    "a stage that has no history": (
        lambda plain: {**plain, "validation": "embed"},
        "batch.validation is 'embed': Input should be 'finetune' or 'train_aggregator'",
    ),
    "a list for a definition": (lambda plain: [plain], "batch is [{"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_definition_at_fault_is_one_line_that_names_the_field(message_of, plain, fault):
    change, expected = FAULTS[fault]
    assert message_of({"batch": change(plain)}).startswith(expected)


def test_a_file_that_is_no_yaml_or_not_there_is_one_line(message_of, tmp_path):
    assert message_of(b"a: [1\n").startswith("not YAML (")
    assert message_of(b"a: \xff\n").startswith("not UTF-8 (")
    assert message_of(b"").startswith("the file is None: ")
    with pytest.raises(InputError, match="no such file; run this from the root of the repository"):
        load_ablations(tmp_path / "nowhere.yaml")


def test_an_unknown_name_is_told_the_near_one_or_all(make_ablation):
    ablations = {"batch_size": make_ablation(), "frozen_blocks": make_ablation()}
    with pytest.raises(InputError, match=r"has no 'batchsize'; did you mean batch_size\?"):
        find_ablation(ablations, "batchsize")
    with pytest.raises(InputError, match="has no 'x'; there are batch_size, frozen_blocks"):
        find_ablation(ablations, "x")


def test_the_command_line_chooses_values_points_and_seeds(make_ablation):
    ablation = make_ablation(others={"none": {"recipes.half_patches.patch_keep_rate": 1.0}})
    found = chosen(ablation, "16,none,1e-4", "7")
    assert found.points == [
        (16, {"recipes.half_patches.batch_size": 16}),
        (1e-4, {"recipes.half_patches.batch_size": 1e-4}),
        ("none", {"recipes.half_patches.patch_keep_rate": 1.0}),
    ]
    assert found.seeds == [7]
    assert chosen(ablation, None, None) == ablation


@pytest.mark.parametrize(
    ("values", "seeds", "message"),
    [
        ("1,,2", None, "--values '1,,2': write values separated by commas, such as 16,32"),
        ("[1]", None, "--values '[1]': write values separated by commas, such as 16,32"),
        ("{", None, "--values '{': write values separated by commas, such as 16,32"),
        ("a b", None, "--values or --seeds: values.0"),
        ("8,8", None, "--values or --seeds: one of values and others stands there twice; name each once"),
        (None, "-1", "--values or --seeds: seeds.0 is -1: Input should be greater than or equal to 0"),
        (None, "x", "--values or --seeds: seeds.0 is 'x': Input should be a valid integer"),
    ],
)
def test_a_command_line_at_fault_is_one_line(make_ablation, values, seeds, message):
    with pytest.raises(InputError) as caught:
        chosen(make_ablation(), values, seeds)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
