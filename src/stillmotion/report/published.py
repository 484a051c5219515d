"""Published numbers with ours beside them, joined by data/counterparts.csv.

A counterpart says which of our values a published number is to be held against: the task, and of its system the base,
recipe, scorer, objective of the thresholds and number of clips; `setting` is that of a study, or of a counted step.
Only the same data compare: `on` is the dataset in params.yaml, and `size` the test queries or spans, missing ones
included; of actions it may be left empty where it is not known.
`value` is a path into the metrics file, `scale` what makes the published unit of it.
"""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stillmotion.claims.compare import num_clips
from stillmotion.claims.evidence import Evidence
from stillmotion.claims.systems import records
from stillmotion.errors import InputError
from stillmotion.report.tables import markdown_table

NUMBER = ("system", "dataset", "split", "metric", "value", "source")
"""Columns of published_results.csv and third_party_results.csv; values are as printed, in some with `±` and the
deviation over seeds."""
SOURCE = ("source", "document", "part")
"""Columns of published_sources.csv: where on the page a source's numbers stand."""
KEY = ("source", "dataset", "system", "metric")
OURS = ("task", "base", "recipe", "scorer", "objective", "setting", "clips", "on", "size")
PRINTED = ("system", "dataset", "split", "metric", "value", "document", "part")
COUNTERPART = (*KEY, *OURS, "value", "scale", "decimals", "experiment")
"""Columns of counterparts.csv; a number may have several counterparts."""


@dataclass(frozen=True)
class Published:
    """A published number and what we have of it."""

    system: str
    dataset: str
    split: str
    metric: str
    value: str
    document: str
    part: str
    experiments: tuple[str, ...]
    """What would make ours; none where the number has no counterpart."""
    ours: str | None
    labels: tuple[str, ...]
    """Whose ours is."""
    measures: frozenset[tuple[str, ...]]
    """What its counterparts are a measure of: the columns of OURS but for the size, the path and the scale."""


def read_table(path: Path, columns: tuple[str, ...], *, may_be_empty: tuple[str, ...] = ()) -> pd.DataFrame:
    """The rows of a CSV file with these columns, as text.

    Raises:
        InputError: there is no such file, a column is missing, or a cell is empty; one line that names the row as a
            spreadsheet shows it.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; restore it with git checkout") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8") from None
    reader = csv.DictReader(io.StringIO(text))
    if tuple(reader.fieldnames or ()) != columns:
        raise InputError(f"{path}: the first row must be {','.join(columns)}")
    rows = list(reader)
    for place, row in enumerate(rows, start=2):
        if None in row or not all(row[name] or (name in may_be_empty and row[name] == "") for name in columns):
            raise InputError(f"{path} row {place}: each column must have one value; quote a value with commas")
    return pd.DataFrame(rows, columns=list(columns), dtype=object)


def read_published(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The published numbers with their documents, and the counterparts, of the four files of a folder.

    What a third party measured has no split of its own: it follows from the dataset, and the page has it in words.

    Raises:
        InputError: see `read_table`; or a source is in no document.
    """
    third = read_table(folder / "third_party_results.csv", NUMBER).assign(split="-")
    numbers = pd.concat([read_table(folder / "published_results.csv", NUMBER), third], ignore_index=True)
    sources = read_table(folder / "published_sources.csv", SOURCE)
    unknown = sorted(set(numbers["source"]) - set(sources["source"]))
    if unknown:
        raise InputError(f"{folder / 'published_sources.csv'}: no row for the source {unknown[0]!r}; add one")
    counterparts = read_table(folder / "counterparts.csv", COUNTERPART, may_be_empty=OURS)
    return numbers.merge(sources, on="source", how="left"), counterparts


def beside_ours(numbers: pd.DataFrame, counterparts: pd.DataFrame, evidence: Evidence) -> list[Published]:
    """Each published number with ours, in the order given."""
    counterparts = counterparts.rename(columns={"value": "path"})
    measured = pd.DataFrame(_measured(evidence), columns=[*OURS, "label", "numbers"], dtype=object)
    joined = numbers.merge(counterparts, on=list(KEY), how="left").merge(measured, on=list(OURS), how="left")
    groups = joined.groupby(list(PRINTED), sort=False)
    return [_beside(records(group)) for _, group in groups]


