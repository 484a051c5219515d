import csv
import json
from collections import Counter

import pytest

from stillmotion.datasets.activitynet import read_activitynet
from stillmotion.errors import InputError
from stillmotion.io.records import Action, Moment

HEADER = "video-name,t-start,t-end,action-label,video-duration,filename,fps,video-frames,temporal-region-label\n"
TRAIN_CSV, VALID_CSV = (f"activitynet_v1-3_{part}_tsp_groundtruth.csv" for part in ("train", "valid"))


def described(duration: float, *sentences: tuple[float, float, str]) -> dict:
    return {
        "duration": duration,
        "timestamps": [[start, end] for start, end, _ in sentences],
        "sentences": [text for _, _, text in sentences],
    }


@pytest.fixture
def folder(tmp_path, benchmark_params):
    """Make a folder with annotation files and empty videos, and read it."""

    def make(files: dict[str, dict | str], videos: list[str], **params):
        (tmp_path / "videos").mkdir(exist_ok=True)
        for name, content in files.items():
            (tmp_path / name).write_text(content if isinstance(content, str) else json.dumps(content))
        for name in videos:
            (tmp_path / "videos" / name).touch()
        return read_activitynet(tmp_path, benchmark_params(**params))

    return make


def test_a_paragraph_is_the_sentences_in_the_order_of_the_file(folder, annotate):
    rows = {"v_a": described(20, (5, 9, "Then this."), (0, 4, " First that. "), (10, 12, " "))}
    source = folder({"train.json": rows, "val_1.json": {}}, ["v_a.mp4"], validation_fraction=0.0)
    videos, annotations = annotate(source, v_a=20.0)
    assert videos["v_a"].split == "train"
    assert [(caption.caption_id, caption.text, caption.start, caption.end) for caption in annotations.captions] == [
        ("v_a#000", "Then this. First that.", None, None),
        ("v_a#001", "Then this.", 5, 9),
        ("v_a#002", "First that.", 0, 4),
    ]
    assert "1 sentences hold spaces at an end or several in a row: one between words" in annotations.notes
    assert "1 sentences have no text: left out" in annotations.notes


def test_each_sentence_is_a_query_and_equal_ones_are_one_with_several_windows(folder, annotate):
    rows = {
        "v_b": described(30, (0, 4, "x"), (4, 10, "y"), (3, 6, " x"), (20, 24, "x")),
        "v_a": described(30, (2, 6, "x")),
    }
    source = folder({"train.json": {}, "val_1.json": rows}, ["v_a.mp4"])
    _, annotations = annotate(source, v_a=30.0, v_b=30.0)
    assert annotations.moments == [
        Moment(0, "x", "v_a", 30.0, [[2, 6]], [1, 2], []),
        Moment(1, "x", "v_b", 30.0, [[0, 6], [20, 24]], [0, 1, 2, 10, 11], []),
        Moment(2, "y", "v_b", 30.0, [[4, 10]], [2, 3, 4], []),
    ]


def test_a_sentence_without_a_span_stays_in_the_paragraph_and_its_number_stays_free(folder, annotate):
    rows = {"v_a": described(20, (5, 5, "One."), (18, 25, "Two."), (22, 25, "Three."))}
    source = folder({"train.json": {}, "val_1.json": rows}, ["v_a.mp4"])
    _, annotations = annotate(source, v_a=20.0)
    assert annotations.captions[0].text == "One. Two. Three."
    assert [(moment.qid, moment.relevant_windows) for moment in annotations.moments] == [(1, [[18, 20]])]
    assert annotations.notes == [
        "1 sentences end no later than they start: left out",
        "1 sentences start past the end of their video: left out",
        "1 sentences end more than 0.01 s past their video: ended with it",
    ]


def test_the_duration_of_the_file_wins_and_a_great_difference_is_noted(folder, annotate):
    rows = {"v_a": described(20, (10, 18, "x")), "v_b": described(20, (10, 18, "y")), "v_c": described(20, (1, 2, "z"))}
    source = folder({"train.json": {}, "val_1.json": rows}, ["v_a.mp4", "v_b.mp4"])
    _, annotations = annotate(source, v_a=15.0, v_b=20.5)
    assert [(moment.duration, moment.relevant_windows) for moment in annotations.moments] == [
        (15.0, [[10, 15]]), (20.5, [[10, 18]]), (20.0, [[1, 2]])
    ]  # fmt: skip
    assert "1 files are more than 2 s longer or shorter than the annotations state: v_a" in annotations.notes


def test_a_video_without_a_file_is_kept_with_all_that_is_said_of_it(folder, annotate):
    source = folder(
        {
            "train.json": {},
            "val_1.json": {"v_a": described(20, (0, 4, "x")), "v_b": described(9, (0, 4, "y"))},
            TRAIN_CSV: HEADER,
            VALID_CSV: HEADER + "b,1,5,Jump,9.5,v_b.mp4,30,100,Action\n",
        },
        ["v_a.mp4"],
    )
    assert {video.video_id: video.file is None for video in source.collect(None, workers=1, memo=None)} == {
        "v_a": False, "v_b": True
    }  # fmt: skip
    _, annotations = annotate(source, v_a=20.0)
    assert [caption.text for caption in annotations.captions] == ["x", "x", "y", "y"]
    assert [moment.vid for moment in annotations.moments] == ["v_a", "v_b"]
    assert annotations.actions == [Action("v_b", "Jump", 1.0, 5.0)]


