import pytest

from stillmotion.errors import InputError
from stillmotion.experiments.products import records, spliced


def test_the_lists_of_an_entry_are_multiplied_and_its_values_are_the_key():
    entries = [{"from": ["clip", "stan"], "recipe": ["cosine", "mug"], "seed": [0, 1]}]
    found = records("finetuned", entries, "here")
    assert list(found) == [
        "clip-cosine-0",
        "clip-cosine-1",
        "clip-mug-0",
        "clip-mug-1",
        "stan-cosine-0",
        "stan-cosine-1",
        "stan-mug-0",
        "stan-mug-1",
    ]
    assert found["stan-mug-1"] == {"from": "stan", "recipe": "mug", "seed": 1}


def test_one_seed_that_is_no_list_is_left_out_of_the_key():
    assert records("finetuned", [{"from": "clip", "recipe": "mug", "seed": 3}], "here") == {
        "clip-mug": {"from": "clip", "recipe": "mug", "seed": 3}
    }
    assert list(records("finetuned", [{"from": "clip", "recipe": "mug", "seed": [3]}], "here")) == ["clip-mug-3"]


def test_each_section_has_keys_of_its_own():
    assert records("retrieval", [{"model": "clip", "scorer": ["mean", "own"]}], "here") == {
        "clip-mean": {"model": "clip", "scorer": "mean"},
        "clip-own": {"model": "clip", "scorer": "own"},
    }
    assert records("expanded", [{"from": "clip", "expansion": "stan"}], "here") == {
        "clip_stan": {"from": "clip", "expansion": "stan"}
    }
    entry = {"from": "clip", "dataset": "narrated", "recipe": "narrations", "seed": 0}
    assert records("post_pretrained", [entry], "here") == {"clip-narrated-narrations": entry}


def test_the_order_of_the_fields_in_the_file_decides_nothing():
    assert list(records("retrieval", [{"scorer": ["b", "a"], "model": ["y", "x"]}], "here")) == [
        "y-b",
        "y-a",
        "x-b",
        "x-a",
    ]


def test_records_by_key_are_as_they_are_and_none_are_none():
    record = {"from": "clip", "recipe": "mug", "seed": 0}
    assert records("finetuned", {"mine": record}, "here") == {"mine": record}
    assert records("finetuned", [], "here") == records("finetuned", {}, "here") == {}


def test_a_list_in_a_list_is_spliced_into_it():
    names = ["b", "c"]
    assert spliced({"run": ["a", names, [["d"]]]}) == {"run": ["a", "b", "c", "d"]}
    assert list(records("retrieval", [{"model": ["a", names], "scorer": "s"}], "here")) == ["a-s", "b-s", "c-s"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (3, "here: finetuned is 3; give records by key, or a list of products"),
        (["clip"], "here: entry 1 of finetuned is 'clip'; give it from, recipe, seed"),
        (
            [{"from": "clip", "recipes": "mug", "seed": 0}],
            "here: entry 1 of finetuned: unknown field recipes; did you mean 'recipe'?",
        ),
        ([{"from": "clip", "recipe": "mug"}], "here: entry 1 of finetuned: seed is missing; add it"),
        ([{"from": [], "recipe": "mug", "seed": 0}], "here: entry 1 of finetuned: from is missing; add it"),
        (
            [{"from": "clip", "recipe": "mug", "seed": 0}, {"from": "clip", "recipe": ["cosine", "mug"], "seed": 1}],
            "here: two records of finetuned are called 'clip-mug'; take one out",
        ),
        (
            [{"from": ["clip", "clip"], "recipe": "mug", "seed": 0}],
            "here: two records of finetuned are called 'clip-mug'; take one out",
        ),
    ],
)
def test_an_entry_at_fault_is_one_line_that_says_which(value, message):
    with pytest.raises(InputError) as caught:
        records("finetuned", value, "here")
    assert str(caught.value) == message
