import pytest

from stillmotion.claims.compare import Measurement, judged
from stillmotion.claims.evidence import Search
from stillmotion.report.charts import (
    Points,
    assessment_charts,
    bars,
    line_chart,
    search_charts,
    strips,
    task_charts,
    ticks,
)
from stillmotion.report.systems import Cell, SystemRow, TaskTable


@pytest.mark.parametrize(
    ("low", "high", "marked"),
    [
        (28.3, 63.0, [20, 30, 40, 50, 60, 70]),
        (0.0, 100.0, [0, 20, 40, 60, 80, 100]),
        (14.0, 14.0, [14.0, 14.01]),
        (0.153, 0.162, [0.15, 0.16, 0.17]),
    ],
)
def test_ticks_are_round_and_lie_about_the_values(low, high, marked):
    assert ticks(low, high) == pytest.approx(marked)


def test_a_chart_has_its_first_and_last_counts_at_its_ends_and_halves_between():
    curves = [Points("a", [(1, 0.0, 0.0, 10.0), (2, 50.0, 40.0, 60.0), (4, 100.0, 90.0, 100.0)], level=50.0)]
    chart = line_chart("R@1", curves, "clips")
    (line,) = chart.lines
    # 34 and 8 are margins, 12 is kept free beside the points: 46 to 340, and 193 is half way
    assert [(mark.x, mark.y) for mark in line.marks] == [(46.0, 186.0), (193.0, 98.0), (340.0, 10.0)]
    assert (line.marks[1].low, line.marks[1].high, line.level) == (115.6, 80.4, 98.0)
    assert chart.x_ticks == [(46.0, "1"), (193.0, "2"), (340.0, "4")]
    assert line.marks[1].label == "2: 50.0 (40.0 to 60.0)"


def test_of_several_curves_intervals_stand_side_by_side_and_points_without_one_where_they_are():
    with_ends = [Points(name, [(1, 1.0, 0.0, 2.0), (2, 1.0, 0.0, 2.0)]) for name in "ab"]
    assert [line.marks[0].x for line in line_chart("", with_ends, "").lines] == [44.5, 47.5]
    without = [Points(name, [(1, 1.0, 1.0, 1.0), (2, 3.0, 3.0, 3.0)]) for name in "ab"]
    assert [line.marks[0].x for line in line_chart("", without, "").lines] == [46.0, 46.0]


def test_of_however_many_systems_no_point_stands_outside_of_the_frame():
    curves = [Points(str(name), [(1, 1.0, 0.0, 2.0), (2, 1.0, 0.0, 2.0)]) for name in range(18)]
    places = [mark.x for line in line_chart("", curves, "").lines for mark in line.marks]
    # between the margins, 34 to 360 − 8
    assert (min(places), max(places)) == (34.0, 352.0)


def test_one_point_is_no_curve_and_a_run_without_results_has_no_chart(make_evidence):
    assert line_chart("", [Points("a", [(1, 1.0, 1.0, 1.0)])], "") is None
    assert task_charts(make_evidence(), {}) == {"retrieval": [], "moments": [], "actions": []}


def told(line):
    return [mark.label for mark in line.marks], [mark.label for mark in line.marks if mark.is_dot]


def test_the_best_so_far_rises_in_steps_and_goes_on_to_the_last_trial_which_is_told(make_selection, make_evidence):
    trials = [{"value": value} for value in (10.0, 30.0, 20.0, 40.0, 5.0)]
    searches = {"clip-vc1_none": Search(trials, [])}
    (chart,) = search_charts(make_evidence(make_selection("vc1", "none", [0.5]), searches=searches))
    steps = ["1: 10.0", "2: 10.0", "2: 30.0", "4: 30.0", "4: 40.0", "5: 40.0"]
    assert told(chart.lines[0]) == (steps, ["5: 40.0"])
    assert chart.title == "clip, thresholds for windows: best R1@0.5 in % on train so far"


def test_what_is_searched_has_a_chart_each_where_a_system_keeps_its_colour_and_the_best_is_a_dot(
    make_selection, make_evidence
):
    smooth = make_selection("vc1", "log_smooth_norm", [0.5])
    smooth["protocol"]["thresholds"] |= {"parameters": {"threshold": 0.5, "window": 7}}
    points = [("threshold", 0.0, 10.0), ("threshold", 1.0, 5.0), ("window", 3, 50.0), ("window", 7, 55.27)]
    rows = [{"parameter": name, "at": at, "value": value} for name, at, value in points]
    searches = {"clip-vc1_none": Search([], rows[:2]), "clip-vc1_log_smooth_norm": Search([], rows)}
    threshold, window = search_charts(make_evidence(make_selection("vc1", "none", [0.5]), smooth, searches=searches))
    assert (threshold.across, window.across) == ("λ (threshold)", "M (window)")
    assert [line.name for line in threshold.lines] == ["vc1 none", "vc1 log_smooth_norm"]
    assert told(threshold.lines[1]) == (["0: 10.0", "0.5: 55.3", "1: 5.0"], ["0.5: 55.3"])
    # vc1_none has no M
    assert [(line.name, line.color) for line in window.lines] == [("vc1 log_smooth_norm", 1)]


def test_many_values_have_round_ticks_between_the_first_and_the_last():
    chart = line_chart("", [Points("a", [(x / 20, x, x, x) for x in range(-18, 21)])], "", float)
    assert [label for _, label in chart.x_ticks] == ["-0.5", "0", "0.5", "1"]


def test_the_assessment_is_a_line_a_model_over_the_thresholds(make_system, make_evidence):
    assert assessment_charts(make_evidence()) == []
    systems = [
        make_system("assessment", base=base, metrics={"IoU": iou})
        for base, iou in (("a", {"0.75": 30.0, "0.5": 40.0}), ("b", {"0.5": 50.0, "0.75": 20.0}), ("c", {}))
    ]
    (chart,) = assessment_charts(make_evidence(*systems))
    assert [(line.name, told(line)[0]) for line in chart.lines] == [
        ("a", ["0.5: 40.0", "0.75: 30.0"]),
        ("b", ["0.5: 50.0", "0.75: 20.0"]),
    ]


def test_bars_fall_and_say_which_is_the_best_and_which_a_reference():
    rows = [
        SystemRow("a", [Cell(10.0, 5.0, 15.0)], None, True),
        SystemRow("oracle", [Cell(100.0)], None, False),
        SystemRow("b", [Cell(30.0)], None, True),
        SystemRow("none", [Cell(None)], None, True),
    ]
    found = bars(TaskTable("moments", (), {"": rows}, rows[2], ""))
    assert [(bar.key, bar.kind, bar.low, bar.high) for bar in found] == [
        ("oracle", "reference", 100.0, 100.0),
        ("b", "best", 30.0, 30.0),
        ("a", "made", 5.0, 15.0),
    ]


def test_strips_share_a_scale_about_zero_on_which_what_is_to_be_beaten_stands_too():
    measured = [
        judged("a", 5.0, -2.5, 10.0, (), 2.0),
        Measurement("counted", "33 %", "holds", ()),
        judged("b", 0.0, 0.0, 0.0, ()),
    ]
    drawn = strips(measured)
    # the farthest end is 10 points, which is 48 % of the width from the middle
    assert list(drawn) == [0, 2]
    assert (drawn[0].point, drawn[0].low, drawn[0].high, drawn[0].above) == (74.0, 38.0, 98.0, 40.4)
    assert strips([judged("c", 0.0, 0.0, 0.0, ())])[0].point == 50.0
