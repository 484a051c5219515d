import numpy as np
import pytest

from stillmotion.report.moment_effects import (
    adjust_norm_helps,
    cuts_are_boundaries,
    norm_helps,
    short_windows_are_hardest,
    smoothed_vc1_beats_shots,
    smoothed_vc1_is_best,
    smoothing_helps_vc1,
    smoothing_helps_vc2_less,
    smoothing_raises_frame_iou,
)

EVERY = (
    adjust_norm_helps,
    cuts_are_boundaries,
    norm_helps,
    short_windows_are_hardest,
    smoothed_vc1_beats_shots,
    smoothed_vc1_is_best,
    smoothing_helps_vc1,
    smoothing_helps_vc2_less,
    smoothing_raises_frame_iou,
)


def hits(share):
    """IoUs of 100 queries, of which this share have a top window that counts."""
    return [1.0] * round(100 * share) + [0.0] * round(100 * (1 - share))


def summary(measurements):
    return [(found.what, found.effect.split(" ")[0], found.verdict) for found in measurements]


@pytest.mark.parametrize(
    ("share", "effect", "verdict"),
    [(0.9, "+50.0", "holds"), (0.5, "+10.0", "undecided"), (0.42, "+2.0", "does not hold")],
)
def test_smoothing_must_give_vc1_more_than_ten_points(make_selected, share, effect, verdict):
    evidence = make_selected(vc1_none=hits(0.4), vc1_log_smooth_norm=hits(share))
    what = "clip-vc1_log_smooth_norm − clip-vc1_none, R1@0.5"
    assert summary(smoothing_helps_vc1(evidence)) == [(what, effect, verdict)]


def test_the_gain_of_vc2_is_taken_from_that_of_vc1_query_by_query(make_selected):
    evidence = make_selected(
        vc1_none=hits(0.1), vc1_log_smooth_norm=hits(0.6), vc2_none=hits(0.2), vc2_log_smooth_norm=hits(0.4)
    )
    assert summary(smoothing_helps_vc2_less(evidence)) == [
        ("clip-vc2_log_smooth_norm − clip-vc2_none, R1@0.5", "+20.0", "holds"),
        # 50 − 20
        ("clip: gain of VC1 by smoothing − gain of VC2, R1@0.5", "+30.0", "holds"),
    ]


def test_without_one_of_the_four_there_is_no_difference_of_gains(make_selected):
    evidence = make_selected(vc1_none=hits(0.1), vc2_none=hits(0.2), vc2_log_smooth_norm=hits(0.4))
    assert len(smoothing_helps_vc2_less(evidence)) == 1


def test_norm_is_measured_by_recall_for_both_methods(make_selected):
    evidence = make_selected(vc1_none=hits(0.1), vc1_norm=hits(0.3), vc2_none=hits(0.5), vc2_norm=hits(0.2))
    assert summary(norm_helps(evidence)) == [
        ("clip-vc1_norm − clip-vc1_none, R1@0.5", "+20.0", "holds"),
        ("clip-vc2_norm − clip-vc2_none, R1@0.5", "-30.0", "does not hold"),
    ]


def test_adjust_norm_is_measured_by_map_for_vc2(make_selected):
    # R1@0.5 is 0 throughout, mAP 10 and 30
    evidence = make_selected(
        vc1_none=hits(0.1), vc1_adjust_norm=hits(0.3), vc2_none=[0.1] * 20, vc2_adjust_norm=[0.3] * 20
    )
    assert summary(adjust_norm_helps(evidence)) == [
        ("clip-vc1_adjust_norm − clip-vc1_none, R1@0.5", "+20.0", "holds"),
        ("clip-vc2_adjust_norm − clip-vc2_none, mAP", "+20.0", "holds"),
    ]


def test_smoothed_vc1_is_held_against_smoothed_vc2(make_selected):
    evidence = make_selected(vc1_log_smooth_norm=hits(0.3), vc2_log_smooth_norm=hits(0.7))
    assert [row.verdict for row in smoothed_vc1_is_best(evidence)] == ["does not hold"]


def test_frame_iou_is_of_thresholds_for_frames(make_selected):
    windows = {"vc1_none": [0.1] * 20, "vc1_log_smooth_norm": [0.9] * 20}
    assert smoothing_raises_frame_iou(make_selected(**windows)) == []
    evidence = make_selected(vc1_none_frames=[0.2] * 20, vc1_log_smooth_norm_frames=[0.3] * 20, **windows)
    what = "clip-vc1_log_smooth_norm_frames − clip-vc1_none_frames, frame IoU"
    assert summary(smoothing_raises_frame_iou(evidence)) == [(what, "+10.0", "holds")]
    assert [row.effect.split(" ")[0] for row in smoothing_helps_vc1(evidence)] == ["+100.0"]


def test_every_model_has_a_row(make_run, make_selected):
    run = make_run(selected=["clip", "b"], models=["clip", "b"], selections=["vc1_none", "vc1_log_smooth_norm"])
    evidence = make_selected(run=run, vc1_none=hits(0.4), vc1_log_smooth_norm=hits(0.9))
    assert [row.what.split("-")[0] for row in smoothing_helps_vc1(evidence)] == ["clip", "b"]


