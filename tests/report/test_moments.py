import pandas as pd
import pytest

from stillmotion.claims.systems import Origin
from stillmotion.report.moments import (
    assessment_table,
    by_kind,
    effects_table,
    importances_table,
    lengths_tables,
    spread_out,
    thresholds_table,
)


def rows_of(table):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def test_systems_stand_under_what_they_are(moment_metrics):
    def metrics(kind, **thresholds):
        return moment_metrics | {"protocol": {"kind": kind, "thresholds": thresholds or None}}

    found = by_kind(
        {
            "oracle": metrics("reference"),
            "clip-vc1_frames": metrics("selection", objective="frame_AP@0.5"),
            "other": metrics("submission"),
            "clip-shots": metrics("shots"),
            "clip-vc1": metrics("selection", objective="R1@0.5"),
            "nothing": {"protocol": {"kind": "selection", "thresholds": None}},
        }
    )
    assert {title: list(group) for title, group in found.items()} == {
        "Selections, thresholds searched for windows": ["clip-vc1"],
        "Selections, thresholds searched for frames": ["clip-vc1_frames"],
        "Shots of a detector, ranked by the model": ["clip-shots"],
        "References, which look at no frame; `oracle` is a bound: it answers with the true windows": ["oracle"],
        "Submissions of other systems": ["other"],
    }


def published(**values):
    """Numbers of `VC1_none={"R1@0.5": "35.34"}`, a system each."""
    rows = [
        {"system": name.replace("_", " post=", 1), "metric": metric, "value": value}
        for name, row in values.items()
        for metric, value in row.items()
    ]
    return pd.DataFrame(rows, columns=["system", "metric", "value"]).assign(document="VClipper (Caravaca 2024)")


NUMBERS = published(
    VC1_none={"R1@0.5": "35.34", "mAP": "16.97", "frame_IoU": "0.46"},
    VC1_norm={"R1@0.5": "37.26", "mAP": "21.97", "frame_IoU": "0.49"},
    VC2_norm={"R1@0.5": "47.32", "mAP": "24.22"},
)


def test_effects_stand_beside_those_of_the_source(make_selection, make_evidence):
    ious = {("vc1", "none"): 0.25, ("vc1", "norm"): 0.75, ("vc2", "norm"): 0.5}
    evidence = make_evidence(*(make_selection(*which, [iou] * 20) for which, iou in ious.items()))
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


def test_thresholds_for_frames_are_compared_with_the_frames_of_the_source_alone(make_selection, make_evidence):
    frames = {"objective": "frame_AP@0.5"}
    evidence = make_evidence(
        make_selection("vc1", "none", [0.25] * 20, **frames),
        make_selection("vc1", "norm", [0.75] * 20, **frames),
        make_selection("vc1", "norm", [0.1] * 20),
    )
    (row,) = rows_of(effects_table(evidence, NUMBERS))[2:]
    assert row[0] == "clip-vc1_norm_frames − clip-vc1_none_frames"
    assert row[2::2] == ["–", "–", "+3.0"]


def test_effects_of_a_model_and_an_objective_stand_together(make_selection, make_evidence):
    evidence = make_evidence(
        *(make_selection("vc1", post, [0.5] * 9, base=base) for base in ("a", "b") for post in ("none", "norm")),
        *(make_selection("vc2", "none", [0.5] * 9, base=base) for base in ("a", "b")),
        make_selection("vc1_beta", "none", [0.5] * 9, base="b"),
    )
    assert [row[0] for row in rows_of(effects_table(evidence, NUMBERS))[2:]] == [
        "a-vc1_norm − a-vc1_none",
        "a-vc2_none − a-vc1_none",
        "b-vc1_norm − b-vc1_none",
        "b-vc2_none − b-vc1_none",
        "b-vc1_beta_none − b-vc1_none",
    ]


