from collections import Counter

import pytest

from stillmotion.datasets.hmdb51 import read_hmdb51

LISTS = "testTrainMulti_7030_splits"
FILES = {
    f"{LISTS}/brush_hair_test_split1.txt": "(Rad)Haar!_brush_hair_0.avi 1 \nB_brush_hair_1.avi 2 \nC_2.avi 0 \n",
    f"{LISTS}/sit_test_split1.txt": "B_brush_hair_1.avi 1 \n",
    f"{LISTS}/brush_hair_test_split2.txt": "C_2.avi 2 \n",
}


def test_the_lists_of_the_classes_give_splits_and_leave_clips_out(make_source, benchmark_params, annotate):
    root = make_source(FILES, ["hmdb/brush_hair/B_brush_hair_1.avi", "hmdb/sit/B_brush_hair_1.avi"])
    source = read_hmdb51(root, benchmark_params(validation_fraction=0.0))
    videos, annotations = annotate(source, **{"brush_hair/B_brush_hair_1": 2.0})
    assert {video.video_id: video.split for video in videos.values()} == {
        "brush_hair/(Rad)Haar!_brush_hair_0": "train",
        "brush_hair/B_brush_hair_1": "test",
        "sit/B_brush_hair_1": "train",
    }
    assert [action.label for action in annotations.actions] == ["brush hair", "brush hair", "sit"]
    # Files of one name are told apart by the folders of their classes.
    assert source.found.files["sit/B_brush_hair_1"] == root / "videos/hmdb/sit/B_brush_hair_1.avi"


def test_without_the_lists_of_split_1_those_of_2_are_read(make_source, benchmark_params):
    second = {name: text for name, text in FILES.items() if "split2" in name}
    source = read_hmdb51(make_source(second, ["brush_hair/C_2.avi"]), benchmark_params())
    assert {name: entry.split for name, entry in source.entries.items()} == {"brush_hair/C_2": "test"}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({f"{LISTS}/sit_test_split1.txt": "a.avi 3\n"}, "row 1: 'a.avi 3' is not the name of a file and 0, 1 or 2"),
        ({f"{LISTS}/sit_test_split1.txt": "\na.avi"}, "sit_test_split1.txt row 2: 'a.avi' is not the name of a file"),
        ({f"{LISTS}/readme.txt": ""}, f"{LISTS}: no <class>_test_split1.txt; unpack test_train_splits.rar there"),
    ],
)
def test_a_fault_is_one_line_with_the_file_the_row_and_the_mend(fault_of, benchmark_params, files, message):
    assert message in fault_of(read_hmdb51, files, benchmark_params())


@pytest.mark.real
def test_lists_of_the_public_classes_have_labels_in_words(real_material, make_source, benchmark_params, annotate):
    names = (real_material / "recognition" / "hmdb51_label_map.txt").read_text().split()
    assert len(names) == 51
    # In the documented form: 70 clips of each class are 1, 30 are 2, and none of these is 0.
    lists = {
        f"{LISTS}/{name}_test_split1.txt": "".join(f"x_{name}_{clip}.avi {1 + (clip >= 70)} \n" for clip in range(100))
        for name in names
    }
    source = read_hmdb51(make_source(lists, ["wave/x_wave_0.avi"]), benchmark_params(validation_fraction=0.0))
    assert Counter(entry.split for entry in source.entries.values()) == {"train": 3570, "test": 1530}
    labels = {action.label for action in annotate(source)[1].actions}
    assert len(labels) == 51
    assert {"climb stairs", "draw sword", "shoot bow", "wave"} <= labels
