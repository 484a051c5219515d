from collections import Counter

import pytest

from stillmotion.datasets.ucf101 import read_ucf101

CLASSES = "1 ApplyEyeMakeup\r\n2 YoYo\r\n"
FILES = {
    "classInd.txt": CLASSES,
    "trainlist01.txt": "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1\r\nYoYo/v_YoYo_g01_c01.avi 2\r\n",
    "testlist01.txt": "YoYo/v_YoYo_g09_c03.avi\r\n",
}


def test_the_lists_give_splits_and_classes_in_words(make_source, benchmark_params, annotate):
    root = make_source(FILES, ["YoYo/v_YoYo_g09_c03.avi", "v_ApplyEyeMakeup_g08_c01.avi"])
    videos, annotations = annotate(read_ucf101(root, benchmark_params(validation_fraction=0.0)), v_YoYo_g09_c03=4.0)
    assert {video.video_id: video.split for video in videos.values()} == {
        "v_ApplyEyeMakeup_g08_c01": "train", "v_YoYo_g01_c01": "train", "v_YoYo_g09_c03": "test"
    }  # fmt: skip
    assert [action.label for action in annotations.actions] == ["Apply Eye Makeup", "Yo Yo", "Yo Yo"]
    assert annotations.actions[2].end == 4.0


def test_the_first_split_whose_lists_are_there_is_read(make_source, benchmark_params):
    second = {"trainlist02.txt": "YoYo/v_b.avi 2\n", "testlist02.txt": "YoYo/v_a.avi\n"}
    root = make_source({"classInd.txt": CLASSES} | second, ["v_a.avi"])
    assert list(read_ucf101(root, benchmark_params()).entries) == ["v_a", "v_b"]
    make_source(FILES, ["v_YoYo_g01_c01.avi"])
    assert "v_YoYo_g09_c03" in read_ucf101(root, benchmark_params()).entries


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"trainlist01.txt": "Yoyo/v_a.avi 2\n"}, "row 1: 'Yoyo/v_a.avi 2' is not <class>/<video> with a class of"),
        ({"trainlist01.txt": "YoYo/v_a.avi 1\n"}, "trainlist01.txt row 1: 'YoYo/v_a.avi 1' is not"),
        ({"testlist01.txt": "\n../../v_a.avi\n"}, "testlist01.txt row 2: '../../v_a.avi' is not <class>/<video>"),
        ({"testlist01.txt": "YoYo/v_YoYo_g01_c01.avi"}, "video 'v_YoYo_g01_c01' is in the train split too; remove one"),
        ({"classInd.txt": "ApplyEyeMakeup\n"}, "classInd.txt row 1: 'ApplyEyeMakeup' is not a number and a class"),
    ],
)
def test_a_fault_is_one_line_with_the_file_the_row_and_the_mend(fault_of, benchmark_params, files, message):
    assert message in fault_of(read_ucf101, FILES | files, benchmark_params(validation_fraction=0.0))


def test_a_list_without_its_other_part_is_named(fault_of, benchmark_params):
    files = {"classInd.txt": CLASSES, "testlist03.txt": FILES["testlist01.txt"]}
    assert "trainlist03.txt: no such file, and UCF101 needs it" in fault_of(read_ucf101, files, benchmark_params())


@pytest.mark.slow
@pytest.mark.real
def test_the_public_lists_have_their_counts(real_material, tmp_path, benchmark_params, annotate):
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "v_HandStandPushups_g01_c01.avi").touch()
    for name in FILES:
        (tmp_path / name).symlink_to(real_material / "recognition" / f"ucf101_{name}")
    source = read_ucf101(tmp_path, benchmark_params())
    splits = Counter(entry.split for entry in source.entries.values())
    assert splits["test"] == 3783
    assert splits["train"] + splits["validation"] == 9537
    _, annotations = annotate(source)
    labels = {action.label for action in annotations.actions}
    assert len(labels) == 101
    assert {"Apply Eye Makeup", "Handstand Pushups", "Tai Chi", "Yo Yo"} <= labels
    assert annotations.notes == []
