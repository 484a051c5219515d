import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillmotion.config.data import FolderParams
from stillmotion.datasets.folder import FolderSource, read_folder, split_by_hash
from stillmotion.datasets.source import Annotations
from stillmotion.errors import InputError
from stillmotion.io.memo import Memo
from stillmotion.io.records import Action, Video

PARAMS = FolderParams(validation_fraction=0.2, test_fraction=0.3)


@pytest.fixture
def folder(tmp_path):
    """Make a folder of empty files with a captions.csv and read it."""

    def make(captions: str | None, files: list[str]) -> FolderSource:
        (tmp_path / "mine").mkdir(exist_ok=True)
        for name in files:
            file = tmp_path / "mine" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
        if captions is not None:
            (tmp_path / "mine" / "captions.csv").write_text(captions, encoding="utf-8")
        return read_folder(tmp_path / "mine", PARAMS)

    return make


def annotate(source: FolderSource, *, duration: float | None = 20.0, **durations: float | None) -> Annotations:
    videos = {}
    for video_id, split in source.splits.items():
        seconds = durations.get(video_id, duration)
        status = "ok" if seconds is not None else "truncated"
        videos[video_id] = Video(video_id, "", split, seconds, None, None, None, None, None, status=status)
    return source.annotate(videos, clip_length_s=2.0)


def texts(annotations: Annotations) -> list[tuple]:
    return [(caption.text, caption.start, caption.end) for caption in annotations.captions]


def test_ids_are_paths_below_the_folder_without_extension(folder):
    source = folder("video,caption\na/x.mp4,one\n", ["a/x.mp4", "b/x.mkv", "c d.webm"])
    videos = source.collect(Path("unused"), workers=1, memo=Memo(None))
    assert [video.video_id for video in videos] == ["a/x", "b/x", "c d"]
    assert [video.file for video in videos] == [
        source.captions.parent / name for name in ("a/x.mp4", "b/x.mkv", "c d.webm")
    ]


def test_files_that_differ_in_the_extension_alone_keep_it(folder):
    source = folder("video,caption\na.mp4,one\n", ["a.mp4", "a.avi", "b.mp4"])
    assert list(source.files) == ["a.avi", "a.mp4", "b"]
    assert list(source.rows) == ["a.mp4"]


def test_videos_that_no_row_names_are_included_and_noted(folder):
    source = folder("video,caption\na.mp4,one\n", ["a.mp4", "b.mp4"])
    assert list(source.files) == ["a", "b"]
    assert "1 videos have no text in captions.csv: embedded, but in no gallery" in source.notes
    assert [caption.video_id for caption in annotate(source).captions] == ["a"]


def test_a_folder_without_captions_is_a_dataset_without_texts(folder):
    source = folder(None, ["a.mp4", "b/c.MOV", "b/c.srt"])
    assert list(source.files) == ["a", "b/c"]
    annotations = annotate(source)
    assert (annotations.captions, annotations.moments, annotations.actions) == ([], [], [])
    assert "2 videos have no text in captions.csv: embedded, but in no gallery" in annotations.notes


def test_rows_that_nobody_has_filled_in_give_no_text_and_still_say_the_split(folder):
    source = folder("video,caption,split\na.mp4,,validation\nb.mp4,,\nc.mp4,a dog,\n", ["a.mp4", "b.mp4", "c.mp4"])
    assert source.splits["a"] == "validation"
    annotations = annotate(source)
    assert [caption.video_id for caption in annotations.captions] == ["c"]
    assert "2 videos have no text in captions.csv: embedded, but in no gallery" in annotations.notes


def test_several_times_past_the_end_are_counted(folder):
    source = folder("video,caption,start,end\na.mp4,x,30,40\na.mp4,y,1,2\nb.mp4,x,5,99\n", ["a.mp4", "b.mp4"])
    with pytest.raises(InputError) as caught:
        annotate(source)
    assert str(caught.value).endswith(
        "captions.csv: 2 rows are at fault: row 2: start 30 is past the video's end at 20.00 s; mend it; "
        "row 4: end 99 is past the video's end at 20.00 s; mend it"
    )


