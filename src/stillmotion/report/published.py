"""Published numbers with ours beside them, joined by data/counterparts.csv.

A counterpart says which of our values a published number is to be held against: the task, and of its system the base,
recipe, scorer, objective of the thresholds and number of clips; `setting` is that of a study, or of a counted step.
Only the same data compare: `on` is the dataset in params.yaml, and `size` the test queries or spans, missing ones
included; of actions it may be left empty where it is not known.
`value` is a path into the metrics file, `scale` what makes the published unit of it.
"""

import csv
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stillmotion.claims.compare import num_clips
from stillmotion.claims.evidence import Evidence
from stillmotion.claims.systems import STUDIES, Origin, records, shared_name
from stillmotion.errors import InputError

NUMBER = ("system", "dataset", "split", "metric", "value", "source")
"""Columns of published_results.csv and third_party_results.csv; values are as printed, in some with `±` and the
deviation over seeds."""
SOURCE = ("source", "document", "part")
"""Columns of published_sources.csv: where on the page a source's numbers stand."""
KEY = ("source", "dataset", "system", "metric")
OURS = ("task", "base", "recipe", "scorer", "objective", "setting", "clips", "on", "size")
FOUND = ("label", "numbers", "origin", "protocol")
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
    origins: tuple[Origin, ...]
    """The files that ours is from."""
    protocol: str
    """What ours was measured on and by."""
    difference: str
    """Ours less the published value in its unit; empty where the two are not a number each."""
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
    measured = pd.DataFrame(_measured(evidence), columns=[*OURS, *FOUND], dtype=object)
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
        origins=tuple(row["origin"] for rows in of_base.values() for row in rows),
        protocol="; ".join(dict.fromkeys(row["protocol"] for rows in of_base.values() for row in rows)),
        difference=_difference(matches[0]["value"], *of_base.values()),
        measures=frozenset(
            tuple(row[name] for name in (*OURS[:-1], "path", "scale"))
            for row in matches
            if isinstance(row["base"], str)
        ),
    )


def _label(rows: list[dict[str, Any]]) -> str:
    """The system of one value, of several seeds what their names share."""
    return shared_name([row["label"] for row in rows]) + (f", {len(rows)} seeds" if len(rows) > 1 else "")


def _difference(published: str, *of_bases: list[dict[str, Any]]) -> str:
    theirs = re.match(r"-?[\d.]+", published)
    values = [at_path(row["numbers"], row["path"]) for rows in of_bases for row in rows]
    if theirs is None or len(of_bases) != 1 or any(isinstance(value, str) for value in values):
        return ""
    first = of_bases[0][0]
    return f"{np.mean(values) * float(first['scale']) - float(theirs[0]):+.{int(first['decimals'])}f}"


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
        own |= {"origin": Origin(row["task"], row["key"]), "protocol": _protocol(row)}
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
                own |= {"origin": Origin("resources", name), "protocol": f"a step of {counted['batch_size']}, counted"}
                yield nothing | own | {"label": name, "numbers": numbers}
    for study in evidence.studies.values():
        own = {"task": "studies", "on": study.dataset, "origin": Origin(STUDIES, study.name)}
        own["protocol"] = "validation split"
        for point in study.points if study.dataset == evidence.dataset else ():
            value = f"{point.value:g}" if isinstance(point.value, int | float) else point.value
            spread = {} if point.validation_std is None else {"validation_R@1": point.validation_std}
            numbers = {"validation_R@1": point.validation, "std": spread}
            label = f"{study.system} ({study.name})"
            yield nothing | own | {"setting": f"{study.name}={value}", "label": label, "numbers": numbers}


def _protocol(row: Mapping[str, Any]) -> str:
    """What a system was measured on and by, of what its metrics file says."""

    def told(name: str, text: str) -> str:
        value = row.get(f"protocol.{name}")
        return text.format(value) if value and not str(value).startswith(("nothing", "none")) else ""

    searched = told("thresholds.num_trials", "thresholds by {} trials on train")
    chosen = "" if searched else told("selected_on", "chosen on {}")
    parts = [told("num_queries", "{:,} test queries") or told("num_spans", "{:,} test spans")]
    parts += [told("gallery_size", "{:,} videos"), told("clip_frames", "{} frames a clip"), searched, chosen]
    parts.append(told("inference_tricks", "with {}"))
    return ", ".join(filter(None, parts))


def _crossover(actions: Mapping[str, Any]) -> str | None:
    """The fewest samples a class with which the probe is above zero-shot."""
    if not actions["top1"]:
        return None
    above = [int(shots) for shots, probe in actions["top1"].items() if probe["mean"] > actions["zero_shot"]["top1"]]
    return str(min(above)) if above else "never"
