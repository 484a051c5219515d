import unicodedata

import pytest

from stillmotion.datasets.video_files import find_videos, is_video, list_files
from stillmotion.errors import InputError


@pytest.fixture
def folder(tmp_path):
    """Make a folder of empty files."""

    def make(*names: str):
        for name in names:
            file = tmp_path / "videos" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
        return tmp_path / "videos"

    return make


def test_files_are_listed_by_path_and_hidden_ones_and_those_of_dvc_are_not(folder):
    listed = list_files(folder("b.mp4", "a/c.txt", ".DS_Store", ".cache/d.mp4", "b.mp4.dvc"))
    assert list(listed) == ["a/c.txt", "b.mp4"]
    assert listed["a/c.txt"].is_file()


@pytest.mark.parametrize(
    "name", ["a.MP4", "a.b/c.mxf", "a.rmvb", "a.m2t", "a.qt", "a.divx", "a.h264", "a.y4m", "a.ivf"]
)
def test_what_cameras_programs_and_encoders_call_a_video_is_one(name):
    assert is_video(name)


@pytest.mark.parametrize("name", ["a.mp4.part", "a.f137.mp4.ytdl", "a", ".mp4", "a.gif", "a.jpg", "a.mp4.html"])
def test_a_download_that_was_left_half_done_and_an_image_are_none_by_their_name(name):
    assert not is_video(name)


def test_linked_folders_are_followed_and_circles_end(folder, tmp_path):
    folder("a.mp4")
    (tmp_path / "disk" / "deep").mkdir(parents=True)
    (tmp_path / "disk" / "deep" / "b.mp4").touch()
    (tmp_path / "videos" / "more").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "back").symlink_to(tmp_path / "videos")
    assert list(list_files(tmp_path / "videos")) == ["a.mp4", "more/deep/b.mp4"]


def test_names_that_cannot_be_told_apart_or_read_are_an_error(folder):
    folder(*(unicodedata.normalize(form, "é.mp4") for form in ("NFC", "NFD")))
    with pytest.raises(InputError, match="is there twice, its accents spelt in two ways; rename one"):
        list_files(folder())


def test_a_video_is_known_by_its_name_in_any_layout_whatever_its_container(folder):
    root = folder("a_0.0_150.0.mp4", "train/b.WEBM", "train/deep/c.mkv")
    found = find_videos(root, ["a_0.0_150.0", "b", "c", "d"])
    assert found.files == {
        "a_0.0_150.0": root / "a_0.0_150.0.mp4", "b": root / "train/b.WEBM", "c": root / "train/deep/c.mkv"
    }  # fmt: skip
    assert found.notes == []


def test_the_prefix_of_an_id_may_be_left_out_and_may_be_part_of_the_id_itself(folder):
    # An id of YouTube may itself begin like the prefix.
    root = folder("v_aaa.mp4", "bbb.mp4", "v_ccc.mp4")
    found = find_videos(root, ["v_aaa", "v_bbb", "v_v_ccc"], prefix="v_")
    assert {video_id: file.name for video_id, file in found.files.items()} == {
        "v_aaa": "v_aaa.mp4", "v_bbb": "bbb.mp4", "v_v_ccc": "v_ccc.mp4"
    }  # fmt: skip


def test_what_the_annotations_do_not_name_is_left_out_and_noted(folder):
    root = folder("a.mp4", "a.json", "x.mp4", *(f"{number}.part" for number in range(5)))
    found = find_videos(root, ["a", "b"])
    assert list(found.files) == ["a"]
    assert found.notes == [
        "7 files are no videos that the annotations name and were left out: 0.part, 1.part, 2.part, 3.part, 4.part, …"
    ]


@pytest.mark.parametrize(("first", "second"), [("a.mkv", "a.mp4"), ("deep/v_a.mp4", "a.mp4")])
def test_two_files_of_one_video_are_an_error(folder, first, second):
    with pytest.raises(InputError) as caught:
        find_videos(folder(first, second), ["v_a"], prefix="v_")
    names = " and ".join(repr(name) for name in sorted([first, second]))
    assert str(caught.value).endswith(f"videos: {names} are both video 'v_a'; remove one of them")


@pytest.mark.parametrize("files", [[], ["x.mp4"]])
def test_without_any_video_the_error_says_how_to_name_them(folder, files):
    with pytest.raises(InputError) as caught:
        find_videos(folder(*files), ["b", "a"])
    assert str(caught.value).endswith(
        "videos: none of the 2 videos that the annotations name is there; put them there, in any layout of "
        "subfolders, each named by its id, such as a.mp4"
    )