def test_other_files_are_left_out_and_noted_but_not_hidden_ones(folder):
    files = ["a.MP4", "README.md", ".DS_Store", "._a.mp4", ".gitignore", "a.MP4.dvc", ".cache/b.mp4", "notes/x.txt"]
    source = folder("video,caption\na.MP4,one\n", files)
    assert list(source.files) == ["a"]
    assert "2 files are no videos by their name and were left out: README.md, notes/x.txt" in source.notes


def test_subtitles_beside_the_videos_are_counted_apart(folder):
    source = folder(None, ["a.mp4", "a.srt", "b.mp4", "b.en.VTT", "cover.jpg"])
    assert list(source.files) == ["a", "b"]
    assert "2 subtitles were left out" in source.notes
    assert "1 files are no videos by their name and were left out: cover.jpg" in source.notes


def test_a_file_that_a_row_names_is_a_video_whatever_its_extension(folder):
    assert list(folder("video,caption\na.gif,one\n", ["a.gif", "b.gif"]).files) == ["a"]


@pytest.mark.parametrize("name", ["a b.mp4", "-v.mp4", "naïve 日本.mp4", "100% #1?.mp4", "a.b.c.mp4"])
def test_odd_file_names_work(folder, name):
    source = folder(f"video,caption\n{name},one\n", [name])
    assert list(source.files) == [name.removesuffix(".mp4")]
    assert source.rows.keys() == source.files.keys()


@pytest.mark.parametrize(("cell", "file"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_accents_may_be_spelt_in_two_ways(folder, cell, file):
    source = folder(
        f"video,caption\n{unicodedata.normalize(cell, 'été.mp4')},one\n", [unicodedata.normalize(file, "été.mp4")]
    )
    assert list(source.rows) == [unicodedata.normalize("NFC", "été")]
    assert source.files["été"].exists()


@pytest.mark.parametrize("cell", ["sub/a.mp4", "a.mp4", " a.mp4 ", "./sub/a.mp4", "sub\\a.mp4"])
def test_a_video_may_be_named_by_path_or_by_a_name_that_one_file_has(folder, cell):
    assert list(folder(f"video,caption\n{cell},one\n", ["sub/a.mp4", "b.mp4"]).rows) == ["sub/a"]


def test_linked_folders_are_followed_and_circles_end(folder, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "a.mp4").touch()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "videos").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "back").symlink_to(tmp_path / "mine")
    assert list(folder("video,caption\na.mp4,one\n", []).files) == ["videos/a"]


@pytest.mark.parametrize(
    ("captions", "files", "message"),
    [
        ("video,caption\na.mp4,x\n", [], "mine: no video files; put some there"),
        ("video,caption\nb.mp4,x\n", ["bb.mp4"], "row 2: no file 'b.mp4' below"),
        ("video,caption\nb.mp4,x\n", ["bb.mp4"], "; did you mean 'bb.mp4'?; mend the path or add the file"),
        ("video,caption\n007,x\n", ["deep/007.mp4", "8.mp4"], "; did you mean 'deep/007.mp4'?; mend"),
        ("video,caption\n../a.mp4,x\n", ["zz.mp4"], "row 2: no file '../a.mp4' below"),
        ("video,caption\nKITCHEN/A.MP4,x\n", ["kitchen/a.mp4", "k.mp4"], "; did you mean 'kitchen/a.mp4'?; mend"),
        ("video,caption\nA.mp4,x\n", ["deep/er/a.MP4", "b.mp4"], "; did you mean 'deep/er/a.MP4'?; mend"),
        ("video,caption\ndata/sources/mine/k/a.mp4,x\n", ["k/a.mp4", "b.mp4"], "; did you mean 'k/a.mp4'?; mend"),
        ("video,caption\n/home/me/clips/a.mp4,x\n", ["a.mp4", "b.mp4"], "; did you mean 'a.mp4'?; mend"),
        (
            "video,caption\nq.mp4,x\na.mp4,y\nr.mp4,z\ns.mp4,z\nt.mp4,z\n",
            ["a.mp4"],
            "captions.csv: 4 rows are at fault: row 2: no file 'q.mp4' below",
        ),
        ("video,caption\nq.mp4,x\nr.mp4,z\ns.mp4,z\nt.mp4,z\n", ["a.mp4"], "add the file; and 1 more"),
        (None, ["README.md", "a.srt"], "mine: 2 files, of which none is a video by its name; put some there"),
        (
            "video,caption\nx.mp4,t\n",
            ["a/x.mp4", "b/x.mp4"],
            "row 2: several files are named 'x.mp4' (a/x.mp4, b/x.mp4); write the path below",
        ),
        (
            "video,caption\na.mp4,x\n",
            ["a.mp4", "a.mkv", "a.mp4.mkv"],
            "mine: 'a.mp4' and 'a.mp4.mkv' have one id, 'a.mp4'; rename one",
        ),
        (
            "video,caption,split\na.mp4,x,train\na.mp4,y,\na.mp4,z,test\n",
            ["a.mp4"],
            "row 4: split 'test', but row 2 puts the same video in 'train'; mend one",
        ),
    ],
)
def test_a_fault_is_one_line_with_the_mend(folder, captions, files, message):
    with pytest.raises(InputError) as caught:
        folder(captions, files)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_two_spellings_of_one_name_are_an_error(folder):
    names = [unicodedata.normalize(form, "é.mp4") for form in ("NFC", "NFD")]
    with pytest.raises(InputError, match="is there twice, its accents spelt in two ways; rename one"):
        folder("video,caption\né.mp4,x\n", names)


