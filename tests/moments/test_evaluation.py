from dataclasses import replace

import numpy as np
import pytest

from stillmotion.config.evaluation import EvaluateMomentsParams
from stillmotion.errors import InputError
from stillmotion.io.records import Moment
from stillmotion.metrics.submission import predicted_windows
from stillmotion.moments.evaluation import evaluate, frames_of_top_windows, metrics_file, protocol_of
from stillmotion.moments.truth import Missing, ground_truth

PARAMS = EvaluateMomentsParams(num_examples=3, bootstrap_samples=50, seed=0)
QUERIES = [
    Moment(1, "q1", "a", 12.0, [[4.0, 8.0]], [2, 3], [[4, 4, 4], [2, 2, 2]]),
    Moment(2, "q2", "b", 7.0, [[0.0, 2.0], [4.0, 7.0]], [0, 2, 3], [[4, 4, 4], [1, 1, 1], [3, 3, 3]]),
]


@pytest.fixture
def truth():
    return ground_truth(QUERIES, num_frames={"a": 6, "b": 4}, durations={"a": 12.0, "b": 7.0}, clip_length_s=2.0)


def row(qid, windows, **others):
    return {"qid": qid, "pred_relevant_windows": windows} | others


def frames(*rows):
    return np.array([[cell == "1" for cell in text.ljust(6, "0")] for text in rows])


ROWS = [row(2, [[6.0, 7.0, 0.95], [0.0, 2.0, 0.7]]), row(1, [[4.0, 8.0, 0.85]])]
NOTHING = Missing(0, 0)


def test_values_are_worked_by_hand(truth):
    selected = frames("001100", "1001")
    result = evaluate(ROWS, truth, frames_QT=selected, missing=Missing(3, 1), params=PARAMS).metrics
    assert result["brief"]["MR-full-R1@0.5"] == 50
    assert result["mIoU"] == pytest.approx(100 * (1 + 1 / 3) / 2)
    assert (result["MR-full-R1@0.3"], result["MR-full-mIoU"]) == (100, 66.67)
    # the window [6, 7] matches nothing at 0.5, [0, 2] then has precision 1/2 for one of two true windows
    assert result["brief"]["MR-full-mAP"] == 62.5
    assert result["frames"]["IoU"] == pytest.approx(100 * (1 + 2 / 3) / 2)
    assert result["frames"]["AP@0.7"] == 50
    assert result["num_empty"] == 0
    assert result["coverage"] == pytest.approx(100 * (1 + 3 / 5) / 2)
    assert result["selected_share"] == pytest.approx(100 * (4 / 12 + 3 / 7) / 2)
    # one of three queries is about a missing video
    assert result["pessimistic"]["MR-full-R1@0.5"] == pytest.approx(100 / 3)
    assert result["pessimistic"]["frames IoU"] == pytest.approx(2 / 3 * result["frames"]["IoU"])
    assert result["pessimistic"].keys() == result["ci95"].keys()


def test_rows_of_queries_are_in_the_order_of_the_truth(truth):
    rows = evaluate(ROWS, truth, frames_QT=frames("001100", "1001"), missing=NOTHING, params=PARAMS).rows
    assert rows[0] == {
        "qid": 1,
        "query": "q1",
        "vid": "a",
        "duration": 12.0,
        "true_windows": [[4.0, 8.0]],
        "predicted_windows": [[4.0, 8.0, 0.85]],
        "top1_iou": 1.0,
        "average_precision": 1.0,
        "frame_iou": 1.0,
    }
    assert rows[1]["qid"] == 2
    assert [rows[1][name] for name in ("top1_iou", "average_precision", "frame_iou")] == pytest.approx(
        [1 / 3, 1 / 4, 2 / 3]
    )


def test_intervals_are_of_queries_and_repeat_with_the_seed(truth):
    selected = frames("001100", "1001")
    first, second = (evaluate(ROWS, truth, frames_QT=selected, missing=NOTHING, params=PARAMS) for _ in range(2))
    assert first == second
    # of two queries a resample holds both, or one of them twice
    assert first.metrics["ci95"]["frames IoU"] == pytest.approx([100 * 2 / 3, 100])
    assert first.metrics["ci95"]["MR-full-R1@0.5"] == [0, 100]


def test_no_more_than_ten_windows_are_listed(truth):
    many = [[float(n), float(n + 1), 0.5] for n in range(12)]
    rows = evaluate([row(1, many), row(2, [])], truth, frames_QT=None, missing=NOTHING, params=PARAMS).rows
    assert rows[0]["predicted_windows"] == many[:10]
    assert rows[1]["predicted_windows"] == []