def test_effects_need_two_selections_and_no_source(make_selection, make_evidence):
    first, second = (make_selection("vc1", post, [0.5] * 9) for post in ("none", "norm"))
    assert effects_table(make_evidence(first), NUMBERS) == ""
    assert effects_table(make_evidence(), NUMBERS) == ""
    assert rows_of(effects_table(make_evidence(first, second), published()))[2][2::2] == ["–", "–", "–"]


def test_thresholds_have_a_dash_for_what_is_not_searched_and_one_without_importances_no_row(
    make_evidence, make_selection
):
    first, second = make_selection("vc1", "log_smooth_norm", [0.5]), make_selection("vc2", "none", [0.5])
    first["protocol"]["thresholds"] |= {"parameters": {"threshold": 0.61234567, "window": 7}}
    second["protocol"]["thresholds"] |= {"parameters": {"threshold": 0.25, "change": 0.8, "share": 0.5}}
    evidence = make_evidence(first, second)
    table = thresholds_table(evidence)
    assert table.header == ["selection", "λ", "α", "p", "M", "objective", "its value on train"]
    assert table.rows == [
        ["clip-vc1_log_smooth_norm", "0.6123", "–", "–", "7", "R1@0.5", "55.3"],
        ["clip-vc2_none", "0.25", "0.8", "0.5", "–", "R1@0.5", "55.3"],
    ]
    assert table.rows[1][0].origins == [Origin("moments", "clip-vc2_none")]
    assert importances_table(evidence) == ""
    second["protocol"]["thresholds"] |= {"importances": {"change": 0.75, "threshold": 0.2, "share": 0.05}}
    table = importances_table(make_evidence(first, second))
    assert (table.header, table.rows) == (
        ["importance in %", "λ", "α", "p"],
        [["clip-vc2_none", "20.0", "75.0", "5.0"]],
    )
    assert thresholds_table(make_evidence()) == ""


def test_precision_by_length_is_of_what_is_for_windows_under_what_it_is(
    make_evidence, make_selection, make_system, moment_metrics
):
    brief = moment_metrics["brief"] | {"MR-long-mAP": None}
    one = moment_metrics | {"brief": brief}
    oracle = make_system("moments", scorer="oracle", metrics=one, protocol={"kind": "reference"})
    for_frames = make_selection("vc1", "none", [0.5], objective="frame_AP@0.5")
    (table,) = lengths_tables(make_evidence(make_selection("vc1", "none", [0.5]), for_frames, oracle))
    assert table.header == ["mAP by length", "short", "middle", "long"]
    assert [title.split(",")[0] for title in table.groups] == ["Selections", "References"]
    assert [[(row.name, row.values, row.origin) for row in rows] for rows in table.groups.values()] == [
        [("clip-vc1_none", [3.28, 32.3, 41.11], Origin("moments", "clip-vc1_none"))],
        [("clip-oracle", [3.28, 32.3, None], Origin("moments", "clip-oracle"))],
    ]
    assert lengths_tables(make_evidence()) == []


def test_the_assessment_has_a_column_for_each_threshold_and_the_mean(make_evidence, make_system):
    metrics = {"IoU": {"0.5": 41.0, "0.55": 40.0}, "mean_IoU": 40.5, "ci95": {"mean_IoU": [38.0, 43.0]}}
    nothing = make_system("assessment", base="none", metrics={"IoU": {}, "mean_IoU": None, "ci95": {}})
    table = assessment_table(make_evidence(make_system("assessment", metrics=metrics), nothing))
    assert table.header == ["mean frame IoU", "λ 0.5", "λ 0.55", "mean over λ"]
    assert table.rows == [["clip", "41.0", "40.0", "40.5 (38.0 to 43.0)"]]
    assert assessment_table(make_evidence(nothing)) == ""


@pytest.mark.parametrize(
    ("rows", "num", "spread"), [(range(9), 3, [0, 4, 8]), ([1, 2], 5, [1, 2]), ([1, 2, 3], 1, [1]), ([], 3, [])]
)
def test_rows_are_spread_from_the_first_to_the_last(rows, num, spread):
    assert spread_out(list(rows), num) == spread