def test_a_file_name_that_is_not_utf_8_is_named(folder, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "caf\udce9.mp4").touch()
    with pytest.raises(InputError, match="is not UTF-8; rename it"):
        folder("video,caption\na.mp4,x\n", ["a.mp4"])


def test_rows_without_times_are_captions_of_the_whole_video(folder):
    annotations = annotate(folder("video,caption\na.mp4,one\na.mp4,two\n", ["a.mp4"]))
    assert texts(annotations) == [("one", None, None), ("two", None, None)]
    assert [caption.caption_id for caption in annotations.captions] == ["a#000", "a#001"]
    assert (annotations.moments, annotations.actions) == ([], [])


def test_timed_rows_are_dense_captions_in_time_order_and_make_a_paragraph(folder):
    annotations = annotate(folder("video,caption,start,end\na.mp4,then,5,9\na.mp4,first,0,4\n", ["a.mp4"]))
    assert texts(annotations) == [("first then", None, None), ("first", 0, 4), ("then", 5, 9)]


def test_a_span_that_stands_twice_counts_once_and_a_caption_of_the_whole_twice(folder):
    rows = "a.mp4,all,,\na.mp4,x,0,4\n./a.mp4,x,0,4\na.mp4,all,,\na.mp4,x,1,4\nb.mp4,all,,\n"
    annotations = annotate(folder("video,caption,start,end\n" + rows, ["a.mp4", "b.mp4"]))
    of_a = [("all", None, None), ("all", None, None), ("x", 0, 4), ("x", 1, 4)]
    assert texts(annotations) == [*of_a, ("all", None, None)]
    assert "1 rows stand twice with the same times: once" in annotations.notes


def test_a_caption_of_the_whole_video_leaves_no_need_of_a_paragraph(folder):
    annotations = annotate(folder("video,caption,start,end\na.mp4,first,0,4\na.mp4,all,,\n", ["a.mp4"]))
    assert texts(annotations) == [("all", None, None), ("first", 0, 4)]


def test_equal_texts_of_a_video_are_one_query_with_several_windows(folder):
    rows = "a.mp4,x,10,14\na.mp4,y,4,10\na.mp4,x ,0,4\nb.mp4,x,0,3\na.mp4,x,13,16\n"
    moments = annotate(folder("video,caption,start,end\n" + rows, ["a.mp4", "b.mp4"])).moments
    assert [(moment.qid, moment.query, moment.vid, moment.relevant_windows) for moment in moments] == [
        (0, "x", "a", [[0, 4], [10, 16]]),
        (1, "y", "a", [[4, 10]]),
        (2, "x", "b", [[0, 3]]),
    ]
    assert [moment.relevant_clip_ids for moment in moments] == [[0, 1, 5, 6, 7], [2, 3, 4], [0, 1]]
    assert all(moment.saliency_scores == [] and moment.duration == 20.0 for moment in moments)


