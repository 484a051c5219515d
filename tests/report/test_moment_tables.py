import pytest

from stillmotion.report.moment_tables import (
    assessment_table,
    effects_table,
    importances_table,
    lengths_table,
    moments_table,
    thresholds_table,
)
from stillmotion.report.published import PublishedNumber


def rows_of(table):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def test_moments_show_the_official_numbers_and_the_additions_as_given(make_moments):
    header, _, group, row = rows_of(moments_table({"clip-vc1": make_moments()}))
    assert header == [
        "system",
        "R1@0.5",
        "R1@0.7",
        "mAP",
        "mIoU",
        "frame IoU",
        "coverage",
        "selected",
        "HL Hit1",
        "empty",
    ]
    assert group == ["**Selections, thresholds searched for windows**", *[""] * 9]
    assert row == [
        "clip-vc1",
        "53.9 (50.0 to 58.0)",
        "34.8",
        "32.2 (30.0 to 34.0)",
        "48.6 (45.0 to 51.0)",
        "41.1 (39.0 to 43.0)",
        "71.2",
        "22.2",
        "–",
        "3",
    ]
    rated = make_moments()
    rated["brief"]["HL-min-VeryGood-Hit1"] = 60.0
    assert rows_of(moments_table({"clip-vc1": rated}))[3][-2] == "60.0"


def test_systems_stand_under_what_they_are_and_only_selections_have_frames_of_their_own(make_moments, make_thresholds):
    metrics = {
        "oracle": make_moments("reference"),
        "clip-vc1_frames": make_moments(thresholds=make_thresholds(objective="frame_AP@0.5")),
        "other": make_moments("submission"),
        "clip-shots": make_moments("shots"),
        "clip-vc1": make_moments(),
        "clip-vc2": make_moments(),
    }
    rows = rows_of(moments_table(metrics))[2:]
    assert [row[0] for row in rows] == [
        "**Selections, thresholds searched for windows**",
        "clip-vc1",
        "clip-vc2",
        "**Selections, thresholds searched for frames**",
        "clip-vc1_frames",
        "**Shots of a detector, ranked by the model**",
        "clip-shots",
        "**References, which look at no frame; `oracle` is a bound: it answers with the true windows**",
        "oracle",
        "**Submissions of other systems**",
        "other",
    ]
    assert [row[0] for row in rows if row[5].endswith("†")] == ["clip-shots", "oracle", "other"]


def test_without_a_result_the_dataset_is_said_to_have_no_moments():
    empty = {"x": {"protocol": {"kind": "selection", "thresholds": None}}}
    assert moments_table(empty) == "The dataset has no moments in its train or test split."
    assert moments_table({}) == "params.run names no system of moment retrieval."


def test_precision_by_length_has_a_dash_where_no_query_is(make_moments):
    values = make_moments()
    values["brief"]["MR-short-mAP"] = None
    header, _, row = rows_of(lengths_table({"clip-vc1": values}))
    assert header == ["mAP", "short (up to 10 s)", "middle (10 to 30 s)", "long (30 to 150 s)"]
    assert row == ["clip-vc1", "–", "32.3", "41.1"]
    assert lengths_table({}) == ""


def published(**values):
    """Numbers of `VC1_none={"R1@0.5": "35.34"}`, a system each."""
    return [
        PublishedNumber(name.replace("_", " post=", 1), "QVHighlights", "val", metric, value, "VClipper (2024) sec 4.2")
        for name, row in values.items()
        for metric, value in row.items()
    ]


NUMBERS = published(
    VC1_none={"R1@0.5": "35.34", "mAP": "16.97", "frame_IoU": "0.46"},
    VC1_norm={"R1@0.5": "37.26", "mAP": "21.97", "frame_IoU": "0.49"},
    VC2_norm={"R1@0.5": "47.32", "mAP": "24.22"},
)


