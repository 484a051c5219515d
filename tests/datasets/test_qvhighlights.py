import json
from collections import Counter

import pytest

from stillmotion.datasets.charades import read_charades
from stillmotion.datasets.qvhighlights import read_qvhighlights
from stillmotion.errors import InputError
from stillmotion.io.records import Moment

TRAIN, VAL, TEST = (
    "highlight_train_release.jsonl", "highlight_val_release.jsonl", "highlight_test_with_gt.jsonl"
)  # fmt: skip


def query(qid: int, vid: str = "a", **changes) -> dict:
    row = {"qid": qid, "query": "a dog", "vid": vid, "duration": 10, "relevant_windows": [[2, 6]]}
    rated = {"relevant_clip_ids": [1, 2], "saliency_scores": [[4, 3, 2], [0, 0, 1]]}
    return {**row, **rated, **changes}


@pytest.fixture
def folder(tmp_path, benchmark_params):
    """Make a folder with annotation files and an empty video, and read it."""

    def make(files: dict[str, list[dict]], read=read_qvhighlights):
        (tmp_path / "videos").mkdir(exist_ok=True)
        (tmp_path / "videos" / "a.mp4").touch()
        for name, rows in files.items():
            (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
        return read(tmp_path, benchmark_params())

    return make


def test_queries_keep_their_numbers_windows_clips_and_ratings(folder, annotate):
    files = {TRAIN: [query(7, query=" a  dog")], VAL: [query(3, "b")], TEST: [query(5, "c")]}
    videos, annotations = annotate(folder(files), a=10.0)
    assert {video.video_id: (video.split, video.status) for video in videos.values()} == {
        "a": ("train", "ok"), "b": ("validation", "missing"), "c": ("test", "missing")
    }  # fmt: skip
    assert annotations.moments == [
        Moment(qid, "a dog", vid, 10.0, [[2, 6]], [1, 2], [[4, 3, 2], [0, 0, 1]])
        for qid, vid in ((7, "a"), (3, "b"), (5, "c"))
    ]
    assert (annotations.captions, annotations.actions) == ([], [])
    assert annotations.notes == ["1 queries hold spaces at an end or several in a row: one between words"]


def test_without_the_test_file_the_validation_file_is_the_test_split(folder):
    assert folder({TRAIN: [query(7)], VAL: [query(3, "b")]}).splits == {"a": "train", "b": "test"}


def test_what_lies_past_the_end_of_a_shorter_file_goes(folder, annotate):
    row = query(1, relevant_windows=[[2, 6], [8, 10]], relevant_clip_ids=[1, 2, 4], saliency_scores=[[1], [2], [3]])
    _, annotations = annotate(folder({TRAIN: [row], VAL: []}), a=7.5)
    assert annotations.moments == [Moment(1, "a dog", "a", 7.5, [[2, 6]], [1, 2], [[1], [2]])]
    assert "1 windows start past the end of their video: left out" in annotations.notes


def test_a_query_without_a_window_left_is_left_out_and_counted(folder, annotate):
    rows = [query(1, relevant_windows=[[8, 10]]), query(2, relevant_windows=[]), query(3)]
    _, annotations = annotate(folder({TRAIN: rows, VAL: []}), a=7.5)
    assert [moment.qid for moment in annotations.moments] == [3]
    assert "2 queries have no window left: left out" in annotations.notes


def test_clips_of_another_length_are_worked_out_anew_and_have_no_ratings(folder, annotate):
    _, annotations = annotate(folder({TRAIN: [query(1)], VAL: []}), clip_length_s=1.0, a=10.0)
    assert annotations.moments == [Moment(1, "a dog", "a", 10.0, [[2, 6]], [2, 3, 4, 5], [])]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({TRAIN: []}, f"{VAL}: no such file, and QVHighlights needs it; it comes from github.com/jayleicn/moment_detr"),
        ({TRAIN: [query(1)], VAL: [query(1, "b")]}, f"{VAL} row 1: qid 1 is there twice; remove one"),
        ({TRAIN: [query(1)], VAL: [query(2)]}, f"{VAL} row 1: video 'a' is in the train split too; remove one"),
        ({TRAIN: [{"qid": 1, "query": "x", "vid": "a", "duration": 9}], VAL: []}, "row 1: needs qid, query, vid, dur"),
        ({TRAIN: [query(1, relevant_windows=[[1]])], VAL: []}, "take the file that has the truth"),
        ({TRAIN: [query(1, relevant_windows=[[-1, 4]])], VAL: []}, "its times must be seconds from 0 on"),
        ({TRAIN: [query(1, saliency_scores=[[1]])], VAL: []}, "a row for each of relevant_clip_ids; mend it"),
    ],
)
def test_a_fault_of_the_files_is_one_line_with_the_mend(folder, files, message):
    with pytest.raises(InputError) as caught:
        folder(files)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


CHARADES = {"qid": 1, "query": "person turn a light on.", "vid": "a", "duration": 9.0, "relevant_windows": [[3, 6]]}


def test_charades_needs_both_files_and_its_clips_follow_from_the_windows(folder, annotate):
    files = {"charades_test_release.jsonl": [{**CHARADES, "qid": 2, "vid": "b"}]}
    with pytest.raises(InputError, match="charades_train_release.jsonl: no such file, and Charades-STA needs it; it c"):
        folder(files, read_charades)
    source = folder({**files, "charades_train_release.jsonl": [CHARADES]}, read_charades)
    assert source.splits == {"a": "train", "b": "test"}
    _, annotations = annotate(source, a=9.0)
    assert [(moment.qid, moment.relevant_clip_ids, moment.saliency_scores) for moment in annotations.moments] == [
        (1, [1, 2], []), (2, [1, 2], [])
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.real
def test_the_public_files_keep_every_query_as_it_is(real_material, tmp_path, benchmark_params, annotate):
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "j7rJstUseKg_360.0_510.0.mp4").touch()
    rows = {}
    for name in (TRAIN, VAL, TEST):
        (tmp_path / name).symlink_to(real_material / "qvhighlights" / name)
        for line in (tmp_path / name).read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            rows[row["qid"]] = row
    source = read_qvhighlights(tmp_path, benchmark_params())
    _, annotations = annotate(source)
    assert Counter(source.splits[moment.vid] for moment in annotations.moments) == {
        "train": 7218, "validation": 1550, "test": 1542
    }  # fmt: skip
    for moment in annotations.moments:
        row = rows[moment.qid]
        assert moment.query.split() == row["query"].split()
        assert (moment.vid, moment.duration, moment.relevant_windows) == (
            row["vid"], row["duration"], row["relevant_windows"]
        )  # fmt: skip
        assert (moment.relevant_clip_ids, moment.saliency_scores) == (row["relevant_clip_ids"], row["saliency_scores"])


@pytest.mark.real
def test_the_public_test_file_of_charades_has_its_count(real_material, tmp_path, benchmark_params, annotate):
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "3MSZA.mp4").touch()
    name = "charades_test_release.jsonl"
    (tmp_path / name).symlink_to(real_material / "charades_sta" / name)
    (tmp_path / "charades_train_release.jsonl").write_text("")
    source = read_charades(tmp_path, benchmark_params())
    _, annotations = annotate(source)
    assert (len(source.splits), len(annotations.moments)) == (1334, 3720)
    assert annotations.notes == ["9 queries hold spaces at an end or several in a row: one between words"]
