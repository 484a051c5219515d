"""Markdown tables of moment retrieval, from metrics JSON and per-query results."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from stillmotion.metrics.bootstrap import paired_bootstrap
from stillmotion.report.differences import with_paired_interval
from stillmotion.report.evidence import Evidence
from stillmotion.report.moment_systems import (
    FRAMES,
    LENGTHS,
    METHODS,
    POSTS,
    QUERY_METRICS,
    WINDOWS,
    Selection,
    found_selections,
    groups_of,
    query_values,
    selections_of,
)
from stillmotion.report.published import PublishedNumber
from stillmotion.report.tables import Metrics, markdown_table, number, with_interval

SYMBOLS = {"threshold": "λ", "least_confidence": "β", "change": "α", "share": "p", "window": "M"}
"""Of the parameters, as the source has them."""

KINDS = {
    f"selection {WINDOWS}": "Selections, thresholds searched for windows",
    f"selection {FRAMES}": "Selections, thresholds searched for frames",
    "shots": "Shots of a detector, ranked by the model",
    "reference": "References, which look at no frame; `oracle` is a bound: it answers with the true windows",
    "submission": "Submissions of other systems",
}

SOURCE_METRICS = {"R1@0.5": ("R1@0.5", 1.0), "mAP": ("mAP", 1.0), "frame IoU": ("frame_IoU", 100.0)}
"""What the source calls a metric, and what makes percent of it."""


def moments_table(metrics: Metrics) -> str:
    """Every system of moment retrieval, by what it is."""
    if not metrics:
        return "params.run names no system of moment retrieval."
    groups: dict[str, list[list[str]]] = {kind: [] for kind in KINDS}
    for system, values in metrics.items():
        if "full" not in values:
            continue
        brief = {**values["brief"], "mIoU": values["mIoU"], "ci95": values["ci95"]}
        frames = {**values["frames"], "ci95": {"IoU": values["ci95"].get("frames IoU")}}
        from_top = values["protocol"].get("frames_from") == "top window"
        groups[_kind(values["protocol"])].append(
            [
                system,
                with_interval(brief, "MR-full-R1@0.5"),
                number(brief["MR-full-R1@0.7"]),
                with_interval(brief, "MR-full-mAP"),
                with_interval(brief, "mIoU"),
                with_interval(frames, "IoU") + (" †" if from_top else ""),
                number(values["coverage"]),
                number(values["selected_share"]),
                number(brief.get("HL-min-VeryGood-Hit1")),
                str(values["num_empty"]),
            ]
        )
    header = ["system", "R1@0.5", "R1@0.7", "mAP", "mIoU", "frame IoU", "coverage", "selected", "HL Hit1", "empty"]
    rows = []
    for kind, group in groups.items():
        if group:
            rows += [[f"**{KINDS[kind]}**", *[""] * (len(header) - 1)], *group]
    return markdown_table(header, rows) if rows else "The dataset has no moments in its train or test split."


def _kind(protocol: Mapping[str, Any]) -> str:
    kind: str = protocol["kind"]
    return f"selection {protocol['thresholds']['objective']}" if kind == "selection" else kind


def lengths_table(metrics: Metrics) -> str:
    """Mean average precision by the length of the true windows; nothing where there is no system.

    Args:
        metrics: of systems that have a result.
    """
    rows = [
        [system, *(number(values["brief"][f"MR-{length}-mAP"]) for length in LENGTHS)]
        for system, values in metrics.items()
    ]
    header = ["mAP", "short (up to 10 s)", "middle (10 to 30 s)", "long (30 to 150 s)"]
    return markdown_table(header, rows) if rows else ""


def effects_table(evidence: Evidence, published: Sequence[PublishedNumber]) -> str:
    """Each post-processing against none, and VC2 against VC1, paired over the queries, beside the source's effect.

    Nothing where there is nothing to compare.
    """
    rows = []
    for model, objective, _ in groups_of(evidence):
        chosen = selections_of(evidence, model, objective)
        pairs = [((method, post), (method, "none")) for method in METHODS for post in POSTS[1:]]
        pairs += [(("vc2", post), ("vc1", post)) for post in POSTS]
        for pair in pairs:
            if all(key in chosen for key in pair):
                rows.append(_effects(evidence, published, [chosen[key] for key in pair]))
    header = ["difference"]
    for metric in QUERY_METRICS:
        header += [metric, "of the source (QVHighlights, another model)"]
    return markdown_table(header, rows) if rows else ""


def _effects(evidence: Evidence, published: Sequence[PublishedNumber], pair: Sequence[Selection]) -> list[str]:
    """The cells of one difference."""
    first, second = pair
    cells = [f"{first.system} − {second.system}"]
    for metric in QUERY_METRICS:
        first_Q, second_Q = (query_values(evidence.queries[selection.system], metric) for selection in pair)
        rng = np.random.default_rng(evidence.seed)
        found = paired_bootstrap(first_Q, second_Q, rng=rng, num_resamples=evidence.num_resamples)
        theirs = "–"
        # the source's R1@0.5 and mAP are of thresholds for windows
        if first.objective == WINDOWS or metric == "frame IoU":
            values = [_published(published, selection, metric) for selection in pair]
            theirs = _difference(*values)
        cells += [with_paired_interval(found), theirs]
    return cells


def _published(published: Sequence[PublishedNumber], selection: Selection, metric: str) -> float | None:
    """The source's value in percent."""
    name, scale = SOURCE_METRICS[metric]
    system = f"{selection.method.upper()} post={selection.post}"
    for row in published:
        if (row.system, row.metric) == (system, name) and row.source.startswith("VClipper"):
            return scale * float(row.value)
    return None


