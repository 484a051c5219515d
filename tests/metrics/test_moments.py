import copy
import json
import time
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_curve

from stillmotion.errors import InputError
from stillmotion.io.tables import read_rows
from stillmotion.metrics.highlights import average_precision
from stillmotion.metrics.moments import (
    IOU_THRESHOLDS,
    additions,
    average_precisions,
    evaluate_moments,
    moment_intervals,
    moment_values,
    newer_metrics,
    official_metrics,
    recall_at_1,
    top1_iou,
    window_iou,
)
from stillmotion.metrics.submission import pad_windows


def truth_row(qid=1, windows=((0, 10),), **others):
    row = {
        "qid": qid,
        "query": "q",
        "vid": "v",
        "duration": 150,
        "relevant_windows": [list(w) for w in windows],
    }
    return row | {"relevant_clip_ids": [0, 1], "saliency_scores": [[2, 3, 4], [0, 1, 2]]} | others


def prediction_row(qid=1, windows=((0, 10, 0.9),), **others):
    row = {"qid": qid, "query": "q", "vid": "v", "pred_relevant_windows": [list(w) for w in windows]}
    return row | {"pred_saliency_scores": [0.9, 0.8] + [0.1] * 73} | others


def sample(real_material, name):
    return read_rows(real_material / "qvhighlights" / name)


@pytest.mark.real
def test_the_published_sample_is_reproduced_to_the_last_digit(real_material):
    predictions = sample(real_material, "sample_val_preds.jsonl")
    truth = sample(real_material, "highlight_val_release.jsonl")
    expected = (real_material / "qvhighlights" / "sample_val_preds_metrics_raw.json").read_text()
    result = evaluate_moments(predictions, truth)
    assert result == json.loads(expected)
    assert json.dumps(result, indent=4) == expected  # the order of the keys as well
    assert evaluate_moments(predictions[::-1], truth) == result
    assert additions(moment_values(predictions, truth))["num_empty"] == 0


@pytest.mark.real
def test_the_keys_of_newer_evaluators_follow_from_the_first_window_of_each_query_of_the_sample(real_material):
    predictions = sample(real_material, "sample_val_preds.jsonl")
    truth = sample(real_material, "highlight_val_release.jsonl")
    windows_of_qid = {row["qid"]: row["pred_relevant_windows"] for row in predictions}
    ious = []
    for row in truth:
        start, end, _ = windows_of_qid[row["qid"]][0]
        shared = [
            (max(0, min(end, last) - max(start, first)), max(end, last) - min(start, first))
            for first, last in row["relevant_windows"]
        ]
        ious.append(max(Fraction(overlap) / Fraction(hull) for overlap, hull in shared))
    reached = sum(iou >= Fraction(3, 10) for iou in ious)
    found = newer_metrics(moment_values(predictions, truth))
    assert found == {
        "MR-full-R1@0.3": round(100 * reached / len(truth), 2),
        "MR-full-mIoU": round(float(100 * sum(ious) / len(truth)), 2),
    }
    assert found["MR-full-R1@0.3"] > evaluate_moments(predictions, truth)["brief"]["MR-full-R1@0.5"]


def test_r1_at_0_3_counts_an_iou_of_0_3_and_miou_counts_a_query_without_a_window_as_0():
    truth = [truth_row(qid) for qid in (1, 2, 3, 4)]
    # IoU 3/10, 2/10 and 10/10 with [0, 10]; the fourth query has no window.
    windows = [[(0, 3, 1)], [(0, 2, 1), (0, 10, 0.5)], [(0, 10, 1)], []]
    rows = [prediction_row(qid, of_query) for qid, of_query in enumerate(windows, start=1)]
    assert newer_metrics(moment_values(rows, truth)) == {"MR-full-R1@0.3": 50.0, "MR-full-mIoU": 37.5}


@pytest.mark.real
def test_the_published_sample_scores_in_well_under_a_second(real_material):
    start = time.perf_counter()
    evaluate_moments(
        sample(real_material, "sample_val_preds.jsonl"), sample(real_material, "highlight_val_release.jsonl")
    )
    assert time.perf_counter() - start < 4  # 0.3 s on two free cores; the margin is for busy ones


