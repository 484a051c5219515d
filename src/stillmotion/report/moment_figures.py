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
from stillmotion.claims.windows import LENGTHS, METHOD, POST, groups_of, metrics_for_windows
from stillmotion.report.figures import legend_on_the_right
from stillmotion.report.moments import group_title

POST_COLORS = {"none": "#888888", "norm": "#4878a8", "adjust_norm": "#e08f3c", "log_smooth_norm": "#3f8f4f"}
METHOD_LINES = {"vc1": "-", "vc1_beta": ":", "vc2": "--"}
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
    figure, panels = plt.subplots(
        len(groups),
        2,
        figsize=(8.0, 2.3 * len(groups) + 0.3),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for row, (model, objective, selections) in zip(panels, groups, strict=True):
        for axes, key in zip(row, ("top1_iou", "frame_iou"), strict=True):
            for selection in selections:
                iou_Q = np.array([query[key] for query in evidence.windows[selection["key"]]])
                share = 100.0 * (iou_Q[:, None] >= LEAST_IOUS).mean(axis=0)
                axes.plot(LEAST_IOUS, share, **_line(selection))
        row[0].set_ylabel("queries in %")
        row[0].set_title(group_title(model, objective), loc="left", fontsize=8)
    legend_on_the_right(panels[0, 1])
    panels[-1, 0].set_xlabel("IoU of the top window, at least")
    panels[-1, 1].set_xlabel("IoU of the frames, at least")
    return figure


def _line(selection: Mapping[str, Any]) -> Mapping[str, Any]:
    return {
        "color": POST_COLORS[selection[POST]],
        "linestyle": METHOD_LINES[selection[METHOD]],
        "linewidth": 1.3,
        "label": f"{selection[METHOD]} {selection[POST]}",
    }