def test_an_empty_list_is_worth_nothing_and_is_counted(truth):
    empty = [row(1, []), row(2, [])]
    evaluation = evaluate(empty, truth, frames_QT=None, missing=NOTHING, params=PARAMS)
    result = evaluation.metrics
    assert result["num_empty"] == 2
    assert result["coverage"] == result["selected_share"] == result["mIoU"] == result["brief"]["MR-full-mAP"] == 0
    assert result["frames"]["IoU"] == result["frames"]["precision"] == 0
    assert [query["frame_iou"] for query in evaluation.rows] == [0, 0]


def test_frames_of_a_window_are_those_whose_middle_it_holds(truth):
    windows = predicted_windows([row(1, [[3.0, 7.0, 1.0], [0.0, 12.0, 1.0]]), row(2, [[1.5, 6.5, 1.0]])])
    # middles 1, 3, 5, 7, 9, 11 and 1, 3, 5, 6.5: a window holds its start and not its end
    assert frames_of_top_windows(windows, truth).tolist() == frames("011000", "0110").tolist()
    beyond = predicted_windows([row(1, [[10.0, 99.0, 1.0]]), row(2, [[-3.0, 99.0, 1.0]])])
    assert frames_of_top_windows(beyond, truth).tolist() == frames("000001", "1111").tolist()


def test_systems_without_frames_are_scored_by_those_of_the_top_window(truth):
    given = evaluate(ROWS, truth, frames_QT=frames("001100", "0001"), missing=NOTHING, params=PARAMS)
    assert evaluate(ROWS, truth, frames_QT=None, missing=NOTHING, params=PARAMS) == given


def test_saliency_is_scored_where_there_is_some_and_left_out_where_not(truth):
    rated = [row(1, [], pred_saliency_scores=[0, 0, 1, 0]), row(2, [], pred_saliency_scores=[1, 0, 0, 0])]
    result = evaluate(rated, truth, frames_QT=None, missing=NOTHING, params=PARAMS).metrics
    assert result["HL-min-VeryGood"] == {"HL-mAP": 100, "HL-Hit1": 100}
    assert "HL-min-VeryGood" not in evaluate(ROWS, truth, frames_QT=None, missing=NOTHING, params=PARAMS).metrics


def test_a_bad_row_is_named_with_its_file(truth):
    with pytest.raises(InputError, match=r"other.jsonl row 1: .*ends before"):
        evaluate(
            [row(1, [[5, 1, 1]]), row(2, [])], truth, frames_QT=None, missing=NOTHING, params=PARAMS, name="other.jsonl"
        )


def test_the_protocol_says_what_was_scored_and_how(truth):
    protocol = protocol_of("selection", truth, Missing(3, 1), clip_length_s=2.0, thresholds={"method": "vc1"})
    assert protocol == {
        "split": "test",
        "kind": "selection",
        "num_queries": 2,
        "num_videos": 2,
        "missing_videos": 3,
        "missing_queries": 1,
        "clip_length_s": 2.0,
        "frames_from": "selection",
        "selected_on": None,
        "thresholds": {"method": "vc1"},
    }
    assert protocol_of("shots", None, NOTHING, clip_length_s=2.0)["frames_from"] == "top window"
    assert protocol_of("shots", None, NOTHING, clip_length_s=2.0)["num_queries"] == 0


def test_the_metrics_file_rounds_values_and_not_what_was_searched():
    written = metrics_file(
        {"mIoU": 100 / 3, "ci95": {"mIoU": [1 / 3, None]}, "num_empty": 2}, {"least_cosine": 1e-6}, {"seed": 0}
    )
    assert written == {
        "mIoU": 33.3333,
        "ci95": {"mIoU": [0.3333, None]},
        "num_empty": 2,
        "protocol": {"least_cosine": 1e-6},
        "system": {"seed": 0},
    }


def test_windows_of_several_annotators_have_the_official_score_of_didemo_and_no_others_have():
    marked = [[[0.0, 5.0]] * 3 + [[5.0, 10.0]], [[5.0, 10.0]] * 4]
    queries = [
        Moment(qid, f"q{qid}", "a", 12.0, [windows[0]], [0, 1], [], windows) for qid, windows in enumerate(marked, 1)
    ]
    truth = ground_truth(queries, num_frames={"a": 6}, durations={"a": 12.0}, clip_length_s=2.0)
    rows = [row(2, [[1.0, 4.0, 0.9], [5.0, 9.0, 0.8]]), row(1, [[0.0, 5.5, 0.9]])]
    found = evaluate(rows, truth, frames_QT=None, missing=NOTHING, params=PARAMS).metrics
    # The second query's moment has the second rank, and IoU 0.
    assert found["annotators"] == {"rank@1": 50, "rank@5": 100, "mIoU": 50}
    plain = [replace(query, annotated_windows=[]) for query in queries]
    truth = ground_truth(plain, num_frames={"a": 6}, durations={"a": 12.0}, clip_length_s=2.0)
    assert "annotators" not in evaluate(rows, truth, frames_QT=None, missing=NOTHING, params=PARAMS).metrics
