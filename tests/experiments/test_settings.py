import copy
import shlex

import pytest
import ruamel.yaml
from dvc.utils.hydra import apply_overrides, get_hydra_sweeps

from stillmotion.errors import InputError
from stillmotion.experiments.settings import layer_of_options, overrides, resolve


def test_params_are_set_by_dotted_name_or_nested(make_experiment, params):
    before = copy.deepcopy(params)
    dotted = make_experiment({"embed.tokens": True, "recipes.mug.tau": 5.0, "threads": 1})
    nested = make_experiment({"embed": {"tokens": True}, "recipes": {"mug": {"tau": 5.0}}, "threads": 1})
    mixed = make_experiment({"embed": {"tokens": True}, "recipes.mug": {"tau": 5.0}, "threads": 1})
    found = resolve(dotted, params)
    assert found == resolve(nested, params) == resolve(mixed, params)
    assert found["embed"] == {"clip_counts": [1, 2], "tokens": True}
    assert found["recipes"]["mug"] == {"batch_size": 64, "tau": 5.0, "frozen": 0}
    assert found["threads"] == 1
    assert params == before


def test_what_is_set_last_stands(make_experiment, params):
    found = resolve(make_experiment({"threads": 1, "embed.tokens": True}, {"threads": 4}), params)
    assert (found["threads"], found["embed"]["tokens"]) == (4, True)


def test_a_section_of_records_is_replaced_and_another_mapping_merged(make_experiment, params):
    record = {"from": "clip", "recipe": "mug", "seed": 3}
    for settings in ({"finetuned": {"own": record}}, {"finetuned": {}}, {"finetuned": []}):
        found = resolve(make_experiment(settings), params)
        assert found["finetuned"] == ({"own": record} if settings["finetuned"] else {})
    made = resolve(make_experiment({"finetuned": [{"from": "clip", "recipe": "mug", "seed": 3}]}), params)
    assert made["finetuned"] == {"clip-mug": record}


def test_one_field_of_a_record_can_be_set(make_experiment, params):
    found = resolve(make_experiment({"finetuned.clip-mug.seed": 9}), params)
    assert found["finetuned"] == {"clip-mug": {"from": "clip", "recipe": "mug", "seed": 9}}


def test_a_block_can_be_added_to_a_section_of_blocks(make_experiment, params):
    block = {"family": "xclip", "checkpoint": "a/b"}
    found = resolve(make_experiment({"backbones": {"large": block}}), params)
    assert found["backbones"] == {**params["backbones"], "large": block}
    assert resolve(make_experiment({"backbones.large": block}), params) == found


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"thread": 1}, "params.yaml has no thread; did you mean 'threads'?"),
        ({"embed.token": True}, "params.yaml has no embed.token; did you mean 'tokens'?"),
        ({"embed": {"token": True}}, "params.yaml has no embed.token; did you mean 'tokens'?"),
        ({"embed": {"token": {"a": 1}}}, "params.yaml has no embed.token; did you mean 'tokens'?"),
        ({"recipe.mug.tau": 1.0}, "params.yaml has no recipe; did you mean 'recipes'?"),
        ({"recipes.mugs.tau": 1.0}, "params.yaml has no recipes.mugs; did you mean 'mug'?"),
        ({"recipes.other": 1.0}, "params.yaml has no recipes.other; known: mug"),
        ({"embed": {"a.b": 1.0}}, "params.yaml has no embed.a; known: clip_counts, tokens"),
        ({"dataset.name": "a"}, "dataset of params.yaml is a value, no section; name a param"),
        ({"retrieval": [{"model": "clip"}]}, "entry 1 of retrieval: scorer is missing; add it"),
    ],
)
def test_what_params_yaml_lacks_is_one_line_that_names_the_file(make_experiment, params, settings, message):
    with pytest.raises(InputError) as caught:
        resolve(make_experiment(settings), params)
    assert str(caught.value) == f"experiments/e.yaml: set: {message}"


def test_options_are_keys_with_values_in_yaml(make_experiment):
    layer = layer_of_options(["threads=1", "a.rate=1e-5", "b=[x, y]", "c={d: 1}", "e=f=g", "h="], {})
    assert layer.settings == {"threads": 1, "a.rate": 1e-5, "b": ["x", "y"], "c": {"d": 1}, "e": "f=g", "h": None}