def test_the_test_split_is_the_chosen_file_and_the_other_is_not_read(folder):
    files = {
        "train.json": {},
        "val_1.json": {"v_a": described(9, (0, 4, "x")), "v_b": described(9, (0, 4, "x"))},
        "val_2.json": {"v_b": described(9, (0, 4, "other words"))},
    }
    assert list(folder(files, ["a.mp4", "b.mp4"]).entries) == ["v_a", "v_b"]
    chosen = folder(files, [], activitynet_test="val_2")
    assert {video_id: entry.captions for video_id, entry in chosen.entries.items()} == {"v_b": ["other words"]}
    assert chosen.found.notes == ["1 files are no videos that the annotations name and were left out: a.mp4"]


def test_the_validation_part_has_its_share_and_depends_on_the_id_alone(folder):
    rows = {f"v_{number}": described(9, (0, 4, "x")) for number in range(4000)}
    splits = folder({"train.json": rows, "val_1.json": {}}, ["v_0.mp4"]).entries
    assert Counter(entry.split for entry in splits.values())["validation"] == pytest.approx(400, abs=60)
    fewer = {video_id: rows[video_id] for video_id in list(rows)[::3]}
    again = folder({"train.json": fewer, "val_1.json": {"v_x": described(9, (0, 4, "x"))}}, []).entries
    assert all(again[video_id].split == splits[video_id].split for video_id in fewer)


def test_actions_alone_are_a_dataset_with_the_splits_of_its_files(folder, annotate):
    source = folder(
        {
            TRAIN_CSV: HEADER + "a,0.01,4,Jump,9,v_a.mp4,30,270,Action\na,4,9,,9,v_a.mp4,30,270,No action\n",
            VALID_CSV: HEADER
            + "v_b,2,12,Run,9,v_v_b.mp4,30,270,Action\nv_b,2,12,Run,9,v_v_b.mp4,30,270,Action\n"
            + "c,3,3,Run,9,v_c.mp4,30,270,Action\nd,0,9,,9,v_d.mp4,30,270,No action\n",
        },
        ["a.mp4", "v_b.mp4"],
        validation_fraction=0.0,
    )
    videos, annotations = annotate(source, v_a=9.0, v_v_b=8.5)
    assert {video.video_id: video.split for video in videos.values()} == {
        "v_a": "train", "v_v_b": "test", "v_c": "test", "v_d": "test"
    }  # fmt: skip
    assert annotations.actions == [Action("v_a", "Jump", 0.01, 4.0), Action("v_v_b", "Run", 2.0, 8.5)]
    assert (annotations.captions, annotations.moments) == ([], [])
    assert annotations.notes == [
        "1 actions end no later than they start: left out",
        "2 actions end more than 0.01 s past their video: ended with it",
        "1 actions stand twice with the same times: once",
    ]


def test_beside_the_captions_a_video_keeps_the_split_that_it_has_there(folder):
    source = folder(
        {
            "train.json": {"v_a": described(9, (0, 4, "x"))},
            "val_2.json": {"v_b": described(9, (0, 4, "x"))},
            TRAIN_CSV: HEADER + "a,0,4,Jump,9,v_a.mp4,30,270,Action\nc,0,4,Jump,9,v_c.mp4,30,270,Action\n",
            VALID_CSV: HEADER + "b,0,4,Jump,9,v_b.mp4,30,270,Action\nd,0,4,Jump,9,v_d.mp4,30,270,Action\n",
        },
        ["a.mp4"],
        activitynet_test="val_2",
        validation_fraction=0.0,
    )
    assert {video_id: (entry.split, len(entry.captions)) for video_id, entry in source.entries.items()} == {
        "v_a": ("train", 1), "v_b": ("test", 1), "v_c": ("train", 0), "v_d": ("test", 0)
    }  # fmt: skip
    assert all(len(entry.actions) == 1 for entry in source.entries.values())


