"""Two systems of the workspace on the same queries."""

import difflib
import textwrap
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stillmotion.errors import InputError
from stillmotion.io.predictions import FILE_OF_TASK, FOLDER, TaskName, predictions_path
from stillmotion.printed import one_per_line

if TYPE_CHECKING:
    from stillmotion.metrics.comparison import Answers

BUILD = "build with dvc repro, or fetch what a colleague built with dvc pull"
BOOTSTRAP_SEED = 0
NUM_MOVED = 5
TEXT_WIDTH = 100


def is_system(root: Path, name: str) -> bool:
    """Whether a system of this name was evaluated in the workspace, for any task."""
    return any(
        (root / predictions_path(task, name)).is_file() or (root / "metrics" / task / f"{name}.json").is_file()
        for task in FILE_OF_TASK
    )


def built_systems(root: Path, task: TaskName) -> list[str]:
    """The systems whose predictions are in the workspace."""
    return sorted(path.parent.name for path in (root / FOLDER / task).glob(f"*/{FILE_OF_TASK[task]}"))


def compare_systems(root: Path, names: tuple[str, str], task: TaskName, metric: str) -> dict[str, Any]:
    """What `--json` prints.

    Args:
        root: of the project.
        names: of the systems.
        task: of both.
        metric: empty for the task's default.

    Raises:
        InputError: a system is not there, or the two did not answer the same queries.
    """
    import numpy as np

    from stillmotion.io.tables import read_rows
    from stillmotion.metrics.answers import answers_of_rows
    from stillmotion.metrics.bootstrap import NUM_RESAMPLES
    from stillmotion.metrics.comparison import TASKS, check_same_queries, compare_answers

    metrics = TASKS[task].metrics
    metric = metric or next(iter(metrics))
    paths = [_predictions(root, task, system) for system in names]
    one, other = (answers_of_rows(read_rows(path), task, str(path)) for path in paths)
    check_same_queries(one.queries, other.queries, (str(paths[0]), str(paths[1])))
    if not one.queries:
        raise InputError(f"{paths[0]}: no queries; the test split of the dataset has none for {task}")
    found = compare_answers(one, other, TASKS[task], metric, rng=np.random.default_rng(BOOTSTRAP_SEED))
    return {
        "task": task,
        "metric": metric,
        "lower_is_better": metrics[metric].lower_is_better,
        "num_queries": len(one.queries),
        "first": {"system": names[0], metric: found.values[0], "num_seeds": one.outcomes_QS.shape[1]},
        "second": {"system": names[1], metric: found.values[1], "num_seeds": other.outcomes_QS.shape[1]},
        "difference": found.paired.difference,
        "ci95": [found.paired.low, found.paired.high],
        "p": found.paired.p_value,
        "bootstrap": {"resamples": NUM_RESAMPLES, "seed": BOOTSTRAP_SEED},
        "first_better": moved_queries(found.first_better, one, other),
        "second_better": moved_queries(found.second_better, one, other),
    }


def _predictions(root: Path, task: TaskName, system: str) -> Path:
    """The file of a system's predictions, or an error that says how to come by it."""
    file = FILE_OF_TASK[task]
    path = root / predictions_path(task, system)
    if path.is_file():
        return path
    if (root / "metrics" / task / f"{system}.json").is_file():
        raise InputError(f"{path}: {system} was measured, but its predictions are not here; {BUILD}")
    built = {other: built_systems(root, other) for other in FILE_OF_TASK}
    for other, systems in built.items():
        if system in systems:
            raise InputError(f"{system} is a system of {other}, not of {task}; add --task {other}")
    if not built[task]:
        raise InputError(f"{root / FOLDER / task}: no system's {file} is here; {BUILD}")
    close = difflib.get_close_matches(system, built[task], n=1)
    hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(built[task])}"
    raise InputError(f"{root / FOLDER / task}: no system {system}; {hint} (dvc repro builds those of params.yaml)")


def moved_queries(numbers: list[int], one: "Answers", other: "Answers") -> dict[str, Any]:
    """How many queries one side answered better, and those that moved most with both outcomes by seed."""
    most = [
        asdict(one.queries[number])
        | {"first": one.outcomes_QS[number].tolist(), "second": other.outcomes_QS[number].tolist()}
        for number in numbers[:NUM_MOVED]
    ]
    return {"num_queries": len(numbers), "most": most}


def moved_as_text(side: str, moved: dict[str, Any], task: TaskName) -> list[str]:
    """Lines that tell of the queries that `side` answered better."""
    lines = [f"Better by {side}: {moved['num_queries']}" + (", most:" if moved["most"] else "")]
    outcome, form = ("rank", "g") if task == "retrieval" else ("IoU", ".2f")
    for row in moved["most"]:
        first, second = (", ".join(f"{value:{form}}" for value in row[place]) for place in ("first", "second"))
        text = textwrap.shorten(row["text"], TEXT_WIDTH, placeholder=" …")
        lines.append(f"  {outcome} {first} against {second}: {row['query_id']} in {row['video_id']}: {text}")
    return lines


def systems_as_text(result: dict[str, Any]) -> str:
    """What is printed of `compare_systems` without `--json`."""
    metric, (low, high) = result["metric"], result["ci95"]
    both = [result["first"], result["second"]]
    width = max(len(of_system["system"]) for of_system in both)
    note = ", lower is better" if result["lower_is_better"] else ""
    lines = [f"{metric} of {result['num_queries']} queries{note}"]
    for of_system in both:
        seeds = f"   mean of {of_system['num_seeds']} seeds" if of_system["num_seeds"] > 1 else ""
        lines.append(f"  {of_system['system']:{width}} {of_system[metric]:8.2f}{seeds}")
    interval = f"95 % interval {low:+.2f} to {high:+.2f}, p {result['p']:.3f}"
    lines.append(f"  {'difference':{width}} {result['difference']:+8.2f}   {interval}")
    for side, of_system in zip(("first_better", "second_better"), both, strict=True):
        lines += moved_as_text(of_system["system"], result[side], result["task"])
    return one_per_line(lines)
