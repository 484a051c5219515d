import pytest

from stillmotion.errors import InputError
from stillmotion.io.records import Moment, Video
from stillmotion.moments.submitted import submitted_predictions, submitted_rows
from stillmotion.moments.truth import ground_truth

MOMENTS = [
    Moment(qid, f"q{qid}", vid, 6.0, [[0.0, 2.0]], [0], []) for qid, vid in ((1, "a"), (2, "b"), (3, "lost"), (4, "t"))
]
SPLITS = {"a": "test", "b": "test", "lost": "test", "t": "train"}


def submit(*rows):
    return submitted_rows(list(rows), queries=MOMENTS[:2], moments=MOMENTS, splits=SPLITS, name="other.jsonl")


def row(qid, **others):
    return {"qid": qid, "pred_relevant_windows": [[0, 2, 1]]} | others


def test_rows_are_taken_as_they_are():
    rows = [row(2, vid="b"), row(1)]
    submitted = submit(*rows)
    assert submitted.rows == rows
    assert (submitted.missing_qids, submitted.num_ignored) == ([], 0)


def test_a_missing_query_becomes_an_empty_list():
    submitted = submit(row(2))
    assert submitted.missing_qids == [1]
    assert submitted.rows[1] == {"qid": 1, "query": "q1", "vid": "a", "pred_relevant_windows": []}
    with_saliency = submit(row(2, pred_saliency_scores=[1, 2]))
    assert with_saliency.rows[1]["pred_saliency_scores"] == []


def test_rows_about_lost_videos_are_counted_and_not_scored():
    submitted = submit(row(1), row(3), row(2))
    assert [kept["qid"] for kept in submitted.rows] == [1, 2]
    assert submitted.num_ignored == 1


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([row(1), row(9)], r"other.jsonl row 2: qid 9 is no query of the dataset"),
        ([row(1), row("2")], r'other.jsonl row 2: qid "2" is text, and the dataset has the number 2'),
        ([row(4)], r"other.jsonl row 1: qid 4 is a query of the train split"),
        ([row(1), row(1)], r"other.jsonl row 2: qid 1 is also in row 1"),
        ([row(1, vid="b")], r"other.jsonl row 1: vid is 'b', but qid 1 is about 'a'"),
        ([{"qid": 1}], r"other.jsonl row 1: pred_relevant_windows"),
        ([row(3), row(1, pred_relevant_windows=[[0, float("nan"), 1]])], r"other.jsonl row 2: .*finite"),
        ([row(1, pred_saliency_scores=[1]), row(2)], r"other.jsonl row 2: pred_saliency_scores is missing"),
        ([row(1, pred_saliency_scores=[float("nan")])], r"other.jsonl row 1: pred_saliency_scores"),
    ],
)
def test_rows_that_fit_nothing_are_named_with_their_mend(rows, message):
    with pytest.raises(InputError, match=message) as error:
        submit(*rows)
    assert "\n" not in str(error.value)


def predict(truth, *rows):
    videos = [Video(name, "", split, 6.0, None, None, None, None, None, "ok") for name, split in SPLITS.items()]
    return submitted_predictions(list(rows), truth, moments=MOMENTS, videos=videos, name="other.jsonl")


def test_gaps_are_filled_counted_and_told_of(caplog):
    sizes, durations = {"a": 3, "b": 3}, {"a": 6.0, "b": 6.0}
    truth = ground_truth(MOMENTS[:2], num_frames=sizes, durations=durations, clip_length_s=2.0)
    predicted = predict(truth, row(2), row(3))
    assert predicted.rows is not None
    assert [kept["qid"] for kept in predicted.rows] == [2, 1]
    assert (predicted.kind, predicted.name, predicted.curves) == ("submission", "other.jsonl", None)
    assert predicted.protocol == {"missing_rows": [1], "num_ignored_rows": 1}
    assert "other.jsonl: no row for 1 of the test queries" in caplog.text


def test_without_queries_nothing_is_answered_and_a_row_of_another_split_still_refused():
    assert predict(None).rows is None
    with pytest.raises(InputError, match="qid 4 is a query of the train split"):
        predict(None, row(4))
