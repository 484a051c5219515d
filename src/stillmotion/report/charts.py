"""Where the marks of the small charts of the results page stand; the page draws them as SVG in its own colours.

Places are in the units of a view box WIDTH wide, so narrow that its text can be read on a phone.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor, log2
from typing import Any

import numpy as np

from stillmotion.claims.compare import Measurement
from stillmotion.claims.evidence import Evidence, Search
from stillmotion.claims.systems import Rows
from stillmotion.claims.windows import METHOD, POST, groups_of
from stillmotion.report.moments import SYMBOLS, group_title
from stillmotion.report.published import at_path
from stillmotion.report.systems import TaskTable

WIDTH, HEIGHT = 360, 220
LEFT, RIGHT, TOP, BOTTOM = 34, 8, 10, 34
"""Margins of a chart of lines."""
BESIDE = 12
"""Kept free within them on either side, for points that stand side by side."""
STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)
MOST_TICKS, MOST_PLACES = 6, 10
"""Round numbers on an axis; values of a curve that each have a tick."""
RECALLS = (1, 2, 5, 10)


@dataclass(frozen=True)
class Mark:
    """A value with its interval, and where they stand."""

    x: float
    y: float
    low: float
    high: float
    label: str
    is_dot: bool
    """Whether it is drawn, and told; of the others the curve is enough."""


@dataclass(frozen=True)
class Line:
    """A curve: `color` counts the colours of the page."""

    name: str
    color: int
    marks: Sequence[Mark]
    level: float | None = None
    """Where a dashed line goes through."""


@dataclass(frozen=True)
class LineChart:
    """Curves in a frame with ticks: places and what they say."""

    title: str
    across: str
    lines: Sequence[Line]
    x_ticks: Sequence[tuple[float, str]]
    y_ticks: Sequence[tuple[float, str]]


@dataclass(frozen=True)
class Points:
    """A curve before it is placed: x, y, low, high."""

    name: str
    values: Sequence[tuple[float, float, float, float]]
    level: float | None = None
    dots: Sequence[float] | None = None
    """Where x has a mark; None for everywhere."""
    color: int | None = None
    """None for its place among the curves."""


def ticks(low: float, high: float) -> list[float]:
    """Round numbers from just below to just above, at most MOST_TICKS.

    Example:
        From 28.3 to 63.0: the tens from 20 to 70.
    """
    for step in STEPS:
        first, last = floor(low / step), ceil(high / step)
        if last - first < MOST_TICKS:
            return [place * step for place in range(first, max(last, first + 1) + 1)]
    return [low, high]


def line_chart(
    title: str, curves: Sequence[Points], across: str, scale: Callable[[float], float] = log2, digits: int = 1
) -> LineChart | None:
    """The chart of curves over an axis of some scale; None where no curve has two points."""
    if not any(len(curve.values) > 1 for curve in curves):
        return None
    xs = sorted({x for curve in curves for x, *_ in curve.values})
    ends = [end for curve in curves for _, _, low, high in curve.values for end in (low, high)]
    ends += [curve.level for curve in curves if curve.level is not None]
    marked = ticks(min(ends), max(ends))

    def x_at(x: float, beside: float = 0.0) -> float:
        share = (scale(x) - scale(xs[0])) / (scale(xs[-1]) - scale(xs[0]))
        return round(LEFT + BESIDE + share * (WIDTH - LEFT - RIGHT - 2 * BESIDE) + beside, 1)

    def y_at(y: float) -> float:
        return round(HEIGHT - BOTTOM - (y - marked[0]) / (marked[-1] - marked[0]) * (HEIGHT - TOP - BOTTOM), 1)

    lines = []
    for color, curve in enumerate(curves):
        if not curve.values:  # a system has one colour in all charts
            continue
        has_intervals = any(low < high for _, _, low, high in curve.values)
        step = min(3, 2 * BESIDE / max(1, len(curves) - 1))
        beside = step * (color - (len(curves) - 1) / 2) if has_intervals else 0.0  # so that they can be told apart
        marks = []
        for x, y, low, high in curve.values:
            label = f"{x:.4g}: {y:.{digits}f}" + (f" ({low:.{digits}f} to {high:.{digits}f})" if low < high else "")
            is_dot = curve.dots is None or x in curve.dots
            marks.append(Mark(round(x_at(x) + beside, 1), y_at(y), y_at(low), y_at(high), label, is_dot))
        own = color if curve.color is None else curve.color
        lines.append(Line(curve.name, own, marks, None if curve.level is None else y_at(curve.level)))
    shown = xs if len(xs) <= MOST_PLACES else [x for x in ticks(xs[0], xs[-1]) if xs[0] <= x <= xs[-1]]
    return LineChart(title, across, lines, [(x_at(x), f"{x:g}") for x in shown], [(y_at(y), f"{y:g}") for y in marked])


def task_charts(evidence: Evidence, tables: Mapping[str, TaskTable]) -> dict[str, list[LineChart]]:
    """The charts of lines of each task."""
    of_task = {
        "retrieval": (_recall_chart(evidence), _clips_chart(evidence)),
        "moments": (_iou_chart(evidence, tables.get("moments")),),
        "actions": (_shots_chart(evidence),),
    }
    return {task: [chart for chart in found if chart is not None] for task, found in of_task.items()}


def _recall_chart(evidence: Evidence) -> LineChart | None:
    curves = [
        Points(key, [(k, values["t2v"][f"R@{k}"], *values["t2v"]["ci95"][f"R@{k}"]) for k in RECALLS])
        for key, values in evidence.metrics("retrieval").items()
        if {f"R@{k}" for k in RECALLS} <= values["t2v"].get("ci95", {}).keys()
    ]
    return line_chart("R@K in %: captions whose video is among the first K", curves, "K")


def _clips_chart(evidence: Evidence) -> LineChart | None:
    """The source has figures 4.1 to 4.5 (Lindgren 2023)."""
    curves = []
    for key, values in evidence.metrics("retrieval").items():
        found = sorted((int(count), scores["t2v"]) for count, scores in values["by_num_clips"].items())
        curves.append(Points(key, [(count, t2v["R@1"], *t2v["ci95"]["R@1"]) for count, t2v in found]))
    return line_chart("R@1 in % by clips a video", [curve for curve in curves if curve.values], "clips")


def _iou_chart(evidence: Evidence, table: TaskTable | None) -> LineChart | None:
    curves = []
    for row in table.rows if table else ():
        ious_Q = np.array([query["top1_iou"] for query in evidence.windows[row.key]])
        if row.is_made and len(ious_Q):
            shares = [(least / 10, float(100 * np.mean(ious_Q >= least / 10))) for least in range(1, 10)]
            curves.append(Points(row.key, [(least, share, share, share) for least, share in shares]))
    return line_chart("Queries in % whose first window reaches an IoU", curves, "IoU", float)


def search_charts(evidence: Evidence) -> list[LineChart]:
    """The best objective on the train split so far by trial, then what changes it around the best: each by itself."""
    found = []
    for model, objective, selections in groups_of(evidence):
        group, reached = group_title(model, objective), f"{objective.replace('_', ' ')} in % on train"
        searches = {f"{row[METHOD]} {row[POST]}": (row, evidence.searches[row["key"]]) for row in selections}
        curves = [_best_so_far(name, search.trials) for name, (_, search) in searches.items()]
        found.append(line_chart(f"{group}: best {reached} so far", curves, "trial", float))
        for parameter, symbol in SYMBOLS.items():
            curves = [_around(name, parameter, *of_search) for name, of_search in searches.items()]
            title = f"{group}: {reached} by {symbol}, the others at their best; a dot is what was found"
            found.append(line_chart(title, curves, f"{symbol} ({parameter.replace('_', ' ')})", float))
    return [chart for chart in found if chart is not None]


def _best_so_far(name: str, trials: Rows) -> Points:
    """In steps, to the last trial, which alone has a dot."""
    best, values = -np.inf, list[tuple[int, float]]()
    for number, trial in enumerate(trials, start=1):
        if trial["value"] > best or number == len(trials):
            values += [(number, best)] if values else []
            best = max(best, trial["value"])
            values.append((number, best))
    return Points(name, [(x, y, y, y) for x, y in dict.fromkeys(values)], dots=[len(trials)])


def _around(name: str, parameter: str, selection: Mapping[str, Any], search: Search) -> Points:
    points = {row["at"]: row["value"] for row in search.sensitivity if row["parameter"] == parameter}
    searched = selection["metrics"]["protocol"]["thresholds"]
    best = searched["parameters"].get(parameter)
    if points and best is not None:
        points[best] = searched["best_value"]
    return Points(name, [(x, y, y, y) for x, y in sorted(points.items())], dots=[best])


def assessment_charts(evidence: Evidence) -> list[LineChart]:
    """Mean frame IoU by λ, a line a model."""
    curves = []
    for model, values in evidence.metrics("assessment").items():
        found = sorted((float(level), iou) for level, iou in values["IoU"].items())
        curves.append(Points(model, [(level, iou, iou, iou) for level, iou in found]))
    chart = line_chart("Mean frame IoU in % by λ", [curve for curve in curves if curve.values], "λ", float)
    return [chart] if chart else []


def _shots_chart(evidence: Evidence) -> LineChart | None:
    curves = []
    for key, values in evidence.metrics("actions").items():
        found = sorted((int(count), probe["mean"], probe["std"]) for count, probe in values["top1"].items())
        points = [(count, mean, mean - std, mean + std) for count, mean, std in found]
        curves.append(Points(key, points, at_path(values, "zero_shot/top1")))
    title = "Top-1 in % by labelled samples a class (dashed: zero-shot)"
    return line_chart(title, [curve for curve in curves if curve.values], "samples a class")


@dataclass(frozen=True)
class Bar:
    """A system in a chart of bars; places in percent of its width."""

    key: str
    value: float
    low: float
    high: float
    kind: str
    """`best`, `made` by a model, or a `reference`."""


def bars(table: TaskTable) -> list[Bar]:
    """The first column of a table, a bar a system in the order of the values; rates are places already."""
    found = []
    for row in table.rows:
        first = row.cells[0]
        if first.value is not None:
            low, high = (first.value if end is None else end for end in (first.low, first.high))
            kind = "best" if row == table.best else "made" if row.is_made else "reference"
            found.append(Bar(row.key, first.value, low, high, kind))
    return sorted(found, key=lambda bar: -bar.value)


@dataclass(frozen=True)
class Strip:
    """An effect and its interval in percent of the width of a strip, with what it is claimed to be above."""

    point: float
    low: float
    high: float
    above: float


def strips(measured: Sequence[Measurement]) -> Mapping[int, Strip]:
    """The strips of the measurements that have an interval, by place, all on one scale about zero."""
    known = {place: (*row.interval, row.above) for place, row in enumerate(measured) if row.interval}
    reach = max((abs(end) for ends in known.values() for end in ends), default=0.0) or 1.0
    return {place: Strip(*(round(50 + 48 * points / reach, 2) for points in ends)) for place, ends in known.items()}