GOOD = described(9, (0, 4, "x"))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"train.json": {}}, "val_1.json: no such file, and ActivityNet Captions needs it; it comes from github.com/"),
        ({"train.json": {}}, "put it there, or set download.benchmarks.activitynet_test to the other"),
        ({"val_1.json": {}}, "train.json: no such file, and ActivityNet Captions needs it; it comes from github.com/"),
        ({TRAIN_CSV: HEADER}, f"{VALID_CSV}: no such file, and ActivityNet200 needs it; it comes from github.com/"),
        (
            {"train.json": {"v_a": GOOD}, "val_1.json": {"v_a": GOOD}},
            "'v_a' is in train.json and in val_1.json; remove",
        ),
        ({"train.json": "{", "val_1.json": {}}, "train.json: not JSON"),
        ({"train.json": [1], "val_1.json": {}}, "train.json: no object of videos by their ids; get the file again"),
        ({"train.json": {"v_a": {"duration": 3}}, "val_1.json": {}}, "train.json video 'v_a': needs duration, timesta"),
        ({"train.json": {"v_a": {**GOOD, "sentences": []}}, "val_1.json": {}}, "and as many sentences; mend it"),
        ({"train.json": {"v_a": described(9, (-1, 4, "x"))}, "val_1.json": {}}, "times must be seconds from 0 on"),
        ({"train.json": {"v_a": described(0, (0, 4, "x"))}, "val_1.json": {}}, "and its duration above 0; mend it"),
        ({TRAIN_CSV: "video-name\na\n", VALID_CSV: HEADER}, f"{TRAIN_CSV} row 1: column 't-start' is missing; get the"),
        (
            {TRAIN_CSV: HEADER, VALID_CSV: HEADER + "a,0,x,Run,9,,30,270,Action\n"},
            f"{VALID_CSV} row 2: t-start, t-end and video-duration must be seconds; mend it",
        ),
        (
            {name: HEADER + "a,0,4,Run,9,,30,270,Action\n" for name in (TRAIN_CSV, VALID_CSV)},
            f"video 'v_a' is in {TRAIN_CSV} and in {VALID_CSV}; remove it from one",
        ),
    ],
)
def test_a_fault_of_the_files_is_one_line_with_the_mend(folder, files, message):
    with pytest.raises(InputError) as caught:
        folder(files, ["v_a.mp4"])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def linked(tmp_path, *folders):
    (tmp_path / "videos").mkdir()
    for folder in folders:
        for file in folder.iterdir():
            (tmp_path / file.name).symlink_to(file)


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.parametrize(("chosen", "num_test"), [("val_1", 4917), ("val_2", 4885)])
def test_the_public_captions_have_their_counts(real_material, tmp_path, benchmark_params, chosen, num_test):
    linked(tmp_path, real_material / "activitynet_captions")
    (tmp_path / "videos" / "QOlSCBRmfWY.mkv").touch()
    (tmp_path / "videos" / "v_uqiMw7tQ1Cc.mp4").touch()
    source = read_activitynet(tmp_path, benchmark_params(activitynet_test=chosen))
    splits = Counter(entry.split for entry in source.entries.values())
    assert splits["test"] == num_test
    assert splits["train"] + splits["validation"] == 10_009
    # Three standard deviations of a binomial share of a tenth.
    assert splits["validation"] == pytest.approx(1000.9, abs=90)
    assert set(source.found.files) == {"v_QOlSCBRmfWY", "v_uqiMw7tQ1Cc"}
    assert source.entries["v_QOlSCBRmfWY"].captions == [
        "A young woman is seen standing in a room and leads into her dancing. The girl dances around the room while "
        "the camera captures her movements. She continues dancing around the room and ends by laying on the floor."
    ]


@pytest.mark.slow
@pytest.mark.real
def test_the_public_labels_beside_the_captions_become_actions_within_their_videos(
    real_material, tmp_path, benchmark_params, annotate
):
    linked(tmp_path, real_material / "activitynet_captions", real_material / "activitynet200")
    (tmp_path / "videos" / "v_QOlSCBRmfWY.mp4").touch()
    source = read_activitynet(tmp_path, benchmark_params())
    videos, annotations = annotate(source)
    assert Counter(video.status for video in videos.values()) == {"missing": 14_950}
    # 54,926 sentences, of which 5 repeat another of their video; 4 have no span.
    assert len(annotations.moments) == 54_917
    # 23,064 rows; 49 stand twice, 12 have no span.
    assert len(annotations.actions) == 23_003
    assert len({action.label for action in annotations.actions}) == 200
    assert len({moment.qid for moment in annotations.moments}) == 54_917
    assert all(0 <= start < end <= row.duration for row in annotations.moments for start, end in row.relevant_windows)


@pytest.mark.real
def test_the_public_labels_alone_have_the_faults_that_are_known(real_material, tmp_path, benchmark_params, annotate):
    linked(tmp_path, real_material / "activitynet200")
    (tmp_path / "videos" / "v_QOlSCBRmfWY.mp4").touch()
    source = read_activitynet(tmp_path, benchmark_params())
    _, annotations = annotate(source)
    rows = [
        (float(row["t-start"]), float(row["t-end"]), float(row["video-duration"]))
        for name in (TRAIN_CSV, VALID_CSV)
        for row in csv.DictReader((real_material / "activitynet200" / name).open(encoding="utf-8"))
        if row["temporal-region-label"] == "Action"
    ]
    assert len(rows) == 23_064
    assert sum(end > duration + 0.01 for _, end, duration in rows) == 1627
    assert sum(end <= start for start, end, _ in rows) == 12
    # One of the 1,627 also ends no later than it starts.
    assert annotations.notes == [
        "12 actions end no later than they start: left out",
        "1626 actions end more than 0.01 s past their video: ended with it",
        "49 actions stand twice with the same times: once",
    ]
    assert Counter(entry.split for entry in source.entries.values())["test"] == 4926
