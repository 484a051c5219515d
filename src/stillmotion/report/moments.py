"""What the results page says of moment retrieval: groups of systems, differences, thresholds."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from stillmotion.claims.compare import Pair, paired, pairs
from stillmotion.claims.evidence import Evidence
from stillmotion.claims.systems import MODEL, records, select
from stillmotion.claims.windows import FRAMES, METHOD, OBJECTIVE, POST, POSTS, WINDOWS, selections
from stillmotion.report.tables import markdown_table

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
    cells = [f"{of_measures[0].better['key']} − {of_measures[0].worse['key']}"]
    for pair in of_measures:
        rows = (pair.better, pair.worse)
        found = paired(pair.better["values"], pair.worse["values"], evidence.draws)
        # the source's R1@0.5 and mAP are of thresholds for windows
        is_comparable = pair.better[OBJECTIVE] == WINDOWS or pair.better["measure"] == "frame IoU"
        first, second = (_of_source(of_source, row) if is_comparable else None for row in rows)
        theirs = "–" if first is None or second is None else f"{first - second:+.1f}"
        cells += [f"{found.difference:+.1f} ({found.low:+.1f} to {found.high:+.1f})", theirs]
    return cells


def _of_source(of_source: pd.DataFrame, row: Mapping[str, Any]) -> float | None:
    """The source's value in percent."""
    metric, scale = SOURCE_METRICS[row["measure"]]
    found = select(of_source, {"system": f"{row[METHOD].upper()} post={row[POST]}", "metric": metric})
    return None if found.empty else scale * float(found["value"].iloc[0])


def searched_thresholds(evidence: Evidence) -> dict[str, Mapping[str, Any]]:
    """What the search of each selection found, by system."""
    return {row["key"]: row["metrics"]["protocol"]["thresholds"] for row in records(selections(evidence))}


def parameters_in(found: Mapping[str, Mapping[str, Any]], part: str) -> list[str]:
    """Those of SYMBOLS that a part of some search has, such as its `importances`."""
    return [name for name in SYMBOLS if any(name in values[part] for values in found.values())]


def spread_out(rows: Sequence[Any], num: int) -> list[Any]:
    """`num` of the rows, or as many as there are: the first, the last, and evenly between."""
    num = min(num, len(rows))
    return [rows[round(index * (len(rows) - 1) / max(1, num - 1))] for index in range(num)]
