"""What the results page shows of the systems of a task: their values, with intervals, beside the best of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stillmotion.claims.compare import Pair, measured
from stillmotion.claims.evidence import Evidence
from stillmotion.claims.systems import records, select
from stillmotion.metrics.headlines import headline_values
from stillmotion.report.moments import by_kind
from stillmotion.report.published import at_path

Interval = tuple[float, float, float]
"""A value and its 95 % interval."""


@dataclass(frozen=True)
class Column:
    """A column of a table of systems: paths into the metrics file."""

    title: str
    path: str
    interval: str = ""
    spread: str = ""
    """A standard deviation over seeds."""
    digits: int = 1
    about: str = ""
    scale: float = 1.0


@dataclass(frozen=True)
class Cell:
    """A value as its column shows it; all None where there is none."""

    value: float | None
    low: float | None = None
    high: float | None = None
    spread: float | None = None


@dataclass(frozen=True)
class SystemRow:
    """A system and its cells, in the order of the columns."""

    key: str
    cells: Sequence[Cell]
    behind: Interval | None
    """What it has more than the best in points, paired over the queries; None of the best, and where they differ."""
    is_made: bool
    """By a model of this run; a reference is not."""


@dataclass(frozen=True)
class TaskTable:
    """The systems of a task that have a result, by group. The first column is the one that they are ranked by."""

    task: str
    columns: Sequence[Column]
    groups: Mapping[str, Sequence[SystemRow]]
    best: SystemRow | None
    """Of those that a model of this run makes."""
    beside: str
    """What the best is to be seen beside: chance, or the best that looks at nothing."""

    @property
    def rows(self) -> list[SystemRow]:
        """Of all groups."""
        return [row for group in self.groups.values() for row in group]


RETRIEVAL = (
    Column("R@1", "t2v/R@1", "t2v/ci95/R@1", about="captions whose video is found first, in %"),
    Column("R@5", "t2v/R@5", "t2v/ci95/R@5"),
    Column("R@10", "t2v/R@10", "t2v/ci95/R@10"),
    Column("median rank", "t2v/MedR", "t2v/ci95/MedR"),
    Column("MRR", "t2v/MRR", "t2v/ci95/MRR", about="mean reciprocal rank, in %"),
    Column("video to text R@1", "v2t/R@1", "v2t/ci95/R@1"),
)
MOMENTS = (
    Column("R1@0.5", "brief/MR-full-R1@0.5", "ci95/MR-full-R1@0.5", about="first window overlaps the truth by half"),
    Column("R1@0.7", "brief/MR-full-R1@0.7", "ci95/MR-full-R1@0.7"),
    Column("mAP", "brief/MR-full-mAP", "ci95/MR-full-mAP"),
    Column("mIoU", "mIoU", "ci95/mIoU"),
    Column("frame IoU", "frames/IoU", "ci95/frames IoU"),
    Column("coverage", "coverage", about="true seconds that are in any chosen window, in %"),
    Column("selected", "selected_share", about="share of the video that the chosen windows take up, in %"),
    Column("HL Hit1", "brief/HL-min-VeryGood-Hit1"),
    Column("empty", "num_empty", digits=0, about="queries without a window; they score 0"),
)
COSTS = (
    Column("parameters, M", "parameters", digits=2, scale=1e-6),
    Column("trained, M", "trainable_parameters", digits=2, scale=1e-6),
    Column("forward GFLOPs", "forward_flops", digits=2, scale=1e-9),
    Column("backward GFLOPs", "backward_flops", digits=2, scale=1e-9),
)
ORACLE = "oracle"
"""The reference that answers with the truth."""
_ROUNDED_BY = 0.005 + 1e-4
"""Half of the second decimal, and what the values of the queries, of six decimals, add to it."""
MEASURES = {"retrieval": "R@1", "moments": "R1@0.5", "actions": "top-1"}
"""What systems are held to each other by: a measure of `systems.values_frame`."""


def task_tables(evidence: Evidence) -> dict[str, TaskTable]:
    """The tables of the tasks that have a result, by task: retrieval, moments, actions, and the cost of training."""
    metrics = {task: evidence.metrics(task) for task in ("retrieval", "moments", "actions", "resources")}
    retrieval = {key: values for key, values in metrics["retrieval"].items() if values["t2v"]}
    actions = {key: values for key, values in metrics["actions"].items() if values["zero_shot"]}
    model_of = {row["key"]: row["model"] for row in records(select(evidence.systems, {"task": "retrieval"}))}
    by_model: dict[str, dict[str, Mapping[str, Any]]] = {}
    for key, values in retrieval.items():
        by_model.setdefault(str(model_of[key]), {})[key] = values
    shots = sorted({int(count) for values in actions.values() for count in values["top1"]})
    zero_shot = Column("zero-shot top-1", "zero_shot/top1", "zero_shot/ci95/top1", about="spans named rightly, in %")
    probes = (
        Column(f"{count} {'shot' if count == 1 else 'shots'}", f"top1/{count}/mean", spread=f"top1/{count}/std")
        for count in shots
    )
    tables = (
        _table(evidence, "retrieval", RETRIEVAL, by_model),
        _table(evidence, "moments", MOMENTS, by_kind(metrics["moments"])),
        _table(evidence, "actions", (zero_shot, *probes), {"Models": actions}),
        _table(evidence, "resources", COSTS, {"Models": metrics["resources"]}),
    )
    return {table.task: table for table in tables if table.rows}


def _table(
    evidence: Evidence, task: str, columns: Sequence[Column], groups: Mapping[str, Mapping[str, Mapping[str, Any]]]
) -> TaskTable:
    every = {key: values for group in groups.values() for key, values in group.items()}
    winner = headline_values({task: every}).get(task, {}).get("best_system")
    with_most = {"measure": MEASURES.get(task), "task": task, "has_most_clips": (True, None)}
    compared = {
        row["key"]: row | {"num_seeds": 1, "keys": [row["key"]]} for row in records(select(evidence.values, with_most))
    }
    # the official evaluator rounds to two decimals, of which one decimal would be rounded again
    of_queries = records(select(evidence.values, {"task": task})) if task == "moments" else ()
    means = {(row["key"], row["measure"]): float(row["values"].mean()) for row in of_queries}
    rows = {}
    for key, values in every.items():
        is_compared = key != winner and {key, winner} <= compared.keys()
        pair = Pair(compared[key], compared[str(winner)]) if is_compared else None
        behind = None if pair is None else measured(pair, evidence.draws).interval
        cells = [_cell(values, column, means.get((key, column.title))) for column in columns]
        is_made = values["system"]["model"] is not None
        rows[key] = SystemRow(key, cells, behind, is_made)
    shown = {title: [rows[key] for key in group] for title, group in groups.items()}
    return TaskTable(task, columns, shown, rows.get(str(winner)), _beside(task, every, rows))


def _beside(task: str, metrics: Mapping[str, Mapping[str, Any]], rows: Mapping[str, SystemRow]) -> str:
    if task == "moments":
        rates = {
            key: rows[key].cells[0].value or 0.0
            for key, values in metrics.items()
            if values["protocol"]["kind"] == "reference" and key != ORACLE
        }
        best = max(rates, key=lambda key: rates[key], default="")
        return f"{best} {rates[best]:.1f}" if best else ""
    protocol: Mapping[str, Any] = next((values.get("protocol", {}) for values in metrics.values()), {})
    chance = protocol.get("chance_top1") if task == "actions" else 100 / protocol.get("gallery_size", np.inf)
    return f"chance {chance:.1f}" if chance else ""


def _cell(values: Mapping[str, Any], column: Column, unrounded: float | None) -> Cell:
    """The value of the file, or the mean over the queries where it is the same before it was rounded."""
    value = at_path(values, column.path)
    if value is not None and unrounded is not None and abs(unrounded - value) <= _ROUNDED_BY:
        value = unrounded
    low, high = (at_path(values, column.interval) if column.interval else None) or (None, None)
    spread = at_path(values, column.spread) if column.spread else None
    scaled = (None if number is None else number * column.scale for number in (value, low, high, spread))
    return Cell(*scaled)
