import pytest

from stillmotion.claims.windows import (
    FRAMES,
    WINDOWS,
    groups_of,
    metrics_for_windows,
    precisions_by_length,
    selections,
    shown_selection,
)


def test_a_selection_is_told_by_what_it_was_searched_with_and_not_by_its_name(make_selection, make_evidence):
    found = make_evidence(make_selection("vc2", "norm", [0.5], objective=FRAMES, scorer="mine"))
    (row,) = selections(found).to_dict("records")
    assert (row["key"], row["protocol.thresholds.method"]) == ("clip-mine", "vc2")
    assert selections(found, objective=WINDOWS).empty
    assert list(selections(found, objective=FRAMES, method="vc2")["key"]) == ["clip-mine"]


def test_a_selection_without_a_result_is_none(make_system, make_evidence):
    found = make_evidence(make_system("moments", protocol={"kind": "selection", "thresholds": None}))
    assert selections(found).empty
    assert (groups_of(found), shown_selection(found), metrics_for_windows(found)) == ([], "", {})


def test_groups_are_of_one_model_and_one_objective(make_selection, make_evidence):
    def of(base):
        yield make_selection("vc1", "none", [0.5], objective=FRAMES, base=base)
        yield make_selection("vc1", "none", [0.5], base=base)
        yield make_selection("vc2", "none", [0.5], base=base)

    found = make_evidence(*of("clip"), *of("b"))
    assert [(model, objective, [row["key"] for row in rows]) for model, objective, rows in groups_of(found)] == [
        ("clip", "R1@0.5", ["clip-vc1_none", "clip-vc2_none"]),
        ("clip", "frame_AP@0.5", ["clip-vc1_none_frames"]),
        ("b", "R1@0.5", ["b-vc1_none", "b-vc2_none"]),
        ("b", "frame_AP@0.5", ["b-vc1_none_frames"]),
    ]
    assert list(metrics_for_windows(found)) == ["clip-vc1_none", "clip-vc2_none", "b-vc1_none", "b-vc2_none"]


def test_the_selection_with_the_most_recall_is_shown_the_first_of_equals(make_selection, make_evidence):
    first = make_selection("vc1", "none", [0.1])
    better = {"brief": {"MR-full-R1@0.5": 60.0}}
    assert shown_selection(make_evidence(first, make_selection("vc1", "norm", [0.1]))) == "clip-vc1_none"
    found = make_evidence(first, make_selection("vc1", "norm", [0.1], metrics=better))
    assert shown_selection(found) == "clip-vc1_norm"


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
