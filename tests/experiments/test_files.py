"""Each file of experiments/ fits params.yaml, so that none stops at its first stage."""

from pathlib import Path

import pytest
import ruamel.yaml
from dvc.utils.hydra import apply_overrides, get_hydra_sweeps

from stillmotion.errors import InputError
from stillmotion.experiments.definition import Layer, experiment_names, load_experiment, read_mapping, with_finetuning
from stillmotion.experiments.plan import check_params, planned_runs
from stillmotion.experiments.settings import layer_of_options, resolve, with_layers

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "experiments"
NAMES = experiment_names(FOLDER)


@pytest.fixture(scope="module")
def params():
    return read_mapping(ROOT / "params.yaml")


@pytest.fixture
def plan_of(params):
    """The runs of an experiment, checked, and what is collected."""

    def plan(name):
        return planned_runs(load_experiment(name, FOLDER), params, Layer("--set", {}))

    return plan


def test_there_is_an_experiment_for_each_task_each_ablation_and_each_published_table():
    assert {
        *("retrieval", "moments", "alignment", "guided", "pretraining", "heads", "recognition", "resources", "full"),
        *("batch_size", "aggregator_batch_size", "learning_rate_adamw", "learning_rate_sgd", "frozen_blocks"),
        *(
            "patch_keep_rate",
            "partial_captions_cosine",
            "partial_captions_mug",
            "partial_captions_stan_cosine",
            "partial_captions_stan_mug",
        ),
        *("thesis_8_frames", "thesis_16_frames", "thesis_32_frames", "video_llama_msrvtt", "mug_stan_msrvtt"),
        *(f"mug_stan_{name}" for name in ("didemo", "lsmdc", "hmdb51", "ucf101", "kinetics_400")),
        *("xclip_hmdb51", "xclip_ucf101", "xclip_kinetics_400_8_frames", "xclip_kinetics_400_16_frames"),
        *("vclipper_qvhighlights", "vclipper_qvhighlights_frames"),
        *("video_llm_builtin", "video_llm_heads", "video_llm_heads_after"),
        *("video_llama_heads", "video_llama_heads_after"),
    } <= set(NAMES)


@pytest.mark.parametrize("name", ["alignment", "guided", "heads", "pretraining"])
def test_claims_of_caption_coverage_have_an_image_model_to_tell_it(name, params):
    assert resolve(load_experiment(name, FOLDER), params)["run"]["embedded"][0] == "small_clip"


@pytest.mark.parametrize("name", NAMES)
def test_the_params_of_an_experiment_are_those_that_the_stages_take(name, params, plan_of):
    experiment = load_experiment(name, FOLDER)
    check_params(resolve(experiment, params), name)
    runs, collection = plan_of(name)
    assert len({run.name for run in runs}) == len(runs) == len(experiment.points) * max(1, len(experiment.seeds))
    assert (collection is None) == (experiment.collect is None)


@pytest.mark.parametrize("name", NAMES)
def test_dvc_makes_of_the_command_the_params_that_were_resolved(name, params, plan_of, tmp_path):
    experiment = load_experiment(name, FOLDER)
    run = plan_of(name)[0][0]
    path = tmp_path / "params.yaml"
    path.write_bytes((ROOT / "params.yaml").read_bytes())
    # As `--queue` has it: what a queue takes, `--temp` takes too.
    (sweep,) = get_hydra_sweeps({"params.yaml": list(run.overrides)})
    apply_overrides(path, sweep["params.yaml"])
    found = ruamel.yaml.YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    meant = resolve(experiment, params)
    meant["run"]["experiment"] = name
    if experiment.vary is None and not experiment.seeds:
        assert found == meant
    assert found["retrieval"] == meant["retrieval"]
    assert found["run"] == meant["run"]


def test_a_published_model_is_named_in_one_word_and_scored_as_it_is(params):
    experiment = load_experiment("clip", FOLDER)
    options = layer_of_options(["dataset=mine", "model=ViT-B-16:laion2b_s34b_b88k"], experiment.options)
    ((run,), _) = planned_runs(experiment, params, options)
    found = with_layers(resolve(experiment, params), [options])
    assert (found["dataset"], run.dataset) == ("mine", "mine")
    clip = found["backbones"]["clip"]
    assert (clip["architecture"], clip["pretrained"]) == ("ViT-B-16", "laion2b_s34b_b88k")
    assert found["finetuned"] == {}
    assert found["retrieval"] == {"clip-mean": {"model": "clip", "scorer": "mean"}}
    assert {name for name, value in found["run"].items() if value == ["clip"]} == {
        *("backbones", "embedded", "probed", "selected")
    }


@pytest.mark.parametrize("name", ["clip", "coca", "xclip"])
def test_what_is_fine_tuned_is_scored_beside_the_model_as_it_is(name, params):
    experiment = with_finetuning(load_experiment(name, FOLDER))
    ((run,), _) = planned_runs(experiment, params, Layer("--set", {}))
    assert run.name == f"{name}-finetune"
    found = resolve(experiment, params)
    (model,) = found["run"]["backbones"]
    (tuned,) = found["finetuned"]
    assert found["finetuned"][tuned]["from"] == model
    for key in ("embedded", "probed", "selected"):
        assert found["run"][key] == [model, tuned]
    assert [system["model"] for system in found["retrieval"].values()] == [model, tuned]


def test_an_experiment_that_fine_tunes_nothing_else_refuses_to():
    with pytest.raises(InputError) as caught:
        with_finetuning(load_experiment("moments", FOLDER))
    assert str(caught.value) == ("--finetune: experiments/moments.yaml does not say what that would be; leave it out")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        # From open_clip's model_configs: ViT-L-14-336 has image_size 336.
        (
            "model=ViT-L-14-336:openai",
            "ViT-L-14-336 takes frames of 336 px, and sample_frames.size_px is 224; "
            "add --set sample_frames.size_px=336",
        ),
        (
            "model=ViTL-14:openai",
            "backbones.clip.architecture 'ViTL-14' is none of open_clip's; did you mean 'ViT-L-14'?",
        ),
    ],
)
def test_a_model_that_cannot_run_is_told_before_anything_does(params, option, message):
    experiment = load_experiment("clip", FOLDER)
    with pytest.raises(InputError) as caught:
        planned_runs(experiment, params, layer_of_options([option], experiment.options))
    assert str(caught.value) == f"experiments/clip.yaml: {message}"


@pytest.mark.parametrize("name", NAMES)
def test_an_experiment_says_what_it_took(name):
    about = load_experiment(name, FOLDER).about
    assert "not timed" in about or " min " in about


def test_the_stages_that_studies_name_are_in_dvc_yaml(plan_of):
    stages = ruamel.yaml.YAML(typ="safe", pure=True).load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    for name in NAMES:
        collection = plan_of(name)[1]
        for target in collection.targets if collection else []:
            assert target.split("@")[0] in stages


def test_the_four_studies_of_partial_captions_differ_in_the_model_and_the_scorer_alone(params):
    def without_systems(name):
        resolved = resolve(load_experiment(name, FOLDER), params)
        run = {key: value for key, value in resolved["run"].items() if key != "embedded"}
        gone = ("expanded", "finetuned", "retrieval", "run")
        return {key: value for key, value in resolved.items() if key not in gone} | {"run": run}

    first, *others = (
        without_systems(f"partial_captions_{arm}") for arm in ("cosine", "mug", "stan_cosine", "stan_mug")
    )
    assert all(other == first for other in others)
