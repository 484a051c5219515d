"""The `stillmotion compare` command: two systems of the pipeline on the same queries.

The evaluate stages keep what each system made of each query in data/predictions/<task>/<system>/.
"""

import difflib
import json
import sys
import textwrap
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from stillmotion.errors import InputError

if TYPE_CHECKING:
    from stillmotion.metrics.comparison import Answers

PREDICTIONS = Path("data") / "predictions"
FILE_OF_TASK = {"retrieval": "ranks.jsonl", "moments": "queries.jsonl"}
BUILD = "build with dvc repro, or fetch what a colleague built with dvc pull"
BOOTSTRAP_SEED = 0
NUM_MOVED = 5
TEXT_WIDTH = 100


def compare(
    first: Annotated[str, typer.Argument(help="A system, such as small_clip-transformer_mean.")],
    second: Annotated[str, typer.Argument(help="The system to compare it with.")],
    task: Annotated[
        Literal["retrieval", "moments"],
        typer.Option(help="What the systems do: find videos for texts, or moments in a video."),
    ] = "retrieval",
    metric: Annotated[
        str,
        typer.Option(
            help="For retrieval R@1, R@2, R@5, R@10, MRR or MeanR, for moments R1@0.5, R1@0.7 or mIoU. "
            "Without it R@1 or R1@0.5.",
            show_default=False,
        ),
    ] = "",
    root: Annotated[Path, typer.Option(help="The project, which holds data/predictions.")] = Path(),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Compare two systems on the same queries by the paired bootstrap.

    Prints both values, their difference with its 95 % interval and two-sided p, and the queries that moved most
    each way. With several seeds a query counts by its mean over them.

    For example:

    stillmotion compare small_clip-transformer_mean small_clip-mean --metric R@5
    """
    import numpy as np

    from stillmotion.metrics.bootstrap import NUM_RESAMPLES
    from stillmotion.metrics.comparison import TASKS, check_same_queries, compare_answers

    metrics = TASKS[task].metrics
    metric = metric or next(iter(metrics))
    if metric not in metrics:
        why = "MedR is no mean over queries, so it has no paired difference" if metric == "MedR" else "no such metric"
        raise InputError(f"--metric {metric}: {why}; for {task} give one of {', '.join(metrics)}")
    paths = [_predictions(root, task, system) for system in (first, second)]
    one, other = (_read_answers(path, task) for path in paths)
    check_same_queries(one.queries, other.queries, (str(paths[0]), str(paths[1])))
    if not one.queries:
        raise InputError(f"{paths[0]}: no queries; the test split of the dataset has none for {task}")
    found = compare_answers(one, other, TASKS[task], metric, rng=np.random.default_rng(BOOTSTRAP_SEED))
    result = {
        "task": task,
        "metric": metric,
        "lower_is_better": metrics[metric].lower_is_better,
        "num_queries": len(one.queries),
        "first": {"system": first, metric: found.values[0], "num_seeds": one.outcomes_QS.shape[1]},
        "second": {"system": second, metric: found.values[1], "num_seeds": other.outcomes_QS.shape[1]},
        "difference": found.paired.difference,
        "ci95": [found.paired.low, found.paired.high],
        "p": found.paired.p_value,
        "bootstrap": {"resamples": NUM_RESAMPLES, "seed": BOOTSTRAP_SEED},
        "first_better": _moved(found.first_better, one, other),
        "second_better": _moved(found.second_better, one, other),
    }
    typer.echo(json.dumps(result, indent=2, ensure_ascii=False) if as_json else _as_text(result))


def _predictions(root: Path, task: str, system: str) -> Path:
    """The file of a system's predictions, or an error that says how to come by it."""
    file = FILE_OF_TASK[task]
    path = root / PREDICTIONS / task / system / file
    if path.is_file():
        return path
    if (root / "metrics" / task / f"{system}.json").is_file():
        raise InputError(f"{path}: {system} was measured, but its predictions are not here; {BUILD}")
    built = {other: _built(root, other) for other in FILE_OF_TASK}
    for other, systems in built.items():
        if system in systems:
            raise InputError(f"{system} is a system of {other}, not of {task}; add --task {other}")
    if not built[task]:
        raise InputError(f"{root / PREDICTIONS / task}: no system's {file} is here; {BUILD}")
    close = difflib.get_close_matches(system, built[task], n=1)
    hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(built[task])}"
    raise InputError(f"{root / PREDICTIONS / task}: no system {system}; {hint} (dvc repro builds those of params.run)")


def _built(root: Path, task: str) -> list[str]:
    return sorted(path.parent.name for path in (root / PREDICTIONS / task).glob(f"*/{FILE_OF_TASK[task]}"))


def _read_answers(path: Path, task: str) -> "Answers":
    import numpy as np

    from stillmotion.io.tables import read_rows
    from stillmotion.metrics.comparison import Answers, Query

    keys = ("caption_id", "video_id", "text") if task == "retrieval" else ("qid", "vid", "query")
    rows = read_rows(path)
    queries, outcomes = [], []
    for number, row in enumerate(rows, start=1):
        missing = [key for key in keys if not isinstance(row.get(key), str | int)]
        if missing:
            raise InputError(f"{path} row {number}: no {missing[0]}; make the file again with dvc repro")
        queries.append(Query(*(str(row[key]) for key in keys)))
        outcomes.append(_outcomes(row, task, f"{path} row {number}"))
        if len(outcomes[-1]) != len(outcomes[0]):
            raise InputError(
                f"{path} row {number}: {len(outcomes[-1])} ranks, row 1 has {len(outcomes[0])}; "
                "make the file again with dvc repro"
            )
    return Answers(queries, np.array(outcomes, dtype=np.float64))


def _outcomes(row: dict[str, Any], task: str, where: str) -> list[float]:
    """The ranks by seed, or the one IoU."""
    if task == "retrieval":
        key, values, low, high = "rank", row.get("rank"), 1.0, sys.float_info.max
    else:
        key, values, low, high = "top1_iou", [row.get("top1_iou")], 0.0, 1.0
    if (
        isinstance(values, list)
        and values
        and all(isinstance(value, int | float) and low <= value <= high for value in values)
    ):
        return values
    raise InputError(f"{where}: {key} is {str(row.get(key))[:40]}; make the file again with dvc repro")


def _moved(numbers: list[int], one: "Answers", other: "Answers") -> dict[str, Any]:
    """How many queries one system answered better, and those that moved most with both outcomes by seed."""
    most = [
        asdict(one.queries[number])
        | {"first": one.outcomes_QS[number].tolist(), "second": other.outcomes_QS[number].tolist()}
        for number in numbers[:NUM_MOVED]
    ]
    return {"num_queries": len(numbers), "most": most}


def _as_text(result: dict[str, Any]) -> str:
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
    outcome, form = ("rank", "g") if result["task"] == "retrieval" else ("IoU", ".2f")
    for side, of_system in zip(("first_better", "second_better"), both, strict=True):
        moved = result[side]
        lines.append(f"Better by {of_system['system']}: {moved['num_queries']}" + (", most:" if moved["most"] else ""))
        for row in moved["most"]:
            first, second = (", ".join(f"{value:{form}}" for value in row[place]) for place in ("first", "second"))
            text = textwrap.shorten(row["text"], TEXT_WIDTH, placeholder=" …")
            lines.append(f"  {outcome} {first} against {second}: {row['query_id']} in {row['video_id']}: {text}")
    return "\n".join(lines)