@pytest.mark.real
def test_one_window_over_the_whole_video_scores_the_known_floor(real_material):
    truth = sample(real_material, "highlight_val_release.jsonl")
    predictions = [prediction_row(row["qid"], [(0, row["duration"], 1)]) for row in truth]
    brief = evaluate_moments(predictions, truth)["brief"]
    assert (brief["MR-full-R1@0.5"], brief["MR-full-R1@0.7"], brief["MR-full-mAP"]) == (9.03, 6.06, 5.58)


@pytest.mark.real
def test_an_oracle_of_ten_windows_scores_the_known_ceiling(real_material):
    truth = sample(real_material, "highlight_val_release.jsonl")
    predictions = [prediction_row(row["qid"], [(*w, 1) for w in row["relevant_windows"]]) for row in truth]
    brief = evaluate_moments(predictions, truth)["brief"]
    assert (brief["MR-full-R1@0.5"], brief["MR-full-mAP"]) == (100, 99.76)


def literal_average_precision(predicted, true, threshold):
    """Transcription of the protocol for one query, window by window."""
    ranked = sorted(predicted[:10], key=lambda window: -window[2])
    used, hits = set(), []
    for start, end, _ in ranked:
        best, best_iou = None, threshold
        for index, (true_start, true_end) in enumerate(true):
            overlap = max(0.0, min(end, true_end) - max(start, true_start))
            union = (end - start) + (true_end - true_start) - overlap
            iou = overlap / union if union > 0 else 0.0
            if index not in used and iou >= best_iou:
                best, best_iou = index, iou
        hits.append(best is not None)
        used.add(best)
    precisions = [sum(hits[: n + 1]) / (n + 1) for n in range(len(hits))]
    return sum(max(precisions[n:]) for n, hit in enumerate(hits) if hit) / len(true)


windows = st.lists(
    st.tuples(st.integers(0, 20), st.integers(0, 12), st.integers(0, 3)).map(lambda w: [w[0], w[0] + w[1], w[2] / 4]),
    min_size=1,
    max_size=13,
)


@given(st.lists(st.tuples(windows, windows), min_size=1, max_size=4))
def test_average_precision_agrees_with_the_literal_protocol(queries):
    predicted = pad_windows([pair[0] for pair in queries], columns=3, name="p", key="w")
    true_lists = [[window[:2] for window in pair[1]] for pair in queries]
    truth = pad_windows(true_lists, columns=2, name="t", key="w")
    result = average_precisions(predicted, truth)
    for query, (prediction, _) in enumerate(queries):
        expected = [literal_average_precision(prediction, true_lists[query], t) for t in IOU_THRESHOLDS]
        assert result[query] == pytest.approx(expected)


spans = st.tuples(st.floats(0, 100), st.floats(0, 100)).map(sorted)


@given(spans, spans)
def test_iou_is_symmetric_bounded_and_one_for_equal_windows(first, second):
    first, second = np.array(first), np.array(second)
    iou = window_iou(first, second)
    assert iou == window_iou(second, first)
    assert 0 <= iou <= 1 + 1e-12
    assert window_iou(first, first) == (1 if first[1] > first[0] else 0)


def test_iou_is_worked_by_hand():
    assert window_iou(np.array([0.0, 4.0]), np.array([2.0, 6.0])) == pytest.approx(1 / 3)
    assert window_iou(np.array([0.0, 4.0]), np.array([4.0, 6.0])) == 0
    truth = pad_windows([[[0, 2], [10, 14]]], columns=2, name="t", key="w")
    assert top1_iou(np.array([[11.0, 14.0]]), truth).tolist() == [0.75]
    assert recall_at_1(np.array([0.75, 0.5, 0.2, 0.7]), 0.7) == 50


def test_the_top_window_is_the_first_of_the_list_and_not_the_highest_scored():
    result = evaluate_moments([prediction_row(windows=[(50, 60, 0.1), (0, 10, 0.9)])], [truth_row()])
    assert result["full"]["MR-R1"]["0.5"] == 0
    assert result["full"]["MR-mAP"]["0.5"] == 100


def test_only_the_first_ten_windows_count():
    wrong = [(100, 101, 0.5)] * 10
    assert evaluate_moments([prediction_row(windows=[*wrong, (0, 10, 0.9)])], [truth_row()])["brief"][
        "MR-full-mAP"
    ] == pytest.approx(0)


