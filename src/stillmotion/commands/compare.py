"""The `stillmotion compare` command: two systems of the workspace, or two revisions, on the same queries.

The evaluate stages keep what each system made of each query in data/predictions/<task>/<system>/.
"""

from pathlib import Path
from typing import Annotated

import typer

from stillmotion.commands.compare_systems import built_systems, compare_systems, is_system, systems_as_text
from stillmotion.errors import InputError
from stillmotion.io.predictions import FILE_OF_TASK, TaskName
from stillmotion.printed import json_text


def compare(
    first: Annotated[
        str,
        typer.Argument(
            help="A system, such as small_clip-transformer_mean; or a revision: a commit, branch, tag, "
            "experiment of dvc, or workspace.",
        ),
    ],
    second: Annotated[str, typer.Argument(help="What to compare it with, of the same kind.")],
    task: Annotated[
        TaskName | None,
        typer.Option(
            help="What the systems do: find videos for texts, or moments in a video. Without it systems are of "
            "retrieval, and of revisions both are compared.",
            show_default=False,
        ),
    ] = None,
    metric: Annotated[
        str,
        typer.Option(
            help="For retrieval R@1, R@2, R@5, R@10, MRR or MeanR, for moments R1@0.5, R1@0.7 or mIoU. "
            "Without it R@1 or R1@0.5.",
            show_default=False,
        ),
    ] = "",
    system: Annotated[
        str,
        typer.Option(
            help="Of two revisions, compare this system alone, and show the queries that moved most.",
            show_default=False,
        ),
    ] = "",
    root: Annotated[Path, typer.Option(help="The project, which holds data/predictions.")] = Path(),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Compare two systems, or all systems of two revisions, on the same queries by the paired bootstrap.

    Of two systems it prints both values, the difference first minus second with its 95 % interval and two-sided p,
    and the queries that moved most each way. With several seeds a query counts by its mean over them.

    Of two revisions it prints a line for each system that both have and whose predictions differ, with the change from
    the first to the second; it says how many are untouched, which only one has, and whether the two were computed on
    different processors. Nothing is checked out: predictions come from dvc's cache, or its remote. A name that is both
    a system and a revision is the system where the other name is one too.

    For example:

    stillmotion compare small_clip-transformer_mean small_clip-mean --metric R@5

    stillmotion compare HEAD workspace

    stillmotion compare main thesis_8_frames --task moments --json

    stillmotion compare v1.0 retrieval --system small_clip-mean
    """
    names = (first, second)
    if not all(is_system(root, name) for name in names):
        from stillmotion.experiments.revisions import find_revision

        found = [find_revision(root, name) for name in names]
        one, other = found
        if one and other:
            from stillmotion.commands.compare_revisions import compare_revisions, revisions_as_text

            tasks = _tasks_with(metric, [task] if task else list(FILE_OF_TASK))
            changes = compare_revisions(root, (one, other), tasks, metric=metric, system=system)
            typer.echo(json_text(changes) if as_json else revisions_as_text(changes))
            return
        _check_kinds(root, {name: revision is not None for name, revision in zip(names, found, strict=True)})
    if system:
        raise InputError("--system narrows two revisions to one system; leave it out where two systems are compared")
    of_task: TaskName = task or "retrieval"
    _tasks_with(metric, [of_task])
    result = compare_systems(root, names, of_task, metric)
    typer.echo(json_text(result) if as_json else systems_as_text(result))


def _tasks_with(metric: str, tasks: list[TaskName]) -> list[TaskName]:
    """Those that have the metric; all where none is named."""
    from stillmotion.metrics.comparison import TASKS

    fitting = [task for task in tasks if not metric or metric in TASKS[task].metrics]
    if not fitting:
        why = "MedR is no mean over queries, so it has no paired difference" if metric == "MedR" else "no such metric"
        choices = "; ".join(f"for {task} give one of {', '.join(TASKS[task].metrics)}" for task in tasks)
        raise InputError(f"--metric {metric}: {why}; {choices}")
    return fitting


def _check_kinds(root: Path, is_revision: dict[str, bool]) -> None:
    """Refuse a revision beside what is none, and in a git repository two names that are nothing."""
    from stillmotion.experiments.revisions import close_name

    others = [name for name, found in is_revision.items() if not found]
    systems = [name for name in others if is_system(root, name)]
    revisions = [name for name, found in is_revision.items() if found]
    if revisions and systems:
        raise InputError(f"{revisions[0]} is a revision and {systems[0]} a system of the workspace; give two of a kind")
    if systems:
        return
    close = close_name(root, others[0], [system for task in FILE_OF_TASK for system in built_systems(root, task)])
    if close is None and not revisions:
        return
    raise InputError(
        f"{others[0]}: no commit, branch, tag or experiment, and no system of the workspace; "
        + (f"did you mean {close}?" if close else "git log and dvc exp list --all-commits show what there is")
    )
