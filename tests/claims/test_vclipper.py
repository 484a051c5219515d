import numpy as np
import pytest

from stillmotion.claims.vclipper import (
    VCLIPPER,
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

SMOOTH = "log_smooth_norm"


def summary(measurements):
    return [(found.what, found.effect.split(" ")[0], found.verdict) for found in measurements]


def hits(share):
    """IoUs of 20 queries, of which this share reach 0.5."""
    return [0.6] * round(20 * share) + [0.2] * round(20 * (1 - share))


def test_post_processings_are_compared_under_one_method_by_what_they_were_searched_with(make_selection, make_evidence):
    found = make_evidence(
        make_selection("vc1", "none", hits(0.4), scorer="mine"),
        make_selection("vc1", "norm", hits(0.5)),
        make_selection("vc2", "none", hits(0.4)),
        make_selection("vc2", "norm", hits(0.4)),
        make_selection("vc1", "norm", hits(1.0), objective="frame_AP@0.5"),
    )
    assert summary(norm_helps(found)) == [
        ("clip-vc1_norm − clip-mine (R1@0.5)", "+10.0", "undecided"),
        ("clip-vc2_norm − clip-vc2_none (R1@0.5)", "+0.0", "undecided"),
    ]


@pytest.mark.parametrize(("share", "verdict"), [(0.95, "holds"), (0.5, "undecided"), (0.4, "does not hold")])
def test_smoothing_must_help_vc1_by_more_than_ten_points(make_selection, make_evidence, share, verdict):
    found = make_evidence(make_selection("vc1", "none", hits(0.4)), make_selection("vc1", SMOOTH, hits(share)))
    (row,) = smoothing_helps_vc1(found)
    assert (row.effect.split(" ")[0], row.verdict) == (f"{100 * (share - 0.4):+.1f}", verdict)


def test_the_gain_of_vc2_is_held_against_zero_and_against_that_of_vc1_of_the_same_model(make_selection, make_evidence):
    systems = [
        make_selection(method, post, hits(share), base=base)
        for base in ("clip", "b")
        for method, post, share in (
            ("vc1", "none", 0.0),
            ("vc1", SMOOTH, 1.0),
            ("vc2", "none", 0.0),
            ("vc2", SMOOTH, 1.0 if base == "clip" else 0.0),
        )
    ]
    assert summary(smoothing_helps_vc2_less(make_evidence(*systems))) == [
        (f"clip-vc2_{SMOOTH} − clip-vc2_none (R1@0.5)", "+100.0", "holds"),
        (f"b-vc2_{SMOOTH} − b-vc2_none (R1@0.5)", "+0.0", "undecided"),
        ("clip: gain of VC1 by smoothing − gain of VC2 (R1@0.5)", "+0.0", "undecided"),
        ("b: gain of VC1 by smoothing − gain of VC2 (R1@0.5)", "+100.0", "holds"),
    ]


def test_adjust_norm_is_held_against_none_by_recall_and_by_map(make_selection, make_evidence):
    found = make_evidence(
        make_selection("vc1", "none", hits(0.0)),
        make_selection("vc1", "adjust_norm", hits(1.0)),
        make_selection("vc2", "none", [0.2] * 20),
        make_selection("vc2", "adjust_norm", [0.3] * 20),
    )
    assert summary(adjust_norm_helps(found)) == [
        ("clip-vc1_adjust_norm − clip-vc1_none (R1@0.5)", "+100.0", "holds"),
        ("clip-vc2_adjust_norm − clip-vc2_none (mAP)", "+10.0", "holds"),
    ]


def test_frame_iou_is_compared_with_thresholds_for_frames(make_selection, make_evidence):
    windows = [make_selection("vc1", "none", [0.2] * 20), make_selection("vc1", SMOOTH, [0.9] * 20)]
    assert smoothing_raises_frame_iou(make_evidence(*windows)) == []
    frames = [
        make_selection("vc1", post, [iou] * 20, objective="frame_AP@0.5")
        for post, iou in (("none", 0.2), (SMOOTH, 0.3))
    ]
    found = make_evidence(*windows, *frames)
    what = f"clip-vc1_{SMOOTH}_frames − clip-vc1_none_frames (frame IoU)"
    assert summary(smoothing_raises_frame_iou(found)) == [(what, "+10.0", "holds")]
    assert [row.effect.split(" ")[0] for row in smoothing_helps_vc1(found)] == ["+100.0"]


def test_smoothed_vc1_is_held_against_smoothed_vc2_and_the_shots_of_each_detector(
    make_selection, make_system, make_query, make_evidence
):
    shots = [
        make_system("moments", scorer=name, protocol={"kind": "shots"}, windows=rows)
        for name, rows in (("content", [make_query(qid, iou) for qid, iou in enumerate(hits(0.4))]), ("adaptive", []))
    ]
    found = make_evidence(make_selection("vc1", SMOOTH, hits(0.7)), make_selection("vc2", SMOOTH, hits(0.9)), *shots)
    assert summary(smoothed_vc1_beats_shots(found)) == [
        (f"clip-vc1_{SMOOTH} − clip-content (R1@0.5)", "+30.0", "holds")
    ]
    assert [row.effect.split(" ")[0] for row in smoothed_vc1_is_best(found)] == ["-20.0"]


@pytest.fixture
def rows_of_length(make_query):
    """20 queries with a true window of some length; the first of them are answered exactly, the others beside it."""

    def rows(length, found, start=0):
        return [
            make_query(
                start + row,
                0.0,
                true=[[0.0, float(length)]],
                predicted_windows=[[0.0, float(length), 0.5] if row < found else [100.0, 110.0, 0.5]],
            )
            for row in range(20)
        ]

    return rows


def test_short_windows_must_be_below_middle_and_long_ones(make_selection, make_evidence, rows_of_length):
    short, middle = rows_of_length(6, 1), rows_of_length(20, 15, 20)

    def measured(long):
        rows = [*short, *middle, *rows_of_length(60, long, 40)]
        return short_windows_are_hardest(make_evidence(make_selection("vc1", "none", [], windows=rows)))

    (row,) = measured(18)
    assert row.what == "clip-vc1_none: mAP of middle and long − short"
    # 75 − 5 and 90 − 5
    assert row.effect.startswith("middle +70.0 points (")
    assert "), long +85.0 points (" in row.effect
    assert row.verdict == "holds"
    assert [row.verdict for row in measured(0)] == ["undecided"]


def test_two_lengths_are_drawn_apart(make_selection, make_evidence, rows_of_length):
    rows = [*rows_of_length(6, 5), *rows_of_length(20, 15, 20)]
    (row,) = short_windows_are_hardest(make_evidence(make_selection("vc1", "none", [], windows=rows)))
    low, high = (float(cell) for cell in row.effect.split("(")[1].removesuffix(")").split(" to "))
    # the normal interval of two independent shares of 1/4 and 3/4 of 20: 50 ± 1.96 · 100 · √(2 · 3/16 / 20)
    half = 196 * np.sqrt(2 * 3 / 16 / 20)
    assert low == pytest.approx(50 - half, abs=6)
    assert high == pytest.approx(50 + half, abs=6)


@pytest.mark.parametrize("length", [6, 20])
def test_lengths_that_no_query_has_are_left_out(make_selection, make_evidence, rows_of_length, length):
    selection = make_selection("vc1", "none", [], windows=rows_of_length(length, 1))
    assert short_windows_are_hardest(make_evidence(selection)) == []


BOUNDARIES = {"recall": 62.04, "precision": None, "chance_recall": 40.0, "above_chance": 22.04, "ci95": [15.0, 28.0]}
BOUNDARIES |= {"num_boundaries": 300, "num_cuts": 0}


def test_cuts_are_told_from_chance_by_the_interval_of_the_metrics(make_selection, make_evidence):
    metrics = [{"boundaries": BOUNDARIES}, {"boundaries": BOUNDARIES | {"ci95": [-1.0, 2.0]}}, {}]
    metrics.append({"boundaries": dict.fromkeys(BOUNDARIES)})
    posts = ("none", "norm", SMOOTH, "adjust_norm")
    systems = [make_selection("vc2", post, [0.5], metrics=own) for post, own in zip(posts, metrics, strict=True)]
    first, second = cuts_are_boundaries(make_evidence(*systems, make_selection("vc1", "none", [0.5])))
    assert first.what == "clip-vc2_none: 62.0 % of 300 boundaries, 40.0 % by chance; – % of 0 cuts"
    assert (first.effect, first.verdict) == ("+22.0 points (+15.0 to +28.0)", "holds")
    assert second.verdict == "undecided"


def test_without_moments_nothing_is_measured(make_system, make_evidence):
    empty = {"kind": "selection", "thresholds": None}
    systems = [make_system("moments", scorer=name, protocol=empty) for name in ("vc1_none", "vc2_none")]
    for found in (make_evidence(), make_evidence(*systems)):
        assert [claim.measure(found) for claim in VCLIPPER.claims] == [[]] * len(VCLIPPER.claims)
