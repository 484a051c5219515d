"""What the results page says of moment retrieval: groups of systems, lengths, differences, thresholds."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from stillmotion.claims.compare import Pair, paired, pairs
from stillmotion.claims.evidence import Evidence
from stillmotion.claims.systems import MODEL, Origin, records, select
from stillmotion.claims.windows import (
    FRAMES,
    LENGTHS,
    METHOD,
    OBJECTIVE,
    POST,
    POSTS,
    WINDOWS,
    metrics_for_windows,
    selections,
)
from stillmotion.report.links import linked
from stillmotion.report.tables import HeatRow, HeatTable, markdown_table, number, with_interval

SYMBOLS = {"threshold": "λ", "least_confidence": "β", "change": "α", "share": "p", "window": "M"}
"""Of the parameters, as the source has them."""
KINDS = {
    f"selection {WINDOWS}": "Selections, thresholds searched for windows",
    f"selection {FRAMES}": "Selections, thresholds searched for frames",
    "shots": "Shots of a detector, ranked by the model",
    "reference": "References, which look at no frame; `oracle` is a bound: it answers with the true windows",
    "submission": "Submissions of other systems",
}
SOURCE = "VClipper (Caravaca 2024)"
SOURCE_METRICS = {"R1@0.5": ("R1@0.5", 1.0), "mAP": ("mAP", 1.0), "frame IoU": ("frame_IoU", 100.0)}
"""What the source calls a measure, and what makes percent of it."""


def by_kind(metrics: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Mapping[str, Any]]]:
    """Metrics of the systems that have a result, by what they are; without kinds that none is of."""
    groups: dict[str, dict[str, Mapping[str, Any]]] = {title: {} for title in KINDS.values()}
    for key, values in metrics.items():
        if "full" in values:
            kind = values["protocol"]["kind"]
            objective = f" {values['protocol']['thresholds']['objective']}" if kind == "selection" else ""
            groups[KINDS[f"{kind}{objective}"]][key] = values
    return {title: group for title, group in groups.items() if group}


def lengths_tables(evidence: Evidence) -> list[HeatTable]:
    """Mean average precision by the length of the true windows, of systems by what they are."""
    groups = {
        title: [
            HeatRow(key, Origin("moments", key), [values["brief"][f"MR-{length}-mAP"] for length in LENGTHS])
            for key, values in group.items()
        ]
        for title, group in by_kind(metrics_for_windows(evidence)).items()
    }
    return [HeatTable(["mAP by length", *LENGTHS], groups)] if groups else []


def moment_pairs(evidence: Evidence, measure: str) -> list[Pair]:
    """Each post-processing beside none, and VC2 and VC1 with β beside VC1, by a measure."""
    frame = select(evidence.of(measure), {"protocol.kind": "selection"})
    posts = pairs(frame, better={POST: POSTS[1:]}, worse={POST: POSTS[0]}, within=(*MODEL, METHOD, OBJECTIVE))
    alike = (*MODEL, POST, OBJECTIVE)
    methods = (
        pairs(frame, better={METHOD: method}, worse={METHOD: "vc1"}, within=alike) for method in ("vc2", "vc1_beta")
    )
    return [*posts, *(pair for of_method in methods for pair in of_method)]


def effects_table(evidence: Evidence, published: pd.DataFrame) -> str:
    """Each post-processing against none, and VC2 and VC1 with β against VC1, paired over the queries.

    The source's effects stand beside. Nothing where there is nothing to compare.

    Args:
        evidence: what has been measured.
        published: numbers with their documents, the source's among them.
    """
    of_source = select(published, {"document": SOURCE})
    by_measure = [moment_pairs(evidence, measure) for measure in SOURCE_METRICS]
    # each model and objective together, as in the source
    groups = [(pair.better["model"], pair.better[OBJECTIVE]) for pair in by_measure[0]]
    order = sorted(range(len(groups)), key=lambda place: groups.index(groups[place]))
    rows = [_effects(evidence, of_source, [of_measure[place] for of_measure in by_measure]) for place in order]
    header = ["difference"]
    for measure in SOURCE_METRICS:
        header += [measure, "of the source (QVHighlights, another model)"]
    return markdown_table(header, rows) if rows else ""


def _effects(evidence: Evidence, of_source: pd.DataFrame, of_measures: Sequence[Pair]) -> list[str]:
    """The cells of one difference, by each measure."""
    first = of_measures[0]
    cells: list[str] = [linked(f"{first.better['key']} − {first.worse['key']}", first.origins)]
    for pair in of_measures:
        rows = (pair.better, pair.worse)
        found = paired(pair.better["values"], pair.worse["values"], evidence.draws)
        # the source's R1@0.5 and mAP are of thresholds for windows
        is_comparable = pair.better[OBJECTIVE] == WINDOWS or pair.better["measure"] == "frame IoU"
        one, other = (_of_source(of_source, row) if is_comparable else None for row in rows)
        theirs = "–" if one is None or other is None else f"{one - other:+.1f}"
        cells += [f"{found.difference:+.1f} ({found.low:+.1f} to {found.high:+.1f})", theirs]
    return cells


def _of_source(of_source: pd.DataFrame, row: Mapping[str, Any]) -> float | None:
    """The source's value in percent."""
    metric, scale = SOURCE_METRICS[row["measure"]]
    found = select(of_source, {"system": f"{row[METHOD].upper()} post={row[POST]}", "metric": metric})
    return None if found.empty else scale * float(found["value"].iloc[0])