def _beside(matches: list[dict[str, Any]]) -> Published:
    of_base: dict[str, list[dict[str, Any]]] = {}
    for row in matches:
        if isinstance(row["label"], str) and at_path(row["numbers"], row["path"]) is not None:
            of_base.setdefault(row["base"], []).append(row)
    values = {_label(rows): _shown(rows) for rows in of_base.values()}
    several = ", ".join(f"{value} ({label})" for label, value in values.items())
    return Published(
        **{name: matches[0][name] for name in PRINTED},
        experiments=tuple(dict.fromkeys(row["experiment"] for row in matches if isinstance(row["experiment"], str))),
        ours=several if len(values) > 1 else next(iter(values.values()), None),
        labels=tuple(values),
        measures=frozenset(
            tuple(row[name] for name in (*OURS[:-1], "path", "scale"))
            for row in matches
            if isinstance(row["base"], str)
        ),
    )


def _label(rows: list[dict[str, Any]]) -> str:
    """The system of one value, the first of several seeds."""
    return rows[0]["label"] + (f", {len(rows)} seeds" if len(rows) > 1 else "")


def _shown(rows: list[dict[str, Any]]) -> str:
    """The value in the published unit; over several seeds the mean with the deviation."""
    path, scale, decimals = rows[0]["path"], float(rows[0]["scale"]), int(rows[0]["decimals"])
    values = [at_path(row["numbers"], path) for row in rows]
    if isinstance(values[0], str):
        return values[0]
    *parts, name = path.split("/")
    spread = (
        at_path(rows[0]["numbers"], "/".join([*parts, "std", name])) if len(values) == 1 else np.std(values, ddof=1)
    )
    shown = f"{float(np.mean(values)) * scale:.{decimals}f}"
    return shown if spread is None else f"{shown} ± {spread * scale:.{decimals}f}"


def at_path(numbers: Mapping[str, Any], path: str) -> Any:
    """The value at a path such as `t2v/R@1`; None where there is none."""
    found: Any = numbers
    for name in path.split("/"):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _measured(evidence: Evidence) -> Iterator[dict[str, Any]]:
    """What we have, by the columns of OURS, all text: empty where a column is not of a task."""
    nothing = dict.fromkeys(OURS, "")
    for row in records(evidence.systems):
        if row["expansion"] is not None or row["pretraining"] is not None:
            continue
        own = {name: row[name] or "" for name in ("task", "base", "recipe", "scorer")} | {"on": evidence.dataset}
        if row["task"] == "actions":
            crossover = {"shots_above_zero_shot": _crossover(row["metrics"])}
            lost = row.get("protocol.missing_videos")
            own["label"] = row["key"] + (f"; {lost} videos missing" if lost else "")
            yield nothing | own | {"numbers": row["metrics"] | crossover}
            if row.get("protocol.num_spans"):
                size = str(row["protocol.num_spans"] + row["protocol.missing_spans"])
                yield nothing | own | {"size": size, "numbers": row["metrics"]}
        elif row["task"] in ("retrieval", "moments"):
            own["size"] = str(row["protocol.num_queries"] + row["protocol.missing_queries"])
            lost = row["protocol.missing_videos"]
            note = f"; {lost} videos missing" if lost else ""
            own["objective"] = row.get("protocol.thresholds.objective") or ""
            for clips, numbers in row["metrics"].get("by_num_clips", {"": row["metrics"]}).items():
                label = f"{row['key']}, {num_clips(int(clips))}" if clips else row["key"]
                yield nothing | own | {"clips": clips, "label": label + note, "numbers": numbers}
    for name, counted in evidence.architectures.items():
        for step in counted["steps"]:
            if step["frozen_blocks"] == 0:
                numbers = counted | step | {"multiply_adds": step["forward_flops"] / 2 / counted["batch_size"]}
                own = {"task": "architectures", "base": name, "setting": f"patch_keep_rate={step['keep_rate']:g}"}
                yield nothing | own | {"label": name, "numbers": numbers}
    for study in evidence.studies.values():
        own = {"task": "studies", "on": study.dataset}
        for point in study.points if study.dataset == evidence.dataset else ():
            value = f"{point.value:g}" if isinstance(point.value, int | float) else point.value
            spread = {} if point.validation_std is None else {"validation_R@1": point.validation_std}
            numbers = {"validation_R@1": point.validation, "std": spread}
            label = f"{study.system} ({study.name})"
            yield nothing | own | {"setting": f"{study.name}={value}", "label": label, "numbers": numbers}


