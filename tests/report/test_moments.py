import pandas as pd
import pytest

from stillmotion.report.moments import by_kind, effects_table, parameters_in, searched_thresholds, spread_out


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


def test_thresholds_have_the_symbols_of_the_source_that_some_search_has(make_selection, make_evidence):
    selection = make_selection("vc2", "none", [0.5])
    selection["protocol"]["thresholds"] |= {"parameters": {"share": 0.5, "threshold": 0.25}}
    found = searched_thresholds(make_evidence(selection))
    assert list(found) == ["clip-vc2_none"]
    assert parameters_in(found, "parameters") == ["threshold", "share"]
    assert parameters_in(found, "importances") == []


@pytest.mark.parametrize(
    ("rows", "num", "spread"), [(range(9), 3, [0, 4, 8]), ([1, 2], 5, [1, 2]), ([1, 2, 3], 1, [1]), ([], 3, [])]
)
def test_rows_are_spread_from_the_first_to_the_last(rows, num, spread):
    assert spread_out(list(rows), num) == spread
