import numpy as np
import pytest

from stillmotion.report.moment_systems import (
    Selection,
    found_selections,
    groups_of,
    precisions_by_length,
    query_values,
    selections_of,
    shown_selection,
    spread_out,
    systems_for_windows,
)


def test_a_selection_is_told_by_what_it_was_searched_with_and_not_by_its_name(
    make_run, make_evidence, make_moments, make_thresholds
):
    run = make_run(selected=["clip"], selections=["mine"])
    thresholds = make_thresholds("vc2", "norm", "frame_AP@0.5")
    found = make_evidence(run=run, moments={"clip-mine": make_moments(thresholds=thresholds)})
    assert found_selections(found) == [Selection("clip-mine", "clip", "vc2", "norm", "frame_AP@0.5")]


def test_a_selection_without_a_result_is_none(make_run, make_evidence):
    empty = {"clip-vc1_none": {"protocol": {"kind": "selection", "thresholds": None}}}
    found = make_evidence(run=make_run(selections=["vc1_none"]), moments=empty)
    assert found_selections(found) == []
    assert groups_of(found) == []
    assert shown_selection(found) == ""
    assert systems_for_windows(found) == {}


def test_groups_are_of_one_model_and_one_objective(make_run, make_selected):
    run = make_run(selected=["clip", "b"], models=["clip", "b"], selections=["vc1_none_frames", "vc1_none", "vc2_none"])
    evidence = make_selected(run=run, vc1_none_frames=[0.5], vc1_none=[0.5], vc2_none=[0.5])
    assert [(model, objective, [row.system for row in rows]) for model, objective, rows in groups_of(evidence)] == [
        ("clip", "R1@0.5", ["clip-vc1_none", "clip-vc2_none"]),
        ("clip", "frame_AP@0.5", ["clip-vc1_none_frames"]),
        ("b", "R1@0.5", ["b-vc1_none", "b-vc2_none"]),
        ("b", "frame_AP@0.5", ["b-vc1_none_frames"]),
    ]
    assert list(systems_for_windows(evidence)) == ["clip-vc1_none", "b-vc1_none", "clip-vc2_none", "b-vc2_none"]


def test_of_two_selections_of_one_kind_the_first_stands_for_it(make_run, make_evidence, make_moments):
    run = make_run(selections=["vc1_none", "variant"])
    moments = {f"clip-{name}": make_moments() for name in run.selections}
    chosen = selections_of(make_evidence(run=run, moments=moments), "clip", "R1@0.5")
    assert chosen["vc1", "none"].system == "clip-vc1_none"
    assert len(chosen) == 1


def test_the_selection_with_the_most_recall_is_shown(make_selected):
    better = {"vc1_norm": {"brief": {"MR-full-R1@0.5": 60.0}}}
    assert shown_selection(make_selected(vc1_none=[0.1], vc1_norm=[0.1], metrics=better)) == "clip-vc1_norm"
    assert shown_selection(make_selected(vc1_none=[0.1], vc1_norm=[0.1])) == "clip-vc1_none"


def test_values_of_a_query_are_percent_and_recall_counts_from_an_iou_of_a_half(make_query):
    rows = [make_query(1, 0.5, average_precision=0.25, frame_iou=0.125), make_query(2, 0.4999)]
    assert query_values(rows, "R1@0.5").tolist() == [100.0, 0.0]
    assert query_values(rows, "mAP").tolist() == [25.0, 49.99]
    assert query_values(rows, "frame IoU").tolist() == [12.5, 49.99]
    assert query_values([], "mAP").tolist() == []


def test_precision_by_length_leaves_out_true_windows_of_other_lengths(make_query):
    rows = [
        # 6 s, found by the second of two windows: precision 1/2; nothing of the 40 s one, IoU 6/40
        make_query(1, 0.0, true=[[0.0, 6.0], [10.0, 50.0]], predicted_windows=[[10.0, 16.0, 0.9], [0.0, 6.0, 0.5]]),
        # 20 s; an IoU of 15/20 reaches 6 of the 10 thresholds from 0.5 to 0.95
        make_query(2, 0.0, true=[[0.0, 20.0]], predicted_windows=[[0.0, 15.0, 0.5]]),
        make_query(3, 0.0, true=[[0.0, 10.0]], predicted_windows=[]),
    ]
    found = precisions_by_length(rows)
    assert found["short"] == pytest.approx([50.0, 0.0])
    assert found["middle"] == pytest.approx([60.0])
    assert found["long"] == pytest.approx([0.0])


def test_rows_are_spread_from_the_first_to_the_last():
    assert spread_out(list(range(9)), 3) == [0, 4, 8]
    assert spread_out([1, 2], 5) == [1, 2]
    assert spread_out([1, 2, 3], 1) == [1]
    assert spread_out([], 3) == []


def test_percentages_are_floats(make_query):
    assert query_values([make_query(1, 1.0)], "R1@0.5").dtype == np.float64
