"""The frame of systems: what each system is, by fields, and the value that each of its queries has.

A system is what a metrics file is of. Its `system` object says what it was made of by keys of params.yaml; joined to it
are the blocks under these keys, as columns such as `recipe.patch_keep_rate`, `scorer.kind` or `expansion.family`, and
the protocol that it was measured by, such as `protocol.clip_frames`. So what a claim or a table is about is selected by
fields, and a new scorer or recipe is in the frame without a line here.
"""

# Q queries, or labelled spans.

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

Rows = Sequence[Mapping[str, Any]]
"""Content of a JSON Lines file."""
Params = Mapping[str, Any]
"""params.yaml after its models have checked it, as plain values."""

MODEL = ("base", "expansion", "pretraining", "recipe")
"""What a model is made of, but for its seed."""
ALIKE = ("task", *MODEL, "scorer")
"""What systems share that differ in the seed alone."""
BLOCKS = {"expansion": ("expansions",), "recipe": ("recipes",), "scorer": ("scorers", "selections", "shot_detectors")}
"""The sections of params.yaml that a field of a system is a key of."""
RECALLS = {"R@1": 1, "R@5": 5}
WINDOWS_IOU = (0.5, 0.7)
"""From which a window counts for R1@0.5 and R1@0.7."""
STUDIES = "studies"


@dataclass(frozen=True)
class Origin:
    """The file that numbers come from: metrics/TASK/KEY.json, or that of a study where the task is STUDIES."""

    task: str
    key: str


def systems_of(params: Params) -> dict[str, list[str]]:
    """Keys of the systems that a run measures, by task, in the order of params.yaml."""
    run = params["run"]
    kinds = (run["selections"], run["shot_detectors"])
    searched, detected = ([f"{model}-{name}" for model in run["selected"] for name in names] for names in kinds)
    return {
        "retrieval": list(params["retrieval"]),
        "moments": [*searched, *detected, *run["references"], *run["submissions"]],
        "assessment": list(run["assessed"]),
        "actions": list(run["probed"]),
        "resources": list(run["embedded"]),
    }


def systems_frame(metrics: Mapping[str, Mapping[str, Mapping[str, Any]]], params: Params) -> pd.DataFrame:
    """A row for each system, in the order given: task, key, its fields and those of its blocks, and its metrics.

    Args:
        metrics: content of the metrics files by task and key.
        params: of the run, for the blocks.
    """
    rows = [_row(task, key, values, params) for task, of_task in metrics.items() for key, values in of_task.items()]
    return _frame(rows, ["task", "key", *ALIKE[1:], "model", "seed", "metrics"])


def _row(task: str, key: str, metrics: Mapping[str, Any], params: Params) -> dict[str, Any]:
    system = dict(metrics["system"])
    pretraining = system["pretraining"]
    row = {"task": task, "key": key, "metrics": metrics, **system}
    # its seed is one of the seeds that systems may differ in
    row["pretraining"] = None if pretraining is None else (pretraining["dataset"], pretraining["recipe"])
    for field, sections in BLOCKS.items():
        for section in sections:
            row |= _flat(field, params[section].get(system[field], {}))
    return row | _flat("protocol", metrics.get("protocol") or {})


def _flat(prefix: str, block: Mapping[str, Any]) -> dict[str, Any]:
    """The block with dotted names; `_flat("a", {"b": {"c": 1}})` is `{"a.b.c": 1}`."""
    flat: dict[str, Any] = {}
    for name, value in block.items():
        flat |= _flat(f"{prefix}.{name}", value) if isinstance(value, Mapping) else {f"{prefix}.{name}": value}
    return flat