def test_equal_scores_keep_the_order_of_the_list():
    late = evaluate_moments([prediction_row(windows=[(50, 60, 0.5), (0, 10, 0.5)])], [truth_row()])
    early = evaluate_moments([prediction_row(windows=[(0, 10, 0.5), (50, 60, 0.5)])], [truth_row()])
    assert late["brief"]["MR-full-mAP"] == 50
    assert early["brief"]["MR-full-mAP"] == 100


def test_an_empty_list_scores_zero_and_is_counted():
    values = moment_values([prediction_row(1), prediction_row(2, [])], [truth_row(1), truth_row(2)])
    brief = official_metrics(values)["brief"]
    assert brief["MR-full-R1@0.5"] == brief["MR-full-mAP"] == 50
    assert additions(values) == {"mIoU": 50, "num_empty": 1}


def test_ranges_drop_true_windows_outside_and_keep_predictions():
    truth = [truth_row(windows=[(0, 10), (20, 40), (50, 150)])]
    predictions = [prediction_row(windows=[(20, 40, 0.9), (0, 10, 0.8)])]
    result = evaluate_moments(predictions, truth)
    assert result["short"]["MR-mAP"]["0.5"] == 50  # second in the list
    assert result["middle"]["MR-mAP"]["0.5"] == 100
    assert result["long"]["MR-mAP"]["0.5"] == 0
    assert result["full"]["MR-mAP"]["0.5"] == pytest.approx(66.67)


def test_a_range_without_queries_is_null_and_no_crash():
    result = evaluate_moments([prediction_row()], [truth_row()])
    assert result["long"]["MR-mAP"]["average"] is None
    assert result["brief"]["MR-long-mAP"] is None
    assert list(result["long"]["MR-R1"]) == list(result["full"]["MR-R1"])


def test_a_predicted_and_a_true_window_of_no_length_have_iou_0_though_they_are_the_same():
    point = np.array([[5.0, 5.0]])
    assert window_iou(point, point).tolist() == [0]
    assert top1_iou(point, pad_windows([[[5.0, 5.0]]], columns=2, name="x", key="y")).tolist() == [0]
    result = evaluate_moments([prediction_row(windows=[(5, 5, 1)])], [truth_row(windows=[(5, 5)])])
    assert result["brief"]["MR-full-mAP"] == result["brief"]["MR-full-R1@0.5"] == 0
    assert [result["brief"][f"MR-{name}-mAP"] for name in ("short", "middle", "long")] == [None] * 3


def test_windows_longer_than_any_of_the_benchmark_count_in_full():
    row = truth_row(windows=[(0, 400)], duration=600)
    result = evaluate_moments([prediction_row(windows=[(0, 400, 1)])], [row])
    assert result["brief"]["MR-full-mAP"] == 100
    assert result["brief"]["MR-long-mAP"] is None


def test_windows_beyond_the_duration_are_taken_as_they_are():
    values = moment_values([prediction_row(windows=[(0, 20, 1)])], [truth_row(duration=10)])
    assert values.top1_iou_Q.tolist() == [0.5]


def test_truth_without_ratings_has_no_highlight_keys():
    for truth in (
        truth_row(saliency_scores=[], relevant_clip_ids=[0, 1]),
        {key: truth_row()[key] for key in ("qid", "relevant_windows")},
    ):
        result = evaluate_moments([prediction_row()], [truth])
        assert list(result) == ["brief", "full", "long", "middle", "short"]
        assert not any(key.startswith("HL") for key in result["brief"])


def test_queries_that_nobody_rated_are_left_out_of_highlights():
    rated, unrated = truth_row(1), truth_row(2, saliency_scores=[])
    both = evaluate_moments([prediction_row(1), prediction_row(2)], [rated, unrated])
    alone = evaluate_moments([prediction_row(1)], [rated])
    assert both["HL-min-Fair"] == alone["HL-min-Fair"] == {"HL-mAP": 100, "HL-Hit1": 100}


def test_highlights_are_worked_by_hand():
    # Fair (2 or more): annotators find clip 0, clip 0, clips 0 and 1; the prediction puts clip 0 second
    row = prediction_row(pred_saliency_scores=[0.5, 0.4, 0.9] + [0.1] * 72)
    result = evaluate_moments([row], [truth_row()])
    expected = 100 * (1 / 2 + 1 / 2 + (2 / 3 + 2 / 3) / 2) / 3
    assert result["HL-min-Fair"] == {"HL-mAP": round(expected, 2), "HL-Hit1": 0}
    assert result["HL-min-VeryGood"]["HL-mAP"] == pytest.approx(16.67)  # one annotator, precision 1 / 2


