import matplotlib.pyplot as plt
import numpy as np
import pytest

from stillmotion.claims.evidence import Search
from stillmotion.claims.windows import POSTS
from stillmotion.report.moment_figures import (
    METHOD_LINES,
    POST_COLORS,
    assessment_curves,
    drawn_moments,
    iou_distribution,
    length_points,
    search_curves,
    sensitivity_panels,
)


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def xy(line):
    return list(zip(np.asarray(line.get_xdata()).tolist(), np.asarray(line.get_ydata()).tolist(), strict=True))


def legend_of(axes):
    return axes.get_legend() and [text.get_text() for text in axes.get_legend().get_texts()]


def test_every_post_processing_and_method_has_a_look_of_its_own():
    assert set(POST_COLORS) == set(POSTS)
    assert len(set(POST_COLORS.values())) == 4
    assert len(set(METHOD_LINES.values())) == 3


def test_precision_is_drawn_by_length_and_a_length_without_queries_left_out(moment_metrics):
    second = moment_metrics | {"brief": moment_metrics["brief"] | {"MR-long-mAP": None}}
    axes = length_points({"a": moment_metrics, "b": second}).axes[0]
    assert {line.get_label(): xy(line) for line in axes.lines} == {
        "short": [(3.28, 0), (3.28, 1)],
        "middle": [(32.3, 0), (32.3, 1)],
        "long": [(41.11, 0)],
    }
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
    # the first on top
    assert axes.get_ylim()[0] > axes.get_ylim()[1]


def test_the_distribution_falls_from_all_queries_and_reads_recall_at_its_levels(make_selection, make_evidence):
    evidence = make_evidence(
        make_selection("vc1", "none", [0.7, 0.5, 0.4999, 0.0]), make_selection("vc2", "norm", [1.0] * 4)
    )
    top, frames = iou_distribution(evidence).axes
    share = dict(xy(top.lines[0]))
    assert (share[0.0], share[0.5], share[0.7], share[1.0]) == (100.0, 50.0, 25.0, 0.0)
    assert {value for _, value in xy(top.lines[1])} == {100.0}
    assert xy(frames.lines[0]) == xy(top.lines[0])
    assert legend_of(frames) == ["vc1 none", "vc2 norm"]
    assert top.lines[1].get_linestyle() == "--"


def test_each_model_and_objective_has_a_row(make_selection, make_evidence):
    systems = [
        make_selection("vc1", "none", [0.5], base=base, objective=objective)
        for base in ("clip", "b")
        for objective in ("R1@0.5", "frame_AP@0.5")
    ]
    figure = iou_distribution(make_evidence(*systems))
    assert [axes.get_title(loc="left") for axes in figure.axes[::2]] == [
        "clip, thresholds for windows",
        "clip, thresholds for frames",
        "b, thresholds for windows",
        "b, thresholds for frames",
    ]


def test_the_best_so_far_rises_where_a_trial_is_better_and_goes_on_to_the_last(make_selection, make_evidence):
    trials = [{"value": value} for value in (10.0, 30.0, 20.0, 40.0, 5.0)]
    searches = {"clip-vc1_none": Search(trials, [])}
    (axes,) = search_curves(make_evidence(make_selection("vc1", "none", [0.5]), searches=searches)).axes
    assert xy(axes.lines[0]) == [(1, 10), (2, 30), (4, 40), (5, 40)]
    assert axes.lines[0].get_drawstyle() == "steps-post"
    assert axes.get_ylabel() == "best R1@0.5 in %"


def test_sensitivity_has_a_panel_for_each_parameter_with_the_best_value_as_a_point(make_selection, make_evidence):
    smooth = make_selection("vc1", "log_smooth_norm", [0.5])
    smooth["protocol"]["thresholds"] |= {"parameters": {"threshold": 0.5, "window": 7}}
    points = [("threshold", 0.0, 10.0), ("threshold", 0.5, 55.27), ("window", 3, 50.0), ("window", 7, 55.27)]
    rows = [{"parameter": name, "at": at, "value": value} for name, at, value in points]
    searches = {"clip-vc1_none": Search([], rows[:1]), "clip-vc1_log_smooth_norm": Search([{"value": 1.0}], rows)}
    evidence = make_evidence(make_selection("vc1", "none", [0.5]), smooth, searches=searches)
    threshold_axes, window_axes = sensitivity_panels(evidence).axes
    assert [axes.get_xlabel() for axes in (threshold_axes, window_axes)] == ["λ (threshold)", "M (window)"]
    # vc1_none has no M
    assert [xy(line) for line in window_axes.lines] == [[(3, 50.0), (7, 55.27)], [(7, 55.27)]]
    assert xy(threshold_axes.lines[2]) == [(0.0, 10.0), (0.5, 55.27)]
    assert legend_of(window_axes) == ["vc1 none", "vc1 log_smooth_norm"]


def test_the_assessment_is_a_line_a_model_over_the_thresholds():
    metrics = {"a": {"IoU": {"0.75": 30.0, "0.5": 40.0}}, "b": {"IoU": {"0.5": 50.0, "0.75": 20.0}}}
    axes = assessment_curves(metrics).axes[0]
    assert [xy(line) for line in axes.lines] == [[(0.5, 40.0), (0.75, 30.0)], [(0.5, 50.0), (0.75, 20.0)]]


def test_figures_are_drawn_for_what_has_results(make_system, make_selection, make_evidence, moment_metrics):
    assessed = make_system("assessment", metrics={"IoU": {"0.5": 40.0}})
    empty = make_system("moments", protocol={"kind": "selection", "thresholds": None})
    nothing = make_system("assessment", metrics={"IoU": {}, "mean_IoU": None, "ci95": {}})
    assert drawn_moments(make_evidence()) == {}
    assert drawn_moments(make_evidence(empty, nothing)) == {}
    assert set(drawn_moments(make_evidence(assessed))) == {"assessment"}
    reference = make_system("moments", scorer="oracle", metrics=moment_metrics, protocol={"kind": "reference"})
    assert set(drawn_moments(make_evidence(reference))) == {"moment_lengths"}
    searches = {"clip-vc1_none": Search([{"value": 50.0}], [{"parameter": "threshold", "at": 0.0, "value": 50.0}])}
    selected = drawn_moments(make_evidence(make_selection("vc1", "none", [0.5]), searches=searches))
    assert set(selected) == {"moment_lengths", "iou_distribution", "optimisation", "sensitivity"}
