"""Figures of the results page as SVG, the same bytes for the same numbers."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("svg")

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from stillmotion.claims.evidence import Evidence
from stillmotion.claims.systems import records, select
from stillmotion.io.atomic import atomic_file

plt.rcParams.update(
    {
        "svg.hashsalt": "stillmotion",
        "svg.fonttype": "path",
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
    }
)

POSITION_DIGITS = 4
"""Of places as fractions of the figure: a hundredth of a pixel."""


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure without a date, and close it.

    Where a solver lays the axes out, it goes through its constraints in the order of their addresses in memory: last
    digits differ from run to run, and matplotlib names clip paths after those. What it has found is rounded and kept.
    """
    if figure.get_layout_engine() is not None:
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        for axes in figure.axes:
            left, bottom, width, height = np.round(axes.get_position().bounds, POSITION_DIGITS)
            axes.set_position((left, bottom, width, height))
    with atomic_file(path) as partial:
        figure.savefig(partial, format="svg", metadata={"Date": None}, bbox_inches="tight")
    plt.close(figure)


def drawn_systems(evidence: Evidence) -> dict[str, Figure]:
    """The figures of retrieval and actions by name, for which there are results."""
    figures = {}
    retrieval, actions = evidence.metrics("retrieval"), evidence.metrics("actions")
    if any(values["t2v"] for values in retrieval.values()):
        figures["retrieval"] = recall_bars(retrieval)
    several = {"task": "retrieval", "metrics": lambda metrics: len(metrics["by_num_clips"]) > 1}
    with_several = records(select(evidence.systems, several))
    if with_several:
        figures["clips"] = clips_curves(with_several)
    if any(values["top1"] for values in actions.values()):
        figures["actions"] = shots_curves(actions)
    return figures


def recall_bars(metrics: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Text-to-video R@1 with its 95 % interval, a bar a system."""
    systems = [system for system, values in metrics.items() if values["t2v"]]
    values = [metrics[system]["t2v"]["R@1"] for system in systems]
    intervals = [metrics[system]["t2v"]["ci95"]["R@1"] for system in systems]
    below = [max(0.0, value - low) for value, (low, _) in zip(values, intervals, strict=True)]
    above = [max(0.0, high - value) for value, (_, high) in zip(values, intervals, strict=True)]
    figure, axes = plt.subplots(figsize=(6.5, 0.45 * len(systems) + 0.9))
    axes.barh(systems, values, xerr=[below, above], color="#4878a8", ecolor="#222222", capsize=3)
    axes.margins(y=0.02)
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel("text-to-video R@1 in % (95 % bootstrap interval)")
    return figure


def clips_curves(systems: Sequence[Mapping[str, Any]]) -> Figure:
    """Text-to-video R@1 with its 95 % interval by frames seen, a line a model, as figures 4.1 to 4.5 of the thesis.

    A column of panels is a scorer; those of fine-tuned models are a row of their own.

    Args:
        systems: rows of the frame of systems, at least one.
    """
    groups = [[row for row in systems if (row["recipe"] is not None) == is_tuned] for is_tuned in (False, True)]
    shown = [group for group in groups if group]
    scorers = list(dict.fromkeys(row["scorer"] for row in systems))
    figure, panels = plt.subplots(
        len(shown),
        len(scorers),
        figsize=(2.6 * len(scorers) + 1.8, 2.5 * len(shown) + 0.3),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for row, group in enumerate(shown):
        models = list(dict.fromkeys(system["model"] for system in group))
        for column, scorer in enumerate(scorers):
            axes: Any = panels[row, column]
            ticks: set[int] = set()
            for place, (color, model) in enumerate(zip(line_colors(), models, strict=False)):
                for system in group:
                    if (system["model"], system["scorer"]) == (model, scorer):
                        beside = _beside(place, len(models))
                        ticks |= _draw_clips(axes, system["metrics"], beside, color=color, label=model)
            axes.set_xticks(sorted(ticks))
            if row == 0:
                axes.set_title(scorer)
            if row == len(shown) - 1:
                axes.set_xlabel("frames")
        panels[row, 0].set_ylabel("T2V R@1 in %")
        legend_on_the_right(panels[row, -1])
    return figure


def _draw_clips(axes: Any, metrics: Mapping[str, Any], beside: float, **line: str) -> set[int]:
    """The curve of one system, moved by some steps; returns its numbers of frames."""
    clip_frames = metrics["protocol"]["clip_frames"]
    counts = sorted(map(int, metrics["by_num_clips"]))
    scores = [metrics["by_num_clips"][str(count)]["t2v"] for count in counts]
    frames = np.array(counts) * clip_frames
    means = np.array([score["R@1"] for score in scores])
    low, high = np.array([score["ci95"]["R@1"] for score in scores]).reshape(-1, 2).T
    spread = np.maximum(0.0, [means - low, high - means])
    moved = frames + 0.06 * clip_frames * beside
    axes.errorbar(moved, means, yerr=spread, marker="o", markersize=3, capsize=2, **line)
    return set(frames.tolist())


def shots_curves(metrics: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Top-1 accuracy by number of shots, with zero-shot as a dashed line."""
    figure, axes = plt.subplots(figsize=(5.5, 3.2))
    chance = None
    drawn = {system: values for system, values in metrics.items() if values["top1"]}
    for place, (color, (system, values)) in enumerate(zip(line_colors(), drawn.items(), strict=False)):
        shots = sorted(map(int, values["top1"]))
        means = [values["top1"][str(shot)]["mean"] for shot in shots]
        spread = [values["top1"][str(shot)]["std"] for shot in shots]
        beside = np.array(shots) * 2.0 ** (0.06 * _beside(place, len(drawn)))
        axes.errorbar(beside, means, yerr=spread, marker="o", markersize=4, capsize=3, color=color, label=system)
        axes.axhline(values["zero_shot"]["top1"], color=color, linestyle="--", linewidth=1)
        axes.set_xscale("log", base=2)
        axes.set_xticks(shots, [str(shot) for shot in shots])
        chance = values["protocol"]["chance_top1"]
    if chance is not None:
        axes.axhline(chance, color="#888888", linestyle=":", linewidth=1, label="chance")
    axes.set_xlabel("samples a class (dashed: zero-shot)")
    axes.set_ylabel("top-1 accuracy in %")
    legend_on_the_right(axes)
    return figure


def _beside(place: int, number: int) -> float:
    """Steps from the middle of `number` points that stand side by side, so that their intervals can be told apart."""
    return place - (number - 1) / 2


def legend_on_the_right(axes: Any, *entries: Any) -> None:
    """Names beside the axes rather than over the curves."""
    axes.legend(*entries, loc="center left", bbox_to_anchor=(1.0, 0.5))


def line_colors() -> Iterator[str]:
    """As many colours as are asked for, of ten."""
    return cycle(f"C{index}" for index in range(10))