def _crossover(actions: Mapping[str, Any]) -> str | None:
    """The fewest samples a class with which the probe is above zero-shot."""
    if not actions["top1"]:
        return None
    above = [int(shots) for shots, probe in actions["top1"].items() if probe["mean"] > actions["zero_shot"]["top1"]]
    return str(min(above)) if above else "never"


def published_tables(numbers: list[Published], *, by_dataset: bool) -> dict[str, str]:
    """The tables of a document by title: a row for each system on a split, with ours below it.

    Args:
        numbers: of the document.
        by_dataset: a table for each dataset, with a column that says which part of the source; else one for each part.
    """
    tables: dict[str, dict[tuple[str, str], list[Published]]] = {}
    for row in numbers:
        has_dataset = row.dataset != "-"
        if by_dataset:
            title = row.dataset if has_dataset else "No dataset"
            where = row.part if row.split == "-" else f"{row.part}, {row.split}"
        else:
            title, where = f"{row.part}: {row.dataset}, {row.split}" if has_dataset else row.part, ""
        tables.setdefault(title, {}).setdefault((row.system, where), []).append(row)
    return {title: _table(groups) for title, groups in tables.items()}


def by_several(numbers: Sequence[Published]) -> list[list[str]]:
    """Rows of what several documents measured of one model on one dataset, in percent, and ours of it.

    Dataset, model and measure; the values with their sources and splits; ours, and its experiment.
    """
    of: dict[tuple[str, ...], list[tuple[Published, str]]] = {}
    for row in numbers:
        for *measure, scale in row.measures:
            of.setdefault(tuple(measure), []).append((row, scale))
    lines = []
    for key, found in of.items():
        if len({row.document for row, _ in found}) > 1:
            told = []
            for row, scale in found:
                where = [row.document, row.part, *([row.split] if row.split != "-" else [])]
                told.append(f"{_percent(row.value, scale)} ({', '.join(where)})")
            ours = next(
                (f"{row.ours} ({row.labels[0]})" for row, scale in found if row.ours and float(scale) == 1), None
            )
            base, on, path = key[OURS.index("base")], key[OURS.index("on")], key[-1]
            lines.append(
                [
                    on,
                    base,
                    path,
                    "; ".join(told).replace(", -)", ")"),
                    ours or "not run here",
                    *found[0][0].experiments[:1],
                ]
            )
    return lines


def _percent(value: str, scale: str) -> str:
    return value if float(scale) == 1 else f"{float(value) / float(scale):g}"


def _table(groups: Mapping[tuple[str, str], list[Published]]) -> str:
    every = [row for rows in groups.values() for row in rows]
    metrics = list(dict.fromkeys(row.metric for row in every))
    has_where, has_ours = any(where for _, where in groups), any(row.experiments for row in every)
    lines = []
    for (system, where), rows in groups.items():
        ours = {row.metric: row.ours for row in rows if row.ours is not None}
        cells = [(system, {row.metric: row.value for row in rows}, where, _state(rows))]
        if ours:
            labels = dict.fromkeys(label for row in rows for label in row.labels)
            cells.append((f"↳ {'; '.join(labels)}", ours, "", ""))
        for name, of_metric, place, state in cells:
            numbers = [of_metric.get(metric, "–") for metric in metrics]
            lines.append([name, *numbers] + [place] * has_where + [state] * has_ours)
    header = ["system", *metrics] + ["source, split"] * has_where + ["ours"] * has_ours
    table = markdown_table(header, lines)
    return table if has_ours else f"None of these has a counterpart here.\n\n{table}"


def _state(rows: list[Published]) -> str:
    if not any(row.experiments for row in rows):
        return "no counterpart"
    missing = dict.fromkeys(name for row in rows if row.ours is None for name in row.experiments)
    not_run = f"not run here: {', '.join(missing)}" if missing else ""
    return "; ".join(filter(None, ["below" if any(row.ours is not None for row in rows) else "", not_run]))
