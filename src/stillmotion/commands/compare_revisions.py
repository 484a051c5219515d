"""All systems of two revisions on the same queries, but for those that the change left as they were."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stillmotion.commands.compare_systems import BOOTSTRAP_SEED, moved_as_text, moved_queries
from stillmotion.errors import InputError
from stillmotion.experiments.definition import suggestion
from stillmotion.experiments.revisions import PredictionsMissingError, Revision, RevisionName, open_revision
from stillmotion.io.predictions import TaskName
from stillmotion.metrics.bootstrap import NUM_RESAMPLES
from stillmotion.metrics.comparison import TASKS, check_same_queries, compare_answers
from stillmotion.printed import one_per_line
from stillmotion.stage import Progress

Named = dict[TaskName, list[str]]
"""Systems by task."""


@dataclass(frozen=True)
class Division:
    """The systems of two revisions."""

    changed: Named
    """Both have them, with other predictions."""
    untouched: Named
    only_first: Named
    only_second: Named


def divide(first: Revision, second: Revision, tasks: Sequence[TaskName], system: str) -> Division:
    """Divide the systems by what is to be done with them, the one that is named alone or all."""
    division = Division({}, {}, {}, {})
    for task in tasks:
        one, other = (
            {name: digest for name, digest in revision.digests[task].items() if system in ("", name)}
            for revision in (first, second)
        )
        both = sorted(one.keys() & other.keys())
        division.changed[task] = [name for name in both if one[name] != other[name]]
        division.untouched[task] = [name for name in both if one[name] == other[name]]
        division.only_first[task] = sorted(one.keys() - other.keys())
        division.only_second[task] = sorted(other.keys() - one.keys())
    return division


def compare_revisions(
    root: Path, names: tuple[RevisionName, RevisionName], tasks: Sequence[TaskName], *, metric: str, system: str
) -> dict[str, Any]:
    """What `--json` prints.

    Args:
        root: of the project.
        names: of the revisions.
        tasks: whose systems are compared.
        metric: of all tasks; empty for the default of each.
        system: the only one that is compared; empty for all.

    Raises:
        InputError: a revision has no system, the two did not answer the same queries, or the predictions of no changed
            system can be had.
    """
    with ExitStack() as stack:
        first, second = (stack.enter_context(open_revision(root, name)) for name in names)
        _check_systems(first, second, tasks, system)
        division = divide(first, second, tasks, system)
        changed = [(task, name) for task in tasks for name in division.changed[task]]
        compared, missing = [], []
        with Progress("comparing systems", len(changed)) as progress:
            for task, name in changed:
                try:
                    compared.append(_compared(first, second, task, name, metric=metric, moved=bool(system)))
                except PredictionsMissingError as error:
                    missing.append({"task": task, "system": name, "reason": str(error)})
                progress.advance()
    if missing and not compared:
        others = f" (nor are those of {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise InputError(f"{missing[0]['reason']}{others}")
    processors = [sorted(set(revision.processors.values())) for revision in (first, second)]
    return {
        "first": {"revision": names[0].name, "commit": names[0].commit, "processors": processors[0]},
        "second": {"revision": names[1].name, "commit": names[1].commit, "processors": processors[1]},
        "other_processor": other_processor(first.processors, second.processors),
        "systems": compared,
        "untouched": _listed(division.untouched),
        "only_first": _listed(division.only_first),
        "only_second": _listed(division.only_second),
        "predictions_missing": missing,
        "bootstrap": {"resamples": NUM_RESAMPLES, "seed": BOOTSTRAP_SEED},
    }


def _check_systems(first: Revision, second: Revision, tasks: Sequence[TaskName], system: str) -> None:
    for revision in (first, second):
        if not any(revision.digests[task] for task in tasks):
            raise InputError(
                f"{revision.of.name}: dvc.lock has no system of {' or '.join(tasks)}; run dvc repro there and commit it"
            )
        names = sorted({name for task in tasks for name in revision.digests[task]})
        if system and system not in names:
            raise InputError(
                f"--system {system}: {revision.of.name} has none of this name; {suggestion(system, names)}"
            )


def _compared(
    first: Revision, second: Revision, task: TaskName, name: str, *, metric: str, moved: bool
) -> dict[str, Any]:
    """One system in both revisions; with the queries that moved most where `moved`."""
    metric = metric or next(iter(TASKS[task].metrics))
    one, other = (revision.answers(task, name) for revision in (first, second))
    where = (f"{first.of.name}: {task} {name}", f"{second.of.name}: {task} {name}")
    check_same_queries(one.queries, other.queries, where)
    if not one.queries:
        raise InputError(f"{where[0]}: no queries; the test split of the dataset has none for {task}")
    # The change is what the second has more than the first.
    found = compare_answers(other, one, TASKS[task], metric, rng=np.random.default_rng(BOOTSTRAP_SEED))
    result = {
        "task": task,
        "system": name,
        "metric": metric,
        "lower_is_better": TASKS[task].metrics[metric].lower_is_better,
        "num_queries": len(one.queries),
        "first": {metric: found.values[1], "num_seeds": one.outcomes_QS.shape[1]},
        "second": {metric: found.values[0], "num_seeds": other.outcomes_QS.shape[1]},
        "change": found.paired.difference,
        "ci95": [found.paired.low, found.paired.high],
        "p": found.paired.p_value,
    }
    if moved:
        result["first_better"] = moved_queries(found.second_better, one, other)
        result["second_better"] = moved_queries(found.first_better, one, other)
    return result


def other_processor(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """Whether a model was measured on another processor, or one revision saw a processor that the other did not.

    Example: `{"clip": "AMD"}` and `{"clip": "AMD", "stan": "Intel"}` do; without measurements nothing is known.
    """
    if not one or not other:
        return False
    return set(one.values()) != set(other.values()) or any(one[name] != other[name] for name in one.keys() & other)


def _listed(systems: Named) -> list[dict[str, str]]:
    return [{"task": task, "system": name} for task, names in systems.items() for name in names]


def revisions_as_text(result: dict[str, Any]) -> str:
    """What is printed of `compare_revisions` without `--json`."""
    sides = ("first", "second")
    first, second = (str(RevisionName(result[side]["revision"], result[side]["commit"])) for side in sides)
    lines = []
    if result["other_processor"]:
        on = " against ".join("; ".join(result[side]["processors"]) for side in sides)
        lines.append(
            f"baseline was computed on another processor ({on}): "
            "last digits, and with them a metric, may differ without the change"
        )
    for heading, rows in _tables(result["systems"]).items():
        lines += [heading, *_table(rows, (first, second))]
        for row in rows:
            if "first_better" in row:
                lines += moved_as_text(second, row["second_better"], row["task"])
                lines += moved_as_text(first, row["first_better"], row["task"])
    if result["untouched"]:
        lines.append(f"{_count(len(result['untouched']))} untouched: the same predictions")
    for side, name in (("only_first", first), ("only_second", second)):
        if result[side]:
            lines.append(f"only {name} has " + ", ".join(f"{row['task']} {row['system']}" for row in result[side]))
    lines += [f"left out: {row['reason']}" for row in result["predictions_missing"]]
    return one_per_line(lines)


def _count(number: int) -> str:
    return f"{number} systems are" if number != 1 else "1 system is"


def _tables(systems: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The systems under what they have in common."""
    tables: dict[str, list[dict[str, Any]]] = {}
    for row in systems:
        note = ", lower is better" if row["lower_is_better"] else ""
        tables.setdefault(f"{row['task']}: {row['metric']} of {row['num_queries']} queries{note}", []).append(row)
    return tables


def _table(rows: Sequence[dict[str, Any]], names: tuple[str, str]) -> list[str]:
    cells = [("system", *names, "change", "95 % interval", "p")]
    for row in rows:
        values = (f"{row[side][row['metric']]:.2f}" for side in ("first", "second"))
        low, high = row["ci95"]
        cells.append((row["system"], *values, f"{row['change']:+.2f}", f"{low:+.2f} to {high:+.2f}", f"{row['p']:.3f}"))
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    return [
        "  "
        + f"{name:<{widths[0]}}"
        + "".join(f"  {cell:>{width}}" for cell, width in zip(rest, widths[1:], strict=True))
        for name, *rest in cells
    ]