def test_effects_stand_beside_those_of_the_source(make_selected):
    evidence = make_selected(vc1_none=[0.25] * 20, vc1_norm=[0.75] * 20, vc2_norm=[0.5] * 20)
    header, _, *rows = rows_of(effects_table(evidence, NUMBERS))
    assert header[1::2] == ["R1@0.5", "mAP", "frame IoU"]
    assert set(header[2::2]) == {"of the source (QVHighlights, another model)"}
    # 37.26 − 35.34, 21.97 − 16.97, 100 · (0.49 − 0.46)
    assert rows[0] == [
        "clip-vc1_norm − clip-vc1_none",
        "+100.0 (+100.0 to +100.0)",
        "+1.9",
        "+50.0 (+50.0 to +50.0)",
        "+5.0",
        "+50.0 (+50.0 to +50.0)",
        "+3.0",
    ]
    # what the source does not say is open
    assert rows[1][0] == "clip-vc2_norm − clip-vc1_norm"
    assert rows[1][1::2] == ["+0.0 (+0.0 to +0.0)", "-25.0 (-25.0 to -25.0)", "-25.0 (-25.0 to -25.0)"]
    assert rows[1][2::2] == ["+10.1", "+2.2", "–"]
    assert len(rows) == 2


def test_thresholds_for_frames_are_compared_with_the_frames_of_the_source_alone(make_selected):
    evidence = make_selected(vc1_none_frames=[0.25] * 20, vc1_norm_frames=[0.75] * 20, vc1_norm=[0.1] * 20)
    (row,) = rows_of(effects_table(evidence, NUMBERS))[2:]
    assert row[0] == "clip-vc1_norm_frames − clip-vc1_none_frames"
    assert row[2::2] == ["–", "–", "+3.0"]


def test_effects_need_two_selections_and_no_source(make_selected, make_evidence, make_run):
    assert effects_table(make_selected(vc1_none=[0.5]), NUMBERS) == ""
    assert effects_table(make_evidence(run=make_run(selected=[])), NUMBERS) == ""
    rows = rows_of(effects_table(make_selected(vc1_none=[0.5] * 9, vc1_norm=[0.5] * 9), []))
    assert rows[2][2::2] == ["–", "–", "–"]


def test_thresholds_have_the_symbols_of_the_source_and_a_dash_for_what_is_not_searched(
    make_run, make_evidence, make_moments, make_thresholds
):
    first = make_thresholds("vc1", "log_smooth_norm", threshold=0.61234567, window=7)
    second = make_thresholds("vc2", "none", threshold=0.25, change=0.8, share=0.5)
    second["importances"] = {"change": 0.75, "threshold": 0.2, "share": 0.05}
    run = make_run(selections=["a", "b"])
    moments = {"clip-a": make_moments(thresholds=first), "clip-b": make_moments(thresholds=second)}
    evidence = make_evidence(run=run, moments=moments)
    assert rows_of(thresholds_table(evidence)) == [
        ["selection", "λ", "α", "p", "M", "objective", "its value on train"],
        ["---", *["---:"] * 6],
        ["clip-a", "0.6123", "–", "–", "7", "R1@0.5", "55.3"],
        ["clip-b", "0.25", "0.8", "0.5", "–", "R1@0.5", "55.3"],
    ]
    # a selection without importances has no row
    assert rows_of(importances_table(evidence)) == [
        ["importance in %", "λ", "α", "p"],
        ["---", *["---:"] * 3],
        ["clip-b", "20.0", "75.0", "5.0"],
    ]


def test_without_selections_there_are_no_thresholds(make_run, make_evidence):
    evidence = make_evidence(run=make_run(selected=[]))
    assert thresholds_table(evidence) == importances_table(evidence) == ""


@pytest.mark.parametrize("nothing", [{}, {"clip": {"IoU": {}, "mean_IoU": None, "ci95": {}, "protocol": {}}}])
def test_a_dataset_without_moments_has_no_assessment(nothing):
    assert assessment_table(nothing) == ""


def test_the_assessment_has_a_column_for_each_threshold_and_the_mean():
    metrics = {
        "clip": {"IoU": {"0.5": 41.0, "0.55": 40.0}, "mean_IoU": 40.5, "ci95": {"mean_IoU": [38.0, 43.0]}},
        "none": {"IoU": {}, "mean_IoU": None, "ci95": {}},
    }
    assert rows_of(assessment_table(metrics)) == [
        ["mean frame IoU", "λ 0.5", "λ 0.55", "mean over λ"],
        ["---", *["---:"] * 3],
        ["clip", "41.0", "40.0", "40.5 (38.0 to 43.0)"],
    ]
