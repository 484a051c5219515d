import json
from collections import Counter

import pytest

from stillmotion.datasets.didemo import SPLITS, read_didemo
from stillmotion.errors import InputError
from stillmotion.io.records import Caption, Moment


def row(number: int, video: str, text: str, *times: tuple[int, int]) -> dict:
    return {
        "annotation_id": number,
        "video": video,
        "description": text,
        "times": [list(moment) for moment in times],
        "num_segments": 6,
        "dl_link": "https://example.org",
    }


FOUR = [(0, 0), (0, 0), (0, 0), (1, 1)]


@pytest.fixture
def folder(tmp_path, benchmark_params):
    """Make a folder with the three files and empty videos, and read it."""

    def make(videos: list[str], **rows: list[dict]):
        (tmp_path / "videos").mkdir(exist_ok=True)
        for split in ("train", "val", "test"):
            (tmp_path / f"{split}_data.json").write_text(json.dumps(rows.get(split, [])))
        for name in videos:
            (tmp_path / "videos" / name).touch()
        return read_didemo(tmp_path, benchmark_params())

    return make


def test_sentences_make_a_paragraph_and_each_is_a_query_with_the_windows_of_all_annotators(folder, annotate):
    rows = [
        row(7, "1@N00_2_3.mov", "then  it\nends.", (4, 5), (5, 5), (5, 5), (4, 4)),
        row(3, "1@N00_2_3.mov", "a dog", *FOUR),
        row(5, "1@N00_2_3.mov", " ", *FOUR),
    ]
    source = folder(["1@N00_2_3.mov"], test=rows)
    _, annotations = annotate(source, **{"1@N00_2_3": 28.0})
    assert annotations.captions == [
        Caption("1@N00_2_3#000", "1@N00_2_3", "then it ends. a dog", None, None),
        Caption("1@N00_2_3#001", "1@N00_2_3", "then it ends.", 20.0, 28.0),
        Caption("1@N00_2_3#002", "1@N00_2_3", "a dog", 0.0, 5.0),
    ]
    # Sums of IoUs: (4, 5) 1 + ½ + ½ + ½, (5, 5) ½ + 1 + 1 + 0, and the earliest of equals is taken.
    marked = [[20.0, 28.0], [25.0, 28.0], [25.0, 28.0], [20.0, 25.0]]
    assert annotations.moments == [
        Moment(7, "then it ends.", "1@N00_2_3", 28.0, [[20.0, 28.0]], [10, 11, 12, 13], [], marked),
        Moment(3, "a dog", "1@N00_2_3", 28.0, [[0.0, 5.0]], [0, 1, 2], [], [[0.0, 5.0]] * 3 + [[5.0, 10.0]]),
    ]
    assert "1 sentences hold spaces at an end or several in a row: one between words" in annotations.notes
    assert "1 sentences have no text: left out" in annotations.notes


def test_the_first_30_seconds_are_used(folder):
    source = folder(["a.mov"], train=[row(1, "a.mov", "x", *FOUR)])
    assert [(video.video_id, video.used_s) for video in source.collect(None, workers=1, memo=None)] == [("a", 30.0)]


def test_moments_that_start_past_the_end_of_a_short_file_are_left_out_and_noted(folder, annotate):
    rows = [row(1, "a.mov", "x", (4, 5), *FOUR), row(2, "a.mov", "y", (5, 5))]
    _, annotations = annotate(folder(["a.mov"], val=rows), a=19.0)
    assert [(moment.qid, len(moment.annotated_windows)) for moment in annotations.moments] == [(1, 4)]
    assert "2 annotators' moments start past the end of their video: left out" in annotations.notes
    assert [caption.text for caption in annotations.captions] == ["x y", "x"]


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("a.3g2", "a.3g2"),
        ("a.3g2", "a.3g2.mp4"),
        ("a.mov", "deep/a.mp4"),
        ("a.", "a."),
        ("a.", "a"),
        ("a.", "a..mp4"),
        ("a.", "a.mp4"),
    ],
)
def test_a_file_is_found_under_its_name_with_or_without_the_extension_of_the_list(folder, tmp_path, name, file):
    (tmp_path / "videos" / "deep").mkdir(parents=True)
    source = folder([file, "a.json"], test=[row(1, name, "x", *FOUR)])
    (found,) = source.collect(None, workers=1, memo=None)
    assert (found.video_id, found.file) == ("a", tmp_path / "videos" / file)
    assert source.found.notes == ["1 files are no videos that the annotations name and were left out: a.json"]


