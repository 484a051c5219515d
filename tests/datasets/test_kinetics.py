import pytest

from stillmotion.datasets.kinetics import read_kinetics
from stillmotion.io.records import Action

HEADER = "label,youtube_id,time_start,time_end,split\n"
FILES = {
    "kinetics-400_train.csv": HEADER + "abseiling,-3B32lodo2M,59,69,train\n",
    "kinetics-400_val.csv": HEADER + '"passing American football (in game)",_dbcJuKJQNs,140.0,150,val\n',
}


def test_the_validation_list_is_tested_and_files_are_named_by_their_seconds(make_source, benchmark_params, annotate):
    root = make_source(FILES, ["val/passing/_dbcJuKJQNs_000140_000150.mp4", "-3B32lodo2M_000059_000069.mkv"])
    source = read_kinetics(root, benchmark_params(validation_fraction=0.0))
    videos, annotations = annotate(source, **{"-3B32lodo2M_000059_000069": 9.5})
    assert [(video.split, video.status) for video in videos.values()] == [("train", "ok"), ("test", "missing")]
    assert len(source.found.files) == 2
    assert annotations.actions == [
        Action("-3B32lodo2M_000059_000069", "abseiling", 0.0, 9.5),
        Action("_dbcJuKJQNs_000140_000150", "passing American football (in game)", 0.0, 10.0),
    ]


def test_a_clip_without_a_file_and_a_class_in_capitals_are_kept_as_stated(make_source, benchmark_params, annotate):
    root = make_source(FILES, ["-3B32lodo2M_000059_000069.mkv"])
    _, annotations = annotate(read_kinetics(root, benchmark_params()), **{"-3B32lodo2M_000059_000069": 13.0})
    assert annotations.notes == [
        "1 files are more than 2 s longer or shorter than the annotations state: -3B32lodo2M_000059_000069"
    ]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("kinetics-400_val.csv", "label,id\n", "kinetics-400_val.csv row 1: column 'youtube_id' is missing"),
        ("kinetics-400_train.csv", HEADER + "a,b,soon,9,train\n", "row 2: time_start and time_end must be seconds"),
        ("kinetics-400_train.csv", HEADER + "a,b,1e999,9,train\n", "row 2: time_start and time_end must be seconds"),
        ("kinetics-400_train.csv", HEADER + "a,b,9,9,train\n", "row 2: it must start at 0 or later and end after that"),
        ("kinetics-400_train.csv", HEADER + ",b,0,9,train\n", "row 2: no video or no class; fill it in"),
        ("kinetics-400_train.csv", HEADER + '"a,b,0,9\n', "kinetics-400_train.csv: not CSV in UTF-8"),
    ],
)
def test_a_fault_is_one_line_with_the_file_the_row_and_the_mend(fault_of, benchmark_params, name, text, message):
    assert message in fault_of(read_kinetics, FILES | {name: text}, benchmark_params())


@pytest.mark.real
def test_lists_of_the_public_classes_keep_their_names(real_material, make_source, benchmark_params, annotate):
    names = (real_material / "recognition" / "kinetics_label_map_k400.txt").read_text().splitlines()
    rows = "".join(f'"{name}",id{number},0,10,val\n' for number, name in enumerate(names))
    root = make_source(FILES | {"kinetics-400_val.csv": HEADER + rows}, ["id7_000000_000010.mp4"])
    _, annotations = annotate(read_kinetics(root, benchmark_params()))
    assert {action.label for action in annotations.actions} == set(names)
    assert len(set(names)) == 400
