import re

import pytest

from stillmotion.datasets.something_something import read_something_something
from stillmotion.io.records import Action

PARTS = ("labels", "train", "validation")


def video(number: str, template: str, **others) -> dict:
    return {"id": number, "label": "holding a potato", "template": template, "placeholders": ["a potato"]} | others


HOLDING, ALREADY = "Holding [something]", "Putting [something similar to other things] on the table"


def files(labels=None, train=(), validation=()) -> dict:
    labels = {"Holding something": "0", "Putting something similar to other things on the table": "1"} | (labels or {})
    contents = (labels, list(train), list(validation))
    return {f"something-something-v2-{part}.json": content for part, content in zip(PARTS, contents, strict=True)}


def test_a_class_is_the_template_without_its_brackets(make_source, benchmark_params, annotate):
    root = make_source(files(train=[video("78687", HOLDING)], validation=[video("9", ALREADY)]), ["78687.webm"])
    source = read_something_something(root, benchmark_params(validation_fraction=0.0))
    videos, annotations = annotate(source, **{"78687": 4.0})
    assert {name: found.split for name, found in videos.items()} == {"78687": "train", "9": "test"}
    assert annotations.actions == [
        Action("78687", "Holding something", 0.0, 4.0),
        Action("9", "Putting something similar to other things on the table", 0.0, 0.0),
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": [video("1", "Holdin [something]")]}, "train.json row 1: class 'Holdin something' is not in someth"),
        ({"train": [video("1", "Holdin [something]")]}, "; did you mean 'Holding something'?; mend it"),
        ({"validation": [{"id": "1"}]}, "validation.json row 1: needs id and template; take the file that has the lab"),
        ({"validation": ["1"]}, "validation.json row 1: needs id and template"),
        ({"train": [video("1", HOLDING)], "validation": [video("1", HOLDING)]}, "video '1' is in the train split too"),
    ],
)
def test_a_fault_is_one_line_with_the_file_the_row_and_the_mend(fault_of, benchmark_params, changes, message):
    params = benchmark_params(validation_fraction=0.0)
    assert message in fault_of(read_something_something, files(**changes), params)


@pytest.mark.parametrize(
    ("part", "content", "message"),
    [("labels", [], "no numbers by the names of classes; get the file again"), ("train", {}, "no list of videos; get")],
)
def test_a_file_of_another_form_is_named(fault_of, benchmark_params, part, content, message):
    found = fault_of(
        read_something_something, files() | {f"something-something-v2-{part}.json": content}, benchmark_params()
    )
    assert f"something-something-v2-{part}.json: {message}" in found


@pytest.mark.real
def test_templates_of_the_public_classes_are_these_classes(real_material, make_source, benchmark_params, annotate):
    names = (real_material / "recognition" / "sthv2_label_map.txt").read_text().splitlines()
    templates = [re.sub("something", "[something]", name) for name in names]
    rows = [video(str(number), template) for number, template in enumerate(templates)]
    root = make_source(files(dict.fromkeys(names, "0"), validation=rows), ["3.webm"])
    _, annotations = annotate(read_something_something(root, benchmark_params()))
    assert [action.label for action in sorted(annotations.actions, key=lambda action: int(action.video_id))] == names
    assert len(names) == 174
