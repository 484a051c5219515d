import pytest

from stillmotion.claims.compare import Measurement, judged
from stillmotion.report.charts import Points, bars, line_chart, strips, task_charts, ticks
from stillmotion.report.systems import Cell, SystemRow, TaskTable


@pytest.mark.parametrize(
    ("low", "high", "marked"),
    [(28.3, 63.0, [20, 30, 40, 50, 60, 70]), (0.0, 100.0, [0, 20, 40, 60, 80, 100]), (14.0, 14.0, [14.0, 14.1])],
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


def test_one_point_is_no_curve_and_a_run_without_results_has_no_chart(make_evidence):
    assert line_chart("", [Points("a", [(1, 1.0, 1.0, 1.0)])], "") is None
    assert task_charts(make_evidence(), {}) == {"retrieval": [], "moments": [], "actions": []}


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
    measured = [judged("a", 5.0, -2.5, 10.0, 2.0), Measurement("counted", "33 %", "holds"), judged("b", 0.0, 0.0, 0.0)]
    drawn = strips(measured)
    # the farthest end is 10 points, which is 48 % of the width from the middle
    assert list(drawn) == [0, 2]
    assert (drawn[0].point, drawn[0].low, drawn[0].high, drawn[0].above) == (74.0, 38.0, 98.0, 40.4)
    assert strips([judged("c", 0.0, 0.0, 0.0)])[0].point == 50.0