def test_missing_saliency_values_are_zeros_and_extra_ones_are_cut():
    short = evaluate_moments([prediction_row(pred_saliency_scores=[-0.5, -0.4])], [truth_row()])
    zeros = evaluate_moments([prediction_row(pred_saliency_scores=[-0.5, -0.4] + [0.0] * 73)], [truth_row()])
    assert short["HL-min-Fair"]["HL-mAP"] == zeros["HL-min-Fair"]["HL-mAP"] < 3
    row = prediction_row()
    longer = row | {"pred_saliency_scores": [*row["pred_saliency_scores"], 5.0]}
    result = evaluate_moments([longer], [truth_row()])
    assert result["HL-min-Fair"] == {"HL-mAP": 100, "HL-Hit1": 0}  # the top clip is beyond the video
    assert evaluate_moments([prediction_row(pred_saliency_scores=[])], [truth_row()])["HL-min-Fair"]["HL-Hit1"] == 0


@given(st.integers(0, 2**32 - 1), st.integers(1, 12))
def test_highlight_precision_is_the_interpolated_curve_of_scikit_learn(seed, num_clips):
    generator = np.random.default_rng(seed)
    scores, labels = generator.integers(0, 5, num_clips) / 4, generator.random(num_clips) < 0.5
    padded_scores, padded_labels = np.append(scores, [9.0, 9.0]), np.append(labels, [True, False])
    valid = np.arange(num_clips + 2) < num_clips
    result = average_precision(padded_scores[None], padded_labels[None, :, None], valid[None])[0, 0]
    if not labels.any():
        assert result == 0
        return
    precision, recall, _ = precision_recall_curve(labels, scores)
    interpolated = np.maximum.accumulate(precision)
    assert result == pytest.approx(interpolated[np.where(np.diff(recall))].mean())


@pytest.mark.parametrize(
    ("predictions", "truth", "message"),
    [
        ([prediction_row(windows=[(0, float("nan"), 1)])], [truth_row()], "predictions row 1: .*finite"),
        ([prediction_row(windows=[(0, 1, float("inf"))])], [truth_row()], "predictions row 1: .*finite"),
        ([prediction_row(windows=[(9, 1, 1)])], [truth_row()], "predictions row 1: .*ends before"),
        ([prediction_row(windows=[(0, 1)])], [truth_row()], "start, end, score"),
        ([prediction_row(windows=[(0, "1", 1)])], [truth_row()], "finite"),
        ([prediction_row(pred_relevant_windows=None)], [truth_row()], "pred_relevant_windows"),
        ([prediction_row(), prediction_row(7)], [truth_row()], "predictions row 2: qid 7 is not in"),
        ([prediction_row()], [truth_row(), truth_row(8)], "no row for qid 8"),
        ([prediction_row(), prediction_row()], [truth_row()], "row 2: qid 1 is also in row 1"),
        ([prediction_row()], [truth_row(), truth_row()], "truth row 2: qid 1 is also in row 1"),
        ([prediction_row(None)], [truth_row()], "qid is None"),
        ([prediction_row()], [], "no rows"),
        ([prediction_row()], [truth_row(windows=[])], "truth row 1: relevant_windows is empty"),
        ([prediction_row()], [truth_row(windows=[(5, 1)])], "truth row 1: .*ends before"),
        ([prediction_row()], [truth_row(relevant_clip_ids=[0])], "differ in length"),
        ([prediction_row()], [truth_row(relevant_clip_ids=[0, 75])], "outside"),
        ([prediction_row()], [truth_row(duration=None)], "duration"),
        (
            [prediction_row()],
            [truth_row(duration=1e10)],
            "duration is 10000000000.0; give the video's seconds, above 0",
        ),
        ([prediction_row()], [truth_row(duration=10**4000)], "duration"),
        ([prediction_row()], [truth_row(saliency_scores=[[1], [1, 2]])], "saliency_scores"),
        ([prediction_row(pred_saliency_scores=[float("nan")])], [truth_row()], "finite"),
        ([prediction_row(pred_saliency_scores=3)], [truth_row()], "finite"),
    ],
)
def test_bad_rows_are_named_with_their_mend(predictions, truth, message):
    with pytest.raises(InputError, match=message):
        moment_values(predictions, truth)


