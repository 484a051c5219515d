import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import matplotlib.pyplot as plt
import numpy as np
import pytest

from stillmotion.report.figures import (
    clips_curves,
    drawn_systems,
    recall_bars,
    save_figure,
    shots_curves,
)

WRITE = """
import sys
from pathlib import Path
import numpy as np
from stillmotion.moments.example_figure import example_panels
from stillmotion.report.figures import (
    clips_curves, recall_bars, save_figure, shots_curves
)

folder = Path(sys.argv[1])
values = {"a": 40, "b": 60}
recall = {name: {"t2v": {"R@1": value, "ci95": {"R@1": [value - 5, value + 6]}}} for name, value in values.items()}
save_figure(recall_bars(recall), folder / "retrieval.svg")
by_clips = {str(count): {"t2v": {"R@1": 40 + count, "ci95": {"R@1": [35, 50]}}} for count in (1, 2)}
metrics = {"by_num_clips": by_clips, "protocol": {"clip_frames": 8}}
clips = [{"model": "a", "scorer": "mean", "recipe": None, "metrics": metrics}]
save_figure(clips_curves(clips), folder / "clips.svg")
top1 = {str(shot): {"mean": 10.0 * shot, "std": 1.0} for shot in (1, 2, 4)}
actions = {"a": {"top1": top1, "zero_shot": {"top1": 20.0}, "protocol": {"chance_top1": 12.5}}}
save_figure(shots_curves(actions), folder / "actions.svg")
history = [{"epoch": epoch, "loss": 2.0 - epoch, "score": 30.0 + epoch} for epoch in range(3)]
example = {
    "query": "q", "vid": "v", "duration": 6.0, "place": "best", "top1_iou": 0.5, "clip_length_s": 2.0,
    "sc": [0.1, 0.5, 0.2], "processed": [0.0, 1.0, 0.25], "cfsc": [0.5, 0.6], "cuts": [1], "threshold": 0.5,
    "true_windows": [[2, 4]], "predicted_windows": [[2, 4, 0.5]],
}
strip = np.arange(48, dtype=np.uint8).reshape(2, 8, 3)
save_figure(example_panels([example, example], [strip, strip], 0.5), folder / "moments.svg")
"""
NAMES = ("actions.svg", "clips.svg", "moments.svg", "retrieval.svg")


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.mark.slow
def test_figures_are_the_same_bytes_in_two_processes_and_say_no_date(tmp_path):
    for name in ("one", "two"):
        subprocess.run([sys.executable, "-c", WRITE, str(tmp_path / name)], check=True, timeout=120)
    for name in NAMES:
        first = (tmp_path / "one" / name).read_bytes()
        assert first == (tmp_path / "two" / name).read_bytes(), name
        assert ElementTree.fromstring(first).tag.endswith("svg")
        assert b"<dc:date>" not in first


def retrieval(**values):
    return {name: {"t2v": {"R@1": value, "ci95": {"R@1": [low, high]}}} for name, (value, low, high) in values.items()}


def test_bars_are_as_long_as_the_recall_and_whiskers_as_the_interval():
    axes = recall_bars(retrieval(a=(40.0, 35.0, 46.0), b=(60.0, 50.0, 65.0))).axes[0]
    assert [bar.get_width() for bar in axes.patches] == [40, 60]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
    segments = [segment for lines in axes.collections for segment in lines.get_segments()]
    assert sorted(tuple(segment[:, 0]) for segment in segments) == [(35, 46), (50, 65)]


def test_a_value_outside_its_interval_has_no_whisker_on_that_side():
    axes = recall_bars(retrieval(a=(40.0, 41.0, 46.0))).axes[0]
    (segment,) = [segment for lines in axes.collections for segment in lines.get_segments()]
    assert segment[:, 0].tolist() == [40, 46]


def test_a_system_without_a_result_has_no_bar():
    axes = recall_bars(retrieval(a=(40.0, 35.0, 46.0)) | {"b": {"t2v": None}}).axes[0]
    assert len(axes.patches) == 1


def system(model, scorer, clip_frames, *, recipe=None, **recalls):
    """A system with R@1 by number of clips, with an interval from 5 below to 6 above."""
    by_num_clips = {
        count: {"t2v": {"R@1": value, "ci95": {"R@1": [value - 5, value + 6]}}} for count, value in recalls.items()
    }
    metrics = {"by_num_clips": by_num_clips, "protocol": {"clip_frames": clip_frames}}
    return {"model": model, "scorer": scorer, "recipe": recipe, "metrics": metrics}


def points_of(container):
    line = container.lines[0]
    return list(zip(np.asarray(line.get_xdata()).tolist(), np.asarray(line.get_ydata()).tolist(), strict=True))