def _frame(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> pd.DataFrame:
    """The rows as objects, so that None stays None and a list a list."""
    names = list(dict.fromkeys([*columns, *(name for row in rows for name in row)]))
    return pd.DataFrame({name: pd.Series([row.get(name) for row in rows], dtype=object) for name in names})


def values_frame(
    systems: pd.DataFrame, *, ranks: Mapping[str, Rows], windows: Mapping[str, Rows], spans: Mapping[str, Rows]
) -> pd.DataFrame:
    """A row for each system, measure and number of clips: the columns of its system, and what each query has.

    `values` (Q,) are in percent, those of several seeds of an aggregator averaged; systems of one task have the same
    queries in the same order. `clusters` (Q,) says which of them are not independent, None where all are.
    `has_most_clips` is of the largest number of clips of a system.

    Args:
        systems: of `systems_frame`.
        ranks: rows of ranks.jsonl by system of retrieval.
        windows: rows of queries.jsonl by system of moment retrieval.
        spans: rows of spans.jsonl by system that names actions.
    """
    measure_of = {
        "retrieval": lambda key: _recalls(ranks.get(key, ())),
        "moments": lambda key: _window_values(windows.get(key, ())),
        "actions": lambda key: _named_spans(spans.get(key, ())),
    }
    rows = [
        system | measured
        for system in records(systems)
        if system["task"] in measure_of
        for measured in measure_of[system["task"]](system["key"])
    ]
    return _frame(rows, [*systems.columns, "measure", "clips", "has_most_clips", "values", "clusters"])


def _recalls(rows: Rows) -> Iterator[dict[str, Any]]:
    counts = sorted({int(count) for row in rows for count in row["rank_by_num_clips"]})
    for measure, k in RECALLS.items():
        for count in counts:
            seeds_of_Q = [np.asarray(row["rank_by_num_clips"][str(count)]) for row in rows]
            values_Q = np.array([100 * np.mean(ranks <= k) for ranks in seeds_of_Q])
            yield {"measure": measure, "clips": count, "has_most_clips": count == counts[-1], "values": values_Q}


def _window_values(rows: Rows) -> Iterator[dict[str, Any]]:
    if rows:
        values = {
            **{f"R1@{iou}": [100.0 * (row["top1_iou"] >= iou) for row in rows] for iou in WINDOWS_IOU},
            "mAP": [100.0 * row["average_precision"] for row in rows],
            "frame IoU": [100.0 * row["frame_iou"] for row in rows],
        }
        yield from ({"measure": measure, "values": np.array(of_Q)} for measure, of_Q in values.items())


def _named_spans(rows: Rows) -> Iterator[dict[str, Any]]:
    """Zero-shot; the spans of one video are a cluster."""
    if rows:
        hits_Q = np.array([100.0 * (row["zero_shot"] == row["label"]) for row in rows])
        yield {"measure": "top-1", "values": hits_Q, "clusters": np.array([row["video_id"] for row in rows])}


def select(frame: pd.DataFrame, where: Mapping[str, Any]) -> pd.DataFrame:
    """The rows whose columns are as said, each by a value, a tuple of values, or what a function says of its value.

    Example:
        `{"recipe": None, "scorer.kind": ("mean", "own"), "clips": lambda clips: clips > 1}`; a column that no system
        has is None in every row. A function is asked of rows alone that the conditions before it hold for.
    """
    for column, wanted in where.items():
        values = frame[column] if column in frame else [None] * len(frame)
        frame = frame[np.array([_is(value, wanted) for value in values], dtype=bool)]
    return frame


def _is(value: Any, wanted: Any) -> bool:
    if callable(wanted):
        return bool(wanted(value))
    return value in wanted if isinstance(wanted, tuple) and not isinstance(value, tuple) else bool(value == wanted)


def pooled(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows whose systems differ in the seed alone as one, called as the first: `values` averaged, `num_seeds` counted.

    A row without values keeps the other columns of the first seed.
    """
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in records(frame):
        groups.setdefault(tuple(row.get(name) for name in (*ALIKE, "measure", "clips")), []).append(row)
    return [_mean_of(group) for group in groups.values()]


def _mean_of(group: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    row = dict(group[0]) | {"num_seeds": len(group), "keys": [row["key"] for row in group]}
    if row.get("values") is not None:
        row["values"] = np.mean([one["values"] for one in group], axis=0)
    return row


def origins_of(*rows: Mapping[str, Any]) -> tuple[Origin, ...]:
    """The files of rows, of a pooled one those of all its seeds."""
    return tuple(Origin(row["task"], key) for row in rows for key in row.get("keys", [row["key"]]))


def seeds_label(row: Mapping[str, Any]) -> str:
    """The name of a pooled row in a table: `clip-mug-0-mean`, `clip-mug-mean, 3 seeds`."""
    return f"{shared_name(row['keys'])}, {row['num_seeds']} seeds" if row["num_seeds"] > 1 else str(row["key"])


def shared_name(names: Sequence[str]) -> str:
    """What the names of seeds have in common, word for word, and where that is nothing the first.

    Example:
        `clip-mug-0-mean` and `clip-mug-1-mean` are `clip-mug-mean`.
    """
    places = zip(*(name.split("-") for name in names), strict=False)
    return "-".join(place[0] for place in places if len(set(place)) == 1) or names[0]


def settings_but(frame: pd.DataFrame, *left_out: str) -> list[str]:
    """The settings of each row's recipe but for some, so that rows with the same were trained alike in all else.

    Args:
        frame: with the blocks of recipes.
        left_out: names of settings, such as `similarity`.
    """
    names = [str(name) for name in frame if str(name).startswith("recipe.")]
    kept = [name for name in names if name not in {f"recipe.{setting}" for setting in left_out}]
    return [json.dumps([row[name] for name in kept]) for row in records(frame)]


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows, by column."""
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]
