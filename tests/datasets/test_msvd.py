import json

import pytest

from stillmotion.datasets.msvd import read_msvd
from stillmotion.errors import InputError

CAPTIONS = {"a_1_5": ["a dog runs", "a dog  runs", "a dog runs"], "b_0_9": ["x"], "c_2_4": ["y", " "], "d": ["z"]}
LISTS = {"train_list.txt": "a_1_5\n", "val_list.txt": "b_0_9\r\n\n", "test_list.txt": "c_2_4"}


@pytest.fixture
def folder(tmp_path, benchmark_params):
    """Make a folder with the four files and one empty video, and read it."""

    def make(captions=CAPTIONS, **lists: str):
        (tmp_path / "videos").mkdir()
        (tmp_path / "videos" / "a_1_5.avi").touch()
        (tmp_path / "captions_msvd.json").write_text(json.dumps(captions))
        for name, text in (LISTS | {f"{split}_list.txt": text for split, text in lists.items()}).items():
            (tmp_path / name).write_bytes(text.encode("latin-1"))
        return read_msvd(tmp_path, benchmark_params())

    return make


def test_each_list_is_a_split_and_every_caption_of_its_videos_counts(folder, annotate):
    videos, annotations = annotate(folder(), a_1_5=4.0)
    assert {video.video_id: (video.split, video.status) for video in videos.values()} == {
        "a_1_5": ("train", "ok"), "b_0_9": ("validation", "missing"), "c_2_4": ("test", "missing")
    }  # fmt: skip
    assert [(caption.caption_id, caption.text) for caption in annotations.captions] == [
        *((f"a_1_5#00{number}", "a dog runs") for number in range(3)), ("b_0_9#000", "x"), ("c_2_4#000", "y")
    ]  # fmt: skip
    assert (annotations.moments, annotations.actions) == ([], [])
    assert annotations.notes == [
        "1 captions hold spaces at an end or several in a row: one between words",
        "1 captions have no text: left out",
    ]


@pytest.mark.parametrize(
    ("captions", "lists", "message"),
    [
        ([1], {}, "captions_msvd.json: no lists of captions by the ids of videos; get the file again"),
        ({"a_1_5": "text"}, {}, "captions_msvd.json: no lists of captions by the ids"),
        ({"a_1_5": [1]}, {}, "captions_msvd.json: no lists of captions by the ids"),
        (
            CAPTIONS,
            {"val": "nobody\n"},
            "val_list.txt row 1: video 'nobody' is not in captions_msvd.json; mend it",
        ),
        (CAPTIONS, {"test": "\na_1_5"}, "test_list.txt row 2: video 'a_1_5' is in the train split too; remove one"),
        (CAPTIONS, {"test": "caf\xe9"}, "test_list.txt: not text in UTF-8"),
    ],
)
def test_a_fault_is_one_line_with_the_file_the_row_and_the_mend(folder, captions, lists, message):
    with pytest.raises(InputError) as caught:
        folder(captions, **lists)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_list_that_is_missing_is_named_with_where_it_comes_from(tmp_path, benchmark_params):
    (tmp_path / "captions_msvd.json").write_text("{}")
    with pytest.raises(InputError, match="train_list.txt: no such file, and MSVD needs it; it comes from github"):
        read_msvd(tmp_path, benchmark_params())


@pytest.mark.real
def test_the_public_files_have_their_counts(real_material, tmp_path, benchmark_params, annotate):
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "-4wsuPCjDBc_5_15.avi").touch()
    for file in (real_material / "msvd").iterdir():
        (tmp_path / file.name).symlink_to(file)
    videos, annotations = annotate(read_msvd(tmp_path, benchmark_params()))
    counts = dict.fromkeys(("train", "validation", "test"), 0)
    for caption in annotations.captions:
        counts[videos[caption.video_id].split] += 1
    assert counts == {"train": 48_774, "validation": 4_290, "test": 27_763}
    assert len(videos) == 1970
    repeated = len(annotations.captions) - len({(caption.video_id, caption.text) for caption in annotations.captions})
    assert repeated == 10_845
    assert annotations.notes == []