def test_names_that_differ_in_the_extension_alone_are_one_video_whose_first_file_counts(folder, annotate):
    rows = [row(1, "a.avi", "one", *FOUR), row(2, "b.", "x", *FOUR), row(3, "a.mp4", "two", *FOUR)]
    source = folder(["a.avi", "a.mp4", "b.mp4"], test=rows)
    _, annotations = annotate(source, a=30.0, b=30.0)
    assert [caption.text for caption in annotations.captions if caption.start is None] == ["one two", "x"]
    assert source.found.files["a"].name == "a.avi"
    assert source.found.notes == ["1 files are further files of a video and were left out: a.mp4"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([row(1, "a.mov", "x", (0, 6))], "test_data.json row 1: its times must be pairs of steps from 0 to 5"),
        ([row(1, "a.mov", "x", (3, 2))], "row 1: its times must be pairs"),
        ([row(1, "a.mov", "x")], "at least one; mend it"),
        ([row(1, "a.mov", "x", *FOUR) | {"times": [[0, float("inf")]]}], "row 1: needs annotation_id, description"),
        ([{"video": "a.mov"}], "row 1: needs annotation_id, description, video and times"),
        (["a"], "row 1: needs annotation_id"),
        ({"a": 1}, "test_data.json: no list of descriptions; get the file again"),
        ([row(1, "a.mov", "x", *FOUR), row(1, "b.mov", "x", *FOUR)], "row 2: annotation_id 1 is there twice"),
        ([row(9, "t.mp4", "x", *FOUR)], "row 1: video 't' is in the train split too; remove one"),
    ],
)
def test_a_fault_is_one_line_with_the_file_the_row_and_the_mend(folder, rows, message):
    with pytest.raises(InputError) as caught:
        folder(["a.mov"], train=[row(8, "t.mov", "x", *FOUR)], test=rows)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named_with_where_it_comes_from(tmp_path, benchmark_params):
    (tmp_path / "val_data.json").write_text("[]")
    with pytest.raises(InputError, match="train_data.json: no such file, and DiDeMo needs it; it comes from github"):
        read_didemo(tmp_path, benchmark_params())


@pytest.mark.real
def test_the_public_files_have_the_published_counts(real_material, tmp_path, benchmark_params, annotate):
    (tmp_path / "videos").mkdir()
    (tmp_path / "train_data.json").write_text("[]")
    for name in ("val_data.json", "test_data.json"):
        (tmp_path / name).symlink_to(real_material / "didemo" / name)
    names = {row["video"] for name in list(SPLITS)[1:] for row in json.loads((tmp_path / name).read_text())}
    for name in names:
        # As the official download calls them.
        (tmp_path / "videos" / f"{name}.mp4").touch()
    source = read_didemo(tmp_path, benchmark_params())
    assert Counter(source.splits.values()) == {"validation": 1065, "test": 1004}
    assert len(names) == 2131
    assert len(source.found.files) == 2069
    _, annotations = annotate(source)
    assert len(annotations.moments) == 4180 + 4021
    assert Counter(len(moment.annotated_windows) for moment in annotations.moments) == {4: 8174, 7: 26, 5: 1}
    assert sum(caption.start is None for caption in annotations.captions) == 2069
    copies, spaces = annotations.notes
    assert copies.startswith("62 files are further files of a video and were left out: ")
    assert spaces == "25 sentences hold spaces at an end or several in a row: one between words"
