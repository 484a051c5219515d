import pytest

from stillmotion.errors import InputError
from stillmotion.experiments.definition import chosen, experiment_names, load_experiment, read_mapping

STUDY = """\
about: Batches
set:
  threads: 1
vary:
  key: recipes.mug.batch_size
  values: [16, 32]
  others:
    none:
      recipes.mug.frozen: 1
seeds: [0, 1]
collect:
  title: Batches
  system: clip-mean
  num_clips: 1
  recall_at: 1
  validation: finetune
  cost: false
"""


def test_an_experiment_has_what_its_bases_have_but_for_its_own(write):
    folder = write(
        first=STUDY,
        second="about: Second\nbase: first\nset: {threads: 4}\nvary: {key: threads, values: [8]}\n",
        third="about: Third\nbase: second\nseeds: [7]\ncollect: {title: Third, cost: true}\n",
    )
    found = load_experiment("third", folder)
    assert (found.name, found.about) == ("third", "Third")
    assert [(layer.where, layer.settings) for layer in found.layers] == [
        (f"{folder}/first.yaml: set", {"threads": 1}),
        (f"{folder}/second.yaml: set", {"threads": 4}),
        (f"{folder}/third.yaml: set", {}),
    ]
    assert found.points == [(8, {"threads": 8})]
    assert found.seeds == (7,)
    assert (found.collect.title, found.collect.system, found.collect.cost) == ("Third", "clip-mean", True)


def test_a_study_has_its_values_and_then_its_named_points(write):
    assert load_experiment("a", write(a=STUDY)).points == [
        (16, {"recipes.mug.batch_size": 16}),
        (32, {"recipes.mug.batch_size": 32}),
        ("none", {"recipes.mug.frozen": 1}),
    ]


def test_what_varies_nothing_has_one_point(write):
    found = load_experiment("a", write(a="about: Nothing\n"))
    assert (found.points, found.seeds, found.collect) == ([(None, {})], (), None)


def test_the_experiments_are_the_files_of_the_folder(write, tmp_path):
    folder = write(b="about: B\n", a="about: A\n")
    (folder / "README.md").write_text("")
    assert experiment_names(folder) == ["a", "b"]
    with pytest.raises(InputError, match="no such folder; run this from the root of the repository"):
        experiment_names(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("retreival", "{folder} has no 'retreival'; did you mean 'retrieval'?"),
        ("x", "{folder} has no 'x'; known: full, lost, retrieval"),
        ("lost", "{folder}/lost.yaml: base: {folder} has no 'ful'; did you mean 'full'?"),
    ],
)
def test_an_unknown_experiment_or_base_is_told_the_near_one_or_all(write, name, message):
    folder = write(retrieval="about: R\n", full="about: F\n", lost="about: L\nbase: ful\n")
    with pytest.raises(InputError) as caught:
        load_experiment(name, folder)
    assert str(caught.value) == message.format(folder=folder)


def test_bases_in_a_circle_are_one_line_that_shows_it(write):
    folder = write(a="about: A\nbase: b\n", b="about: B\nbase: c\n", c="about: C\nbase: b\n", d="about: D\nbase: d\n")
    with pytest.raises(InputError, match=r"c\.yaml: base goes in a circle, b → c → b; take one of them out$"):
        load_experiment("a", folder)
    with pytest.raises(InputError, match=r"d\.yaml: base goes in a circle, d → d; "):
        load_experiment("d", folder)