def test_saliency_for_some_rows_only_is_an_error():
    bare = prediction_row(2)
    del bare["pred_saliency_scores"]
    with pytest.raises(InputError, match="predictions row 2: pred_saliency_scores"):
        moment_values([prediction_row(1), bare], [truth_row(1), truth_row(2)])


def test_rows_are_not_changed():
    predictions, truth = [prediction_row()], [truth_row()]
    before = copy.deepcopy((predictions, truth))
    moment_values(predictions, truth)
    assert (predictions, truth) == before


def test_intervals_hold_the_values():
    predictions = [prediction_row(qid, [(0, 4 + qid, 1)]) for qid in range(10)]
    values = moment_values(predictions, [truth_row(qid) for qid in range(10)])
    intervals = moment_intervals(values, rng=np.random.default_rng(0))
    brief = official_metrics(values)["brief"] | additions(values)
    assert intervals.keys() <= brief.keys()
    for name, (low, high) in intervals.items():
        assert low <= brief[name] + 0.01
        assert brief[name] - 0.01 <= high


def test_a_query_without_any_saliency_value_is_worth_nothing():
    result = evaluate_moments(
        [prediction_row(1, pred_saliency_scores=[]), prediction_row(2)],
        [truth_row(1), truth_row(2)],
    )
    assert result["HL-min-Fair"] == {"HL-mAP": 50, "HL-Hit1": 50}


def test_predictions_without_saliency_have_no_highlight_keys():
    bare = prediction_row()
    del bare["pred_saliency_scores"]
    result = evaluate_moments([bare], [truth_row()])
    assert list(result) == ["brief", "full", "long", "middle", "short"]


def test_a_window_of_no_length_matches_nothing():
    values = moment_values([prediction_row(windows=[(5, 5, 1)])], [truth_row(windows=[(5, 5), (0, 10)])])
    assert values.top1_iou_Q.tolist() == [0]
    assert official_metrics(values)["brief"]["MR-full-mAP"] == 0


def test_of_true_windows_with_equal_iou_the_later_is_matched():
    # [0, 4] overlaps [0, 2] and [2, 4] by half each; were the earlier taken, [0, 2] would find nothing free
    row = prediction_row(windows=[(0, 4, 0.9), (0, 2, 0.8)])
    result = evaluate_moments([row], [truth_row(windows=[(0, 2), (2, 4)])])
    assert result["full"]["MR-mAP"]["0.5"] == 100


def test_the_top_clip_is_the_first_of_the_highest():
    # clip 0 is Fair for all, clip 1 for the third annotator alone, clip 2 for none
    for scores, hit in (([0.5, 0.9, 0.9], 100), ([0.5, 0.1, 0.9, 0.9], 0), ([0.9, 0.1, 0.9], 100)):
        result = evaluate_moments([prediction_row(pred_saliency_scores=scores)], [truth_row()])
        assert result["HL-min-Fair"]["HL-Hit1"] == hit


def test_a_video_with_half_a_clip_at_its_end_counts_whole_clips():
    # 5 s hold two clips of 2 s; the third counts where somebody rated it
    scores = [0.1, 0.2, 0.9]
    row = truth_row(duration=5, relevant_clip_ids=[0, 1], saliency_scores=[[4, 4, 4], [0, 0, 0]])
    result = evaluate_moments([prediction_row(pred_saliency_scores=scores)], [row])
    assert result["HL-min-Fair"] == {"HL-mAP": 50, "HL-Hit1": 0}
    rated = truth_row(duration=5, relevant_clip_ids=[2], saliency_scores=[[4, 4, 4]])
    result = evaluate_moments([prediction_row(pred_saliency_scores=scores)], [rated])
    assert result["HL-min-Fair"] == {"HL-mAP": 100, "HL-Hit1": 100}


def test_intervals_of_other_metrics_see_the_same_draws():
    predictions = [prediction_row(qid, [(0, 4 + qid, 1)]) for qid in range(10)]
    values = moment_values(predictions, [truth_row(qid) for qid in range(10)])
    others = {"again": values.top1_iou_Q}
    with_others = moment_intervals(values, rng=np.random.default_rng(0), others=others)
    assert with_others["again"] == with_others["mIoU"]
    assert {name: with_others[name] for name in with_others if name != "again"} == moment_intervals(
        values, rng=np.random.default_rng(0)
    )
