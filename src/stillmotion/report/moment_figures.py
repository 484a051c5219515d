"""Figures of moment retrieval; VClipper (Caravaca 2024), figures 17 and 19 and section 4.2.2.

Colours are post-processings, VC1 is drawn through, with β dotted, and VC2 dashed; the legend of the first row is that
of all.
"""

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from stillmotion.claims.evidence import Evidence
from stillmotion.claims.windows import FRAMES, LENGTHS, METHOD, POST, groups_of, metrics_for_windows
from stillmotion.report.figures import legend_on_the_right, line_colors
from stillmotion.report.moments import SYMBOLS

POST_COLORS = {"none": "#888888", "norm": "#4878a8", "adjust_norm": "#e08f3c", "log_smooth_norm": "#3f8f4f"}
METHOD_LINES = {"vc1": "-", "vc1_beta": ":", "vc2": "--"}
OBJECTIVE_NAMES = {"R1@0.5": "R1@0.5", FRAMES: "frame AP@0.5"}
LEAST_IOUS = np.arange(41) / 40
"""IoUs of the distribution: 0.5 and 0.7 are among them, to the bit."""


def drawn_moments(evidence: Evidence) -> dict[str, Figure]:
    """The figures by name for which there are results."""
    figures = {}
    measured = metrics_for_windows(evidence)
    if measured:
        figures["moment_lengths"] = length_points(measured)
    if groups_of(evidence):
        figures["iou_distribution"] = iou_distribution(evidence)
        figures["optimisation"] = search_curves(evidence)
        figures["sensitivity"] = sensitivity_panels(evidence)
    assessed = {model: values for model, values in evidence.metrics("assessment").items() if values["IoU"]}
    if assessed:
        figures["assessment"] = assessment_curves(assessed)
    return figures