def test_an_option_of_the_experiment_sets_its_params_to_the_words_between_colons():
    short = {"model": ["backbones.c.architecture", "backbones.c.pretrained"], "checkpoint": ["backbones.x.checkpoint"]}
    layer = layer_of_options(["model=ViT-B-16:1e5", "checkpoint=a/b:c", "threads=1"], short)
    assert layer.settings == {
        "backbones.c.architecture": "ViT-B-16",
        "backbones.c.pretrained": "1e5",
        "backbones.x.checkpoint": "a/b:c",
        "threads": 1,
    }


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("threads", "--set 'threads': write it as key=value, such as threads=1"),
        ("=1", "--set '=1': write it as key=value, such as threads=1"),
        (
            "a=[1",
            "--set 'a=[1': not YAML (while parsing a flow sequence expected ',' or ']', but got '<stream end>'); "
            "mend it, or as a text: --set 'a=\"[1\"'",
        ),
        (
            "a=2024-01-01",
            "--set 'a=2024-01-01': a value can't be read (2024-01-01 is a date to YAML; quote it); "
            "mend it, or as a text: --set 'a=\"2024-01-01\"'",
        ),
        (
            "a=!b it's",
            "--set \"a=!b it's\": not YAML (could not determine a constructor for the tag '!b'); "
            """mend it, or as a text: --set 'a="!b it'"'"'s"'""",
        ),
        ("model=ViT-B-16", "--set 'model=ViT-B-16': write it as model=ARCHITECTURE:PRETRAINED"),
        ("model=:openai", "--set 'model=:openai': write it as model=ARCHITECTURE:PRETRAINED"),
    ],
)
def test_an_option_at_fault_is_one_line(option, message):
    with pytest.raises(InputError) as caught:
        layer_of_options([option], {"model": ["backbones.clip.architecture", "backbones.clip.pretrained"]})
    assert str(caught.value) == message
    if "as a text: --set " in message:
        (quoted,) = shlex.split(message.rpartition("--set ")[2])
        assert layer_of_options([quoted], {}).settings == {"a": option.partition("=")[2]}


def written(path, before, sets, *, queued):
    """What dvc makes of params with these overrides."""
    yaml = ruamel.yaml.YAML()
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(before, file)
    if queued:
        (sweep,) = get_hydra_sweeps({"params.yaml": list(sets)})
        sets = sweep["params.yaml"]
    apply_overrides(path, sets)
    return ruamel.yaml.YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))


CHANGES = {
    "values": {
        "whole": 64,
        "small": 1e-05,
        "one": 1.0,
        "off": False,
        "names": ["small_clip-half_patches", "a b"],
        "none": [],
        "numbers": [0, 1],
        "word": "adamw",
        "truth": "true",
        "digits": "16",
        "slot": "it's {} of a, b",
        "template": r"{{ '\'' }} and '\\' \n\\",
    },
    "a block that is added": {"backbones": {"clip": {"steps": 1}, "x-clip_2": {"checkpoint": "a/b-c", "off": False}}},
    "records that go": {"finetuned": {"b-mug-0": {"from": "b", "recipe": "mug", "seed": 0}}},
    "records that come": {"finetuned": {"a-mug": {"from": "a", "seed": 0}, "b-mug": {"from": "b", "seed": 0}}},
    "records that go and come": {"finetuned": {"a-mug": {"from": "a", "seed": 7}, "c": {"from": "b", "seed": 0}}},
    "all records": {"finetuned": {}},
    "records with a dot in the key": {"finetuned": {"a-mug": {"from": "a", "seed": 0}, "b.1-mug": {"from": "b.1"}}},
}


@pytest.mark.parametrize("queued", [False, True])
@pytest.mark.parametrize("change", CHANGES)
def test_dvc_makes_of_the_overrides_the_params_that_are_meant(tmp_path, change, queued):
    before = {
        **dict.fromkeys(CHANGES["values"], 1),
        "backbones": {"clip": {"steps": 10}},
        "finetuned": {"a-mug": {"from": "a", "seed": 0}},
        "last": {"kept": [1, {"a": 2.0}]},
    }
    after = {**before, **CHANGES[change]}
    found = written(tmp_path / "params.yaml", before, overrides(before, after), queued=queued)
    assert found == after
    assert repr(sorted(found.items())) == repr(sorted(after.items()))


def test_what_is_as_it_was_is_not_set():
    before = {"a": 1, "b": {"c": [1], "d": {}}, "e": {"x": {"y": 1}}}
    assert overrides(before, copy.deepcopy(before)) == []
    # Equal, and of another type.
    assert overrides(before, {**before, "a": 1.0}) == ["a=1.0"]
    assert overrides(before, {**before, "e": {"z": {"y": 1}}}) == ["~e", "+e={z:{y:1}}"]
