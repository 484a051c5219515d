from typing import get_args

import matplotlib.pyplot as plt
import numpy as np
import pytest

from stillmotion.config.evaluation import Method, PostProcessing
from stillmotion.report.moment_figures import (
    METHOD_LINES,
    POST_COLORS,
    drawn_moments,
    iou_distribution,
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
    assert len(set(POST_COLORS.values())) == len(POST_COLORS)
    assert POST_COLORS.keys() == set(get_args(PostProcessing))
    assert len(set(METHOD_LINES.values())) == len(METHOD_LINES)
    assert METHOD_LINES.keys() == set(get_args(Method))


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


def test_figures_are_drawn_for_what_has_results(make_system, make_selection, make_evidence, moment_metrics):
    empty = make_system("moments", protocol={"kind": "selection", "thresholds": None})
    assert drawn_moments(make_evidence()) == {}
    assert drawn_moments(make_evidence(empty)) == {}
    reference = make_system("moments", scorer="oracle", metrics=moment_metrics, protocol={"kind": "reference"})
    assert drawn_moments(make_evidence(reference)) == {}
    assert set(drawn_moments(make_evidence(make_selection("vc1", "none", [0.5])))) == {"iou_distribution"}
