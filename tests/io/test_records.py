import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillmotion.errors import InputError
from stillmotion.io.records import Action, Caption, Moment, Video, load_records, save_records

CAPTION = '{"caption_id": "v1#0", "video_id": "v1", "text": "a red ball", "start": null, "end": null}'


def video(video_id, status="ok"):
    return Video(video_id, f"data/raw/{video_id}.mp4", "train", 10.0, 25.0, 250, 64, 48, "h264", status)


def test_a_table_is_sorted_by_id_and_reads_back_as_it_was(tmp_path):
    videos = [video("b"), video("a", "truncated"), video("B"), video("10"), video("9")]
    save_records(tmp_path, Video, videos)
    assert [row.video_id for row in load_records(tmp_path, Video)] == ["10", "9", "B", "a", "b"]
    assert sorted(load_records(tmp_path, Video), key=videos.index) == videos


def test_a_row_holds_its_columns_under_their_names(tmp_path):
    save_records(tmp_path, Caption, [Caption("v1#0", "v1", "a red ball", None, None)])
    assert (tmp_path / "captions.jsonl").read_text(encoding="utf-8") == CAPTION + "\n"


def test_moments_are_sorted_by_number_and_keep_their_lists(tmp_path):
    moments = [
        Moment(10, "late", "v", 150.0, [[0.0, 4.0], [10.0, 12.0]], [0, 1, 5], [[1, 2, 3], [4, 4, 4], [0, 0, 0]]),
        Moment(9, "early", "v", 150.0, [[2.0, 4.0]], [1], []),
    ]
    save_records(tmp_path, Moment, moments)
    assert load_records(tmp_path, Moment) == [moments[1], moments[0]]


def test_what_several_annotators_marked_is_a_column_of_the_rows_that_have_it_alone(tmp_path):
    plain = Moment(1, "q", "v", 30.0, [[0.0, 5.0]], [0, 1], [])
    marked = Moment(2, "q", "v", 30.0, [[0.0, 5.0]], [0, 1], [], [[0.0, 5.0], [0.0, 10.0]])
    save_records(tmp_path, Moment, [plain, marked])
    first, second = (tmp_path / "moments.jsonl").read_text(encoding="utf-8").splitlines()
    assert first.endswith('"saliency_scores": []}')
    assert second.endswith('"annotated_windows": [[0.0, 5.0], [0.0, 10.0]]}')
    assert load_records(tmp_path, Moment) == [plain, marked]


def test_actions_are_sorted_by_video_then_time_then_label(tmp_path):
    rows = [("v", "b", 1.0, 2.0), ("v", "a", 1.0, 2.0), ("v", "z", 0.5, 9.0), ("u", "z", 5.0, 6.0)]
    save_records(tmp_path, Action, [Action(*row) for row in rows])
    expected = [("u", "z", 5.0, 6.0), ("v", "z", 0.5, 9.0), ("v", "a", 1.0, 2.0), ("v", "b", 1.0, 2.0)]
    assert load_records(tmp_path, Action) == [Action(*row) for row in expected]


def test_a_video_is_ok_only_by_its_status():
    assert video("a").ok
    assert not video("a", "no video stream").ok


@given(
    st.dictionaries(
        st.text(st.characters(codec="ascii"), max_size=6),
        st.tuples(
            st.text(st.characters(codec="utf-8"), max_size=20),
            st.none() | st.floats(allow_nan=False, allow_infinity=False),
        ),
        max_size=5,
    )
)
def test_any_captions_survive_writing_and_reading(tmp_path_factory, texts):
    folder = tmp_path_factory.mktemp("records")
    captions = [Caption(caption_id, "v", text, start, None) for caption_id, (text, start) in texts.items()]
    save_records(folder, Caption, reversed(captions))
    assert load_records(folder, Caption) == sorted(captions, key=lambda caption: caption.caption_id)


@pytest.mark.parametrize(
    ("change", "odd"),
    [({"speaker": "me"}, "['speaker']"), ({"text": ...}, "['text']"), ({"text": ..., "txt": "a"}, "['text', 'txt']")],
)
def test_a_column_too_few_or_too_many_is_named_with_its_row(tmp_path, change, odd):
    row = {**json.loads(CAPTION), **change}
    row = {name: value for name, value in row.items() if value is not ...}
    path = tmp_path / "captions.jsonl"
    path.write_text(CAPTION + "\n" + json.dumps(row) + "\n", encoding="utf-8")
    with pytest.raises(InputError) as caught:
        load_records(tmp_path, Caption)
    assert str(caught.value).startswith(f"{path} row 2: columns {odd} are missing or unknown; it holds ['caption_id'")


MOMENT = Moment(7, "q", "v", 150.0, [[0.0, 4.0]], [0, 1], [[1, 2, 3], [4, 4, 4]])


@pytest.mark.parametrize(
    ("record", "column", "value", "told"),
    [
        (video("v"), "duration", "10.0", "duration is '10.0': Input should be a valid number"),
        (video("v"), "num_frames", 250.5, "num_frames is 250.5: Input should be a valid integer"),
        (video("v"), "status", None, "status is None: Input should be a valid string"),
        (Caption("c", "v", "t", None, None), "text", ["t"], "text is ['t']: Input should be a valid string"),
        (Caption("c", "v", "t", 0.0, 1.0), "end", float("nan"), "end is nan: Input should be a finite number"),
        (MOMENT, "qid", "7", "qid is '7': Input should be a valid integer"),
        (MOMENT, "duration", None, "duration is None: Input should be a valid number"),
        (MOMENT, "relevant_windows", [[0, "4"]], "relevant_windows.0.1 is '4': Input should be a valid number"),
        (MOMENT, "saliency_scores", [1], "saliency_scores.0 is 1: Input should be a valid list"),
        (Action("v", "run", 0.0, 1.0), "start", True, "start is True: Input should be a valid number"),
    ],
)
def test_a_value_of_another_type_is_named_with_its_row_and_column(tmp_path, record, column, value, told):
    save_records(tmp_path, type(record), [record])
    (path,) = tmp_path.iterdir()
    row = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(row) + "\n" + json.dumps(row | {column: value}) + "\n", encoding="utf-8")
    with pytest.raises(InputError) as caught:
        load_records(tmp_path, type(record))
    assert str(caught.value).startswith(f"{path} row 2: {told}")
    assert str(caught.value).endswith("; make it anew with `dvc repro`")


def test_a_whole_number_of_seconds_is_a_number_and_stays_as_it_is(tmp_path):
    path = tmp_path / "actions.jsonl"
    path.write_text('{"video_id": "v", "label": "run", "start": 0, "end": 12}\n', encoding="utf-8")
    assert load_records(tmp_path, Action) == [Action("v", "run", 0, 12)]


def test_a_table_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError) as caught:
        load_records(tmp_path, Action)
    assert str(caught.value) == f"{tmp_path / 'actions.jsonl'}: no such file"
