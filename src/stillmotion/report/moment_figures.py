"""Figures of moment retrieval; VClipper (Caravaca 2024), figures 17 and 19 and section 4.2.2.

Colours are post-processings, VC1 is drawn through, with β dotted, and VC2 dashed; the legend of the first row is that
of all.
"""

from collections.abc import Mapping
from itertools import cycle
from typing import Any, get_args

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from stillmotion.claims.evidence import Evidence
from stillmotion.claims.windows import METHOD, POST, POSTS, groups_of
from stillmotion.config.evaluation import Method
from stillmotion.report.figures import legend_on_the_right
from stillmotion.report.moments import group_title

POST_COLORS = dict(zip(POSTS, cycle(("#888888", "#4878a8", "#e08f3c", "#3f8f4f", "#8f5fa8", "#b04a5a")), strict=False))
METHOD_LINES = dict(zip(get_args(Method), cycle(("-", ":", "--", "-.")), strict=False))
LEAST_IOUS = np.arange(41) / 40
"""IoUs of the distribution: 0.5 and 0.7 are among them, to the bit."""


def drawn_moments(evidence: Evidence) -> dict[str, Figure]:
    """The figures by name for which there are results."""
    return {"iou_distribution": iou_distribution(evidence)} if groups_of(evidence) else {}


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