FAULTS = {
    "a misspelt field": ("about: A\nsets: {}\n", "unknown field sets; did you mean 'set'?"),
    "no about": ("set: {}\n", "about is missing; add it"),
    "an about of two lines": ('about: "a\\nb"\n', "about: give one line, with the measured time"),
    "a list for set": ("about: A\nset: [1]\n", "set is [1]: Input should be a valid dictionary"),
    "a vary without values": ("about: A\nvary: {key: threads}\n", "vary.values is missing; add it"),
    "a vary of no value": ("about: A\nvary: {key: threads, values: []}\n", "vary: values is empty; name a value"),
    "a vary without a key": ("about: A\nvary: {values: [1]}\n", "vary.key is missing; add it"),
    "a misspelt field of vary": (
        "about: A\nvary: {key: threads, value: [1]}\n",
        "unknown field vary.value; did you mean 'values'?",
    ),
    "a value twice": (
        "about: A\nvary: {key: threads, values: [64, 64.0]}\n",
        "vary: one of values and others stands there twice; name each once",
    ),
    "a value and a point of one name": (
        "about: A\nvary: {key: threads, values: [64], others: {'64': {}}}\n",
        "vary: one of values and others stands there twice; name each once",
    ),
    "a seed twice": ("about: A\nseeds: [1, 1]\n", "seeds: a seed stands there twice; name each once"),
    "no seed": ("about: A\nseeds: []\n", "seeds is []: List should have at least 1 item"),
    "a collect that lacks a field": ("about: A\ncollect: {title: T}\n", "collect: system is missing; add it"),
    "a collect of another stage": (
        STUDY.replace("validation: finetune", "validation: embed"),
        "collect: validation is 'embed': Input should be 'finetune' or 'train_aggregator'",
    ),
    "a misspelt field of collect": (
        STUDY.replace("num_clips", "num_clip"),
        "collect: unknown field num_clip; did you mean 'num_clips'?",
    ),
    "no YAML": ("a: [1\n", "not YAML ("),
    "no UTF-8": (b"a: \xff\n", "not UTF-8 ("),
    "nothing": ("", "holds no `name: value` lines; write some"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_file_at_fault_is_one_line_that_names_the_field(write, fault):
    content, expected = FAULTS[fault]
    folder = write(batch=content)
    with pytest.raises(InputError) as caught:
        load_experiment("batch", folder)
    message = str(caught.value)
    assert message.startswith(f"{folder}/batch.yaml: {expected}")
    assert "\n" not in message


def test_a_params_file_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(InputError, match=r"params\.yaml: no such file; run this from the root of the repository"):
        read_mapping(tmp_path / "params.yaml")


def test_the_command_line_chooses_values_points_and_seeds(make_study):
    study = make_study(vary={"others": {"none": {"recipes.mug.frozen": 1}}})
    found = chosen(study, "16,none,1e-4", "7")
    assert found.points == [
        (16, {"recipes.mug.batch_size": 16}),
        (1e-4, {"recipes.mug.batch_size": 1e-4}),
        ("none", {"recipes.mug.frozen": 1}),
    ]
    assert found.seeds == (7,)
    assert chosen(study, None, None) == study


@pytest.mark.parametrize(
    ("values", "seeds", "message"),
    [
        ("1,,2", None, "--values '1,,2': write values separated by commas, such as 16,32"),
        ("[1]", None, "--values '[1]': write values separated by commas, such as 16,32"),
        ("{", None, "--values '{': write values separated by commas, such as 16,32"),
        ("a b", None, "--values: values.0"),
        ("8,8", None, "--values: one of values and others stands there twice; name each once"),
        (None, "-1", "--seeds: seeds.0 is -1: Input should be greater than or equal to 0"),
        (None, "x", "--seeds: seeds.0 is 'x': Input should be a valid integer"),
        (None, "1,1", "--seeds: seeds: a seed stands there twice; name each once"),
    ],
)
def test_a_command_line_at_fault_is_one_line(make_study, values, seeds, message):
    with pytest.raises(InputError) as caught:
        chosen(make_study(), values, seeds)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_values_for_what_varies_nothing_are_refused(make_experiment):
    with pytest.raises(InputError, match=r"^--values: experiments/e\.yaml varies nothing; leave it out, or use --set$"):
        chosen(make_experiment(), "1,2", None)