def test_each_detector_of_shots_is_held_against_smoothed_vc1(make_run, make_selected, make_query):
    run = make_run(selections=["vc1_log_smooth_norm"], shot_detectors=["content_shots", "adaptive_shots"])
    evidence = make_selected(run=run, vc1_log_smooth_norm=hits(0.7))
    evidence.queries["clip-content_shots"] = [make_query(qid, iou) for qid, iou in enumerate(hits(0.4))]
    evidence.queries["clip-adaptive_shots"] = []
    what = "clip-vc1_log_smooth_norm − clip-content_shots, R1@0.5"
    assert summary(smoothed_vc1_beats_shots(evidence)) == [(what, "+30.0", "holds")]


def rows_of_length(make_query, length, found, start=0):
    """20 queries with a true window of this length; the first `found` are answered exactly, the others beside it."""
    return [
        make_query(
            start + row,
            0.0,
            true=[[0.0, float(length)]],
            predicted_windows=[[0.0, float(length), 0.5] if row < found else [100.0, 110.0, 0.5]],
        )
        for row in range(20)
    ]


def test_short_windows_must_be_below_middle_and_long_ones(make_selected, make_query):
    evidence = make_selected(vc1_none=[0.0])
    short, middle = rows_of_length(make_query, 6, 1), rows_of_length(make_query, 20, 15, 20)
    evidence.queries["clip-vc1_none"] = [*short, *middle, *rows_of_length(make_query, 60, 18, 40)]
    (row,) = short_windows_are_hardest(evidence)
    assert row.what == "clip-vc1_none: mAP of middle and long − short"
    # 75 − 5 and 90 − 5
    assert row.effect.startswith("middle +70.0 points (")
    assert "), long +85.0 points (" in row.effect
    assert row.verdict == "holds"
    evidence.queries["clip-vc1_none"] = [*short, *middle, *rows_of_length(make_query, 60, 0, 40)]
    assert [row.verdict for row in short_windows_are_hardest(evidence)] == ["undecided"]


def test_two_lengths_are_drawn_apart(make_selected, make_query):
    evidence = make_selected(vc1_none=[0.0])
    evidence.queries["clip-vc1_none"] = [
        *rows_of_length(make_query, 6, 5),
        *rows_of_length(make_query, 20, 15, 20),
    ]
    (row,) = short_windows_are_hardest(evidence)
    low, high = (float(cell) for cell in row.effect.split("(")[1].removesuffix(")").split(" to "))
    # the normal interval of two independent shares of 1/4 and 3/4 of 20: 50 ± 1.96 · 100 · √(2 · 3/16 / 20)
    half = 196 * np.sqrt(2 * 3 / 16 / 20)
    assert low == pytest.approx(50 - half, abs=6)
    assert high == pytest.approx(50 + half, abs=6)
    assert row.verdict == "holds"


def test_lengths_that_no_query_has_are_left_out(make_selected, make_query):
    evidence = make_selected(vc1_none=[0.0])
    evidence.queries["clip-vc1_none"] = rows_of_length(make_query, 6, 1)
    assert short_windows_are_hardest(evidence) == []
    evidence.queries["clip-vc1_none"] = rows_of_length(make_query, 20, 1)
    assert short_windows_are_hardest(evidence) == []


BOUNDARIES = {
    "recall": 62.04,
    "precision": None,
    "chance_recall": 40.0,
    "above_chance": 22.04,
    "ci95": [15.0, 28.0],
    "num_boundaries": 300,
    "num_cuts": 0,
}


def test_cuts_are_told_from_chance_by_the_interval_of_the_metrics(make_selected):
    metrics = {"vc2_none": {"boundaries": BOUNDARIES}, "vc2_norm": {"boundaries": BOUNDARIES | {"ci95": [-1.0, 2.0]}}}
    first, second = cuts_are_boundaries(make_selected(vc1_none=[0.5], vc2_none=[0.5], vc2_norm=[0.5], metrics=metrics))
    assert first.what == "clip-vc2_none: 62.0 % of 300 boundaries, 40.0 % by chance; – % of 0 cuts"
    assert (first.effect, first.verdict) == ("+22.0 points (+15.0 to +28.0)", "holds")
    assert second.verdict == "undecided"


def test_videos_without_boundaries_say_nothing_of_cuts(make_selected):
    nothing = {"vc2_none": {"boundaries": dict.fromkeys(BOUNDARIES)}}
    assert cuts_are_boundaries(make_selected(vc2_none=[0.5], metrics=nothing)) == []
    assert cuts_are_boundaries(make_selected(vc2_none=[0.5])) == []


@pytest.mark.parametrize("effect", EVERY)
def test_without_moments_nothing_is_measured(effect, make_run, make_evidence):
    assert effect(make_evidence(run=make_run(selected=[]))) == []
    run = make_run(selections=["vc1_none", "vc2_none"], shot_detectors=["content_shots"])
    empty = {"protocol": {"kind": "selection", "thresholds": None}}
    systems = ("clip-vc1_none", "clip-vc2_none", "clip-content_shots")
    found = make_evidence(run=run, moments=dict.fromkeys(systems, empty), queries=dict.fromkeys(systems, []))
    assert effect(found) == []