def test_an_action_labels_the_span_of_its_row_or_the_whole_video_once(folder):
    rows = "a.mp4,one,,,wave\na.mp4,two,,,wave\na.mp4,three,2,5,jump\na.mp4,,6,8,jump\n"
    annotations = annotate(folder("video,caption,start,end,action\n" + rows, ["a.mp4"]))
    assert set(annotations.actions) == {
        Action("a", "wave", 0.0, 20.0),
        Action("a", "jump", 2.0, 5.0),
        Action("a", "jump", 6.0, 8.0),
    }
    assert len(annotations.actions) == 3
    assert [moment.query for moment in annotations.moments] == ["three"]


def test_an_end_that_was_rounded_past_the_video_is_moved_to_its_end(folder):
    annotations = annotate(folder("video,caption,start,end\na.mp4,x,18,20.9\n", ["a.mp4"]))
    assert annotations.moments[0].relevant_windows == [[18, 20]]
    assert texts(annotations)[1] == ("x", 18, 20)
    assert "1 rows end up to 1 s past their video: ended with it" in annotations.notes


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ("3,21.5", "row 2: end 21.5 is past the video's end at 20.00 s; mend it"),
        ("20,20.5", "row 2: start 20 is past the video's end at 20.00 s; mend it"),
        ("30,40", "row 2: start 30 is past the video's end at 20.00 s; mend it"),
    ],
)
def test_times_past_the_end_are_an_error(folder, times, message):
    source = folder(f"video,caption,start,end\na.mp4,x,{times}\n", ["a.mp4"])
    with pytest.raises(InputError) as caught:
        annotate(source)
    assert str(caught.value).endswith(message)
    assert "captions.csv" in str(caught.value)


def test_the_captions_of_a_video_that_cannot_be_read_stay_and_the_rest_is_counted(folder):
    rows = "a.mp4,x,0,4,\na.mp4,x,6,9,\na.mp4,,,,wave\nb.mp4,y,1,2,jump\n"
    source = folder("video,caption,start,end,action\n" + rows, ["a.mp4", "b.mp4"])
    annotations = annotate(source, a=None)
    assert [caption.text for caption in annotations.captions] == ["x x", "x", "x", "y", "y"]
    assert [moment.vid for moment in annotations.moments] == ["b"]
    assert [action.video_id for action in annotations.actions] == ["b"]
    assert "2 moments and actions left out: their videos can't be read" in annotations.notes


def test_a_stated_split_holds_for_all_rows_of_the_video(folder):
    source = folder("video,caption,split\na.mp4,x,\na.mp4,y,validation\n", ["a.mp4"])
    assert source.splits == {"a": "validation"}
    assert "no video is in the test split; a column `split` in captions.csv would say which" in source.notes
    assert not any("hash" in note for note in source.notes)


def test_without_a_stated_split_adding_a_video_moves_no_other(folder):
    few = folder("video,caption\n1.mp4,x\n", [f"{number}.mp4" for number in range(20)]).splits
    more = folder("video,caption\n1.mp4,x\n", [f"{number}.mp4" for number in range(20, 60)]).splits
    assert len(more) == 60
    assert few.items() <= more.items()


def test_splits_by_hash_have_their_fractions():
    splits = [split_by_hash(f"video {number}", PARAMS) for number in range(4000)]
    shares = [np.mean([split == name for split in splits]) for name in ("train", "validation", "test")]
    assert shares == pytest.approx([0.5, 0.2, 0.3], abs=0.03)


@given(st.text(min_size=1, max_size=20).filter(lambda text: text.isprintable()))
def test_fractions_of_nought_and_one_are_kept_to(video_id):
    assert split_by_hash(video_id, FolderParams(validation_fraction=0, test_fraction=0)) == "train"
    assert split_by_hash(video_id, FolderParams(validation_fraction=0, test_fraction=1)) == "test"


def test_control_characters_are_no_part_of_a_caption_or_an_action_and_are_noted(folder):
    source = folder("video,caption,action\na.mp4,a \x1b[31mred\u202e ball,ju\x00ggling\na.mp4,fine,\n", ["a.mp4"])
    annotations = annotate(source)
    assert texts(annotations) == [("a red ball", None, None), ("fine", None, None)]
    assert [action.label for action in annotations.actions] == ["juggling"]
    assert "1 rows hold control characters: removed" in annotations.notes


def test_a_caption_of_control_characters_alone_is_an_empty_one(folder):
    assert annotate(folder("video,caption\na.mp4,\x1b[2J\u200b\n", ["a.mp4"])).captions == []