def length_points(metrics: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Mean average precision by the length of the true windows, a row a system."""
    systems = list(metrics)
    figure, axes = plt.subplots(figsize=(6.5, 0.26 * len(systems) + 0.9))
    for length, marker, color in zip(LENGTHS, "os^", ("#c44e52", "#e08f3c", "#4878a8"), strict=True):
        found = [(metrics[system]["brief"][f"MR-{length}-mAP"], place) for place, system in enumerate(systems)]
        drawn = [(value, place) for value, place in found if value is not None]
        if drawn:
            axes.plot(*zip(*drawn, strict=True), marker, color=color, markersize=5, label=length)
    axes.set_yticks(range(len(systems)), systems)
    axes.set_ylim(len(systems) - 0.5, -0.5)
    axes.set_xlim(-2, 102)
    axes.grid(axis="y", color="#e4e4e4", linewidth=0.6)
    axes.set_xlabel("mAP in % by the length of the true windows")
    legend_on_the_right(axes)
    return figure


def iou_distribution(evidence: Evidence) -> Figure:
    """Share of the queries that reach an IoU: of their top window, and of their selected frames.

    A row a model and objective. At 0.5 and 0.7 the left panels read R1@0.5 and R1@0.7.
    """
    groups = groups_of(evidence)
    figure, panels = _grid(len(groups), 2, sharex=True, sharey=True)
    for row, (model, objective, selections) in zip(panels, groups, strict=True):
        for axes, key in zip(row, ("top1_iou", "frame_iou"), strict=True):
            for selection in selections:
                iou_Q = np.array([query[key] for query in evidence.windows[selection["key"]]])
                share = 100.0 * (iou_Q[:, None] >= LEAST_IOUS).mean(axis=0)
                axes.plot(LEAST_IOUS, share, **_line(selection))
        row[0].set_ylabel("queries in %")
        row[0].set_title(_named(model, objective), loc="left", fontsize=8)
    legend_on_the_right(panels[0, 1])
    panels[-1, 0].set_xlabel("IoU of the top window, at least")
    panels[-1, 1].set_xlabel("IoU of the frames, at least")
    return figure


def search_curves(evidence: Evidence) -> Figure:
    """The best objective on the train split so far, by trial; a panel a model and objective."""
    groups = groups_of(evidence)
    figure, panels = _grid(len(groups), 1, width=4.6)
    for axes, (model, objective, selections) in zip(panels[:, 0], groups, strict=True):
        for selection in selections:
            trials = evidence.searches[selection["key"]].trials
            best_N = np.maximum.accumulate([trial["value"] for trial in trials])
            rises = [place for place in range(len(best_N)) if place == 0 or best_N[place] > best_N[place - 1]]
            kept = [*rises, len(best_N) - 1]
            axes.plot(np.array(kept) + 1, best_N[kept], drawstyle="steps-post", **_line(selection))
        axes.set_ylabel(f"best {OBJECTIVE_NAMES[objective]} in %")
        axes.set_title(_named(model, objective), loc="left", fontsize=8)
    panels[-1, 0].set_xlabel("trial")
    legend_on_the_right(panels[0, 0])
    return figure


def sensitivity_panels(evidence: Evidence) -> Figure:
    """The objective with one parameter changed and the others at their best, a column a parameter.

    A point is the value that the search found.
    """
    groups = groups_of(evidence)
    searches = evidence.searches
    every = {row["parameter"] for search in searches.values() for row in search.sensitivity}
    names = [name for name in SYMBOLS if name in every] or ["threshold"]
    figure, panels = _grid(len(groups), len(names), sharey="row", width=2.1)
    for row, (model, objective, selections) in zip(panels, groups, strict=True):
        for axes, name in zip(row, names, strict=True):
            for selection in selections:
                points = [point for point in searches[selection["key"]].sensitivity if point["parameter"] == name]
                if not points:
                    continue
                line = _line(selection)
                axes.plot([point["at"] for point in points], [point["value"] for point in points], **line)
                searched = selection["metrics"]["protocol"]["thresholds"]
                axes.plot(searched["parameters"][name], searched["best_value"], "o", markersize=4, color=line["color"])
        row[0].set_ylabel(f"{OBJECTIVE_NAMES[objective]} in %")
        row[0].set_title(_named(model, objective), loc="left", fontsize=8)
    # every selection has λ; a panel of M has two of them
    legend_on_the_right(panels[0, -1], *panels[0, 0].get_legend_handles_labels())
    for axes, name in zip(panels[-1], names, strict=True):
        axes.set_xlabel(f"{SYMBOLS[name]} ({name})")
    return figure


def assessment_curves(metrics: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Mean IoU of VC1's frames under `norm`, by λ, a line a model."""
    figure, axes = plt.subplots(figsize=(5.0, 2.8))
    for color, (model, values) in zip(line_colors(), metrics.items(), strict=False):
        thresholds = sorted(values["IoU"], key=float)
        axes.plot(
            [float(threshold) for threshold in thresholds],
            [values["IoU"][threshold] for threshold in thresholds],
            marker="o",
            markersize=4,
            color=color,
            label=model,
        )
    axes.set_xlabel("λ")
    axes.set_ylabel("mean frame IoU in %")
    legend_on_the_right(axes)
    return figure


def _grid(rows: int, columns: int, *, width: float = 2.9, **shared: Any) -> tuple[Figure, np.ndarray]:
    size = (width * columns + 2.2, 2.3 * rows + 0.3)
    return plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained", **shared)


def _line(selection: Mapping[str, Any]) -> Mapping[str, Any]:
    return {
        "color": POST_COLORS[selection[POST]],
        "linestyle": METHOD_LINES[selection[METHOD]],
        "linewidth": 1.3,
        "label": f"{selection[METHOD]} {selection[POST]}",
    }


def _named(model: str, objective: str) -> str:
    return f"{model}, thresholds for {'frames' if objective == FRAMES else 'windows'}"