def _difference(first: float | None, second: float | None) -> str:
    return "–" if first is None or second is None else f"{first - second:+.1f}"


def thresholds_table(evidence: Evidence) -> str:
    """The best parameters of each selection and its objective on the train split; nothing without selections."""
    found = found_selections(evidence)
    searched = {row.system: evidence.metrics["moments"][row.system]["protocol"]["thresholds"] for row in found}
    names = [name for name in SYMBOLS if any(name in values["parameters"] for values in searched.values())]
    rows = []
    for system, values in searched.items():
        cells = [f"{values['parameters'][name]:.4g}" if name in values["parameters"] else "–" for name in names]
        rows.append([system, *cells, values["objective"], number(values["best_value"])])
    header = ["selection", *(SYMBOLS[name] for name in names), "objective", "its value on train"]
    return markdown_table(header, rows) if rows else ""


def importances_table(evidence: Evidence) -> str:
    """Share of the objective's variance by parameter, of the selections with more than one; nothing without."""
    searched = {
        found.system: evidence.metrics["moments"][found.system]["protocol"]["thresholds"]["importances"]
        for found in found_selections(evidence)
    }
    names = [name for name in SYMBOLS if any(name in values for values in searched.values())]
    rows = [
        [system, *(number(100 * values[name]) if name in values else "–" for name in names)]
        for system, values in searched.items()
        if values
    ]
    return markdown_table(["importance in %", *(SYMBOLS[name] for name in names)], rows) if rows else ""


def assessment_table(metrics: Metrics) -> str:
    """Mean frame IoU by model and λ; nothing where there are no moments."""
    shown = {model: values for model, values in metrics.items() if values["IoU"]}
    thresholds = sorted({key for values in shown.values() for key in values["IoU"]}, key=float)
    rows = [
        [
            model,
            *(number(values["IoU"].get(key)) for key in thresholds),
            with_interval({"mean": values["mean_IoU"], "ci95": {"mean": values["ci95"]["mean_IoU"]}}, "mean"),
        ]
        for model, values in shown.items()
    ]
    header = ["mean frame IoU", *(f"λ {float(key):g}" for key in thresholds), "mean over λ"]
    return markdown_table(header, rows) if rows else ""