def test_recall_is_drawn_by_frames_with_a_panel_for_each_scorer_and_kind_of_model():
    systems = [
        system("a", "mean", 8, **{"1": 30.0, "2": 40.0, "10": 50.0}),
        system("a", "token", 8, **{"1": 35.0, "2": 45.0}),
        system("a-tuned", "mean", 16, recipe="half", **{"1": 60.0}),
        system("a-tuned", "token", 16, recipe="half", **{"1": 65.0}),
    ]
    figure = clips_curves(systems)
    base_mean, base_token, tuned_mean, tuned_token = figure.axes
    assert [axes.get_title() for axes in figure.axes] == ["mean", "token", "", ""]
    assert points_of(base_mean.containers[0]) == [(8, 30), (16, 40), (80, 50)]
    assert points_of(base_token.containers[0]) == [(8, 35), (16, 45)]
    assert points_of(tuned_token.containers[0]) == [(16, 65)]
    segments = [segment for lines in tuned_mean.collections for segment in lines.get_segments()]
    assert [segment[:, 1].tolist() for segment in segments] == [[55, 66]]
    legends = [axes.get_legend() for axes in figure.axes]
    assert [legend and [text.get_text() for text in legend.get_texts()] for legend in legends] == [
        None,
        ["a"],
        None,
        ["a-tuned"],
    ]


def test_models_stand_side_by_side_around_their_number_of_frames():
    systems = [system(model, "mean", 8, **{"1": 30.0, "2": 40.0}) for model in "abc"]
    (axes,) = clips_curves(systems).axes
    at_8 = [points_of(container)[0][0] for container in axes.containers]
    assert at_8 == sorted(at_8)
    assert at_8[1] == 8
    assert 8 - at_8[0] == pytest.approx(at_8[2] - 8)
    assert at_8[2] < 9
    assert axes.get_xticks().tolist() == [8, 16]


def actions(num_systems=1):
    top1 = {"16": {"mean": 55.0, "std": 1.0}, "2": {"mean": 30.0, "std": 2.0}}
    values = {"top1": top1, "zero_shot": {"top1": 20.0}, "protocol": {"chance_top1": 12.5}}
    return {f"system {row}": values for row in range(num_systems)}


def test_shots_rise_along_the_axis_with_zero_shot_and_chance_beside_them():
    axes = shots_curves(actions() | {"none": {"top1": {}, "zero_shot": None}}).axes[0]
    curve = axes.containers[0].lines[0]
    assert (curve.get_xdata().tolist(), curve.get_ydata().tolist()) == ([2, 16], [30, 55])
    levels = [line.get_ydata() for line in axes.lines if len(set(line.get_ydata())) == 1 and len(line.get_ydata()) == 2]
    assert sorted(level[0] for level in levels) == [12.5, 20.0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["chance", "system 0"]


def test_every_system_is_drawn_however_many_there_are():
    assert len(shots_curves(actions(12)).axes[0].containers) == 12


def test_saving_closes_the_figure(tmp_path):
    save_figure(plt.figure(), tmp_path / "deep" / "x.svg")
    assert plt.get_fignums() == []
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["x.svg"]


def test_figures_are_drawn_for_what_has_results(make_system, make_evidence):
    found = make_evidence(make_system(scorer="mean"), make_system("actions"))
    assert drawn_systems(found) == {}
    by_num_clips = system("a", "mean", 8, **{"1": 30.0, "2": 40.0})["metrics"]["by_num_clips"]
    metrics = retrieval(x=(30.0, 25.0, 36.0))["x"]
    one = make_system(scorer="mean", metrics=metrics | {"by_num_clips": {"1": by_num_clips["1"]}})
    named = make_system("actions", metrics=actions()["system 0"], protocol={"chance_top1": 12.5})
    assert set(drawn_systems(make_evidence(one, named))) == {"retrieval", "actions"}
    several = make_system(scorer="mean", metrics=metrics | {"by_num_clips": by_num_clips}, protocol={"clip_frames": 8})
    assert set(drawn_systems(make_evidence(several))) == {"retrieval", "clips"}


@pytest.mark.slow
def test_a_figure_that_a_solver_lays_out_has_the_same_bytes_wherever_memory_puts_its_parts(tmp_path):
    def draw(place):
        figure = plt.figure(figsize=(7, 9), layout="constrained")
        grid = figure.add_gridspec(3, 1)
        for row in range(3):
            upper, lower = grid[row].subgridspec(2, 1).subplots(sharex=True)
            upper.set_title("one")
            upper.plot([0.0, 1.0, 0.5])
            lower.imshow(np.zeros((10, 100)), aspect="auto")
            lower.set_xlabel("seconds")
        save_figure(figure, tmp_path / f"{place}.svg")
        return (tmp_path / f"{place}.svg").read_bytes()

    # Without rounding about half of them differ from the rest.
    kept, drawn = [], set()
    for place in range(12):
        kept.append([object() for _ in range(997 * place)])
        drawn.add(draw(place))
    assert len(drawn) == 1