def group_title(model: str, objective: str) -> str:
    """Of selections of one model whose thresholds are searched for the same thing."""
    return f"{model}, thresholds for {'frames' if objective == FRAMES else 'windows'}"


def _searched(evidence: Evidence) -> dict[str, Mapping[str, Any]]:
    """What the search of each selection found, by system."""
    return {row["key"]: row["metrics"]["protocol"]["thresholds"] for row in records(selections(evidence))}


def thresholds_table(evidence: Evidence) -> str:
    """What was searched for each selection, its objective and that on the train split; nothing for none."""
    found = _searched(evidence)
    names = [name for name in SYMBOLS if any(name in values["parameters"] for values in found.values())]
    rows = [
        [
            linked(key, [Origin("moments", key)]),
            *(f"{values['parameters'][name]:.4g}" if name in values["parameters"] else "–" for name in names),
            values["objective"],
            number(values["best_value"]),
        ]
        for key, values in found.items()
    ]
    header = ["selection", *(SYMBOLS[name] for name in names), "objective", "its value on train"]
    return markdown_table(header, rows) if rows else ""


def importances_table(evidence: Evidence) -> str:
    """The share of each parameter in the variance of the objective over the trials; nothing where none is known."""
    found = {key: values["importances"] for key, values in _searched(evidence).items()}
    names = [name for name in SYMBOLS if any(name in shares for shares in found.values())]
    rows = [
        [
            linked(key, [Origin("moments", key)]),
            *(number(100 * shares[name]) if name in shares else "–" for name in names),
        ]
        for key, shares in found.items()
        if shares
    ]
    return markdown_table(["importance in %", *(SYMBOLS[name] for name in names)], rows) if rows else ""


def assessment_table(evidence: Evidence) -> str:
    """Mean frame IoU of each assessed model by λ, and over λ with its interval; nothing where none has queries."""
    found = {model: values for model, values in evidence.metrics("assessment").items() if values["IoU"]}
    levels = sorted({key for values in found.values() for key in values["IoU"]}, key=float)
    rows = [
        [
            linked(model, [Origin("assessment", model)]),
            *(number(values["IoU"].get(key)) for key in levels),
            with_interval(values, "mean_IoU"),
        ]
        for model, values in found.items()
    ]
    header = ["mean frame IoU", *(f"λ {float(key):g}" for key in levels), "mean over λ"]
    return markdown_table(header, rows) if rows else ""


def spread_out(rows: Sequence[Any], num: int) -> list[Any]:
    """`num` of the rows, or as many as there are: the first, the last, and evenly between."""
    num = min(num, len(rows))
    return [rows[round(index * (len(rows) - 1) / max(1, num - 1))] for index in range(num)]
