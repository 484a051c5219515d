"""The `stillmotion ablate` command: an ablation of ablations.yaml as `dvc exp` experiments."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stillmotion.errors import InputError
from stillmotion.io.atomic import atomic_file

if TYPE_CHECKING:
    from stillmotion.experiments.definition import Ablation
    from stillmotion.experiments.plan import Experiment
    from stillmotion.experiments.results import Collected

REPORTS = Path("reports") / "ablations"
FAILED_STATUS = 1


def ablate(
    name: Annotated[str, typer.Argument(help="An ablation of ablations.yaml; without it they are listed.")] = "",
    values: Annotated[
        str | None, typer.Option(help="Instead of its values, such as 16,32.", show_default=False)
    ] = None,
    seeds: Annotated[str | None, typer.Option(help="Instead of its seeds, such as 0,1.", show_default=False)] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Experiments at once, each with its own threads.")] = 1,
    keep_queue: Annotated[
        bool, typer.Option("--keep-queue", help="Leave what has ended in dvc's queue, for dvc queue logs.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the commands, run nothing.")] = False,
) -> None:
    """Run an ablation: one experiment for each value and seed, then one table and one figure.

    Writes NAME.json, NAME.md and NAME.svg into reports/ablations. Experiments of this commit that have results are
    not run again, so the same command goes on where it was interrupted. One that fails is listed with its reason,
    the others are collected, and the exit status is 1.

    For example:

    stillmotion ablate patch_keep_rate --values 0.5,1.0 --seeds 0
    """
    from stillmotion.config.loading import load_params
    from stillmotion.experiments import dvc_queue as dvc_experiments
    from stillmotion.experiments.definition import chosen, find_ablation, load_ablations
    from stillmotion.experiments.plan import planned_experiments

    ablations = load_ablations()
    if not name:
        typer.echo(_listing(ablations))
        return
    ablation = chosen(find_ablation(ablations, name), values, seeds)
    params = load_params()
    planned = planned_experiments(name, ablation, params)
    dataset = str(ablation.settings.get("dataset", params.dataset))
    commit = dvc_experiments.current_commit(dataset)
    done = dvc_experiments.finished_experiments(commit)
    pending = [experiment for experiment in planned if experiment.name not in done]
    if dry_run:
        for experiment in planned:
            words = dvc_experiments.queue_command(experiment, ablation.targets)
            typer.echo(f"# {experiment.name} has results" if experiment not in pending else _shell(words))
        return
    typer.echo(f"{name}: {len(planned)} experiments, {len(pending)} to run", err=True)
    if pending:
        try:
            dvc_experiments.run_experiments(
                pending,
                ablation.targets,
                commit=commit,
                jobs=jobs,
                shared_are_built=len(pending) < len(planned),
            )
        except KeyboardInterrupt:
            typer.echo(
                "Interrupted. What runs goes on in the background: the same command follows it again, "
                "`dvc queue stop --kill` ends it.",
                err=True,
            )
            raise typer.Abort() from None
    done = dvc_experiments.finished_experiments(commit)
    collected, failures = _collect(planned, done, ablation)
    for failed, reason in failures.items():
        typer.echo(f"failed: {failed}: {reason}", err=True)
    if pending and not keep_queue:
        dvc_experiments.remove_from_queue({experiment.name for experiment in pending})
    if collected:
        _write(name, ablation, dataset, collected, failures)
    if failures:
        raise typer.Exit(FAILED_STATUS)


def _listing(ablations: dict[str, "Ablation"]) -> str:
    lines = []
    for name, ablation in ablations.items():
        points = ", ".join(str(value) for value, _ in ablation.points)
        num_experiments = len(ablation.points) * len(ablation.seeds_of_experiments)
        num_runs = len(ablation.points) * len(ablation.seeds)
        lines.append(f"{name}: {ablation.title}; {num_runs} runs in {num_experiments} experiments")
        lines.append(f"  {ablation.param}: {points}; seeds {', '.join(map(str, ablation.seeds))}")
    return "\n".join(lines)


def _shell(words: list[str]) -> str:
    return shlex.join(["dvc", *words])


def _collect(
    planned: list["Experiment"], done: dict[str, str], ablation: "Ablation"
) -> tuple[list["Collected"], dict[str, str]]:
    """What the experiments gave, and why others gave nothing, by name."""
    from stillmotion.experiments.dvc_queue import failure_reason, read_cached_rows, read_tracked
    from stillmotion.experiments.results import Collected, experiment_runs

    collected, failures = [], {}
    for experiment in planned:
        revision = done.get(experiment.name)
        if revision is None:
            failures[experiment.name] = failure_reason(experiment.name)
            continue
        try:
            history = read_tracked(revision, ablation.validation_file)
            ranks = read_cached_rows(revision, ablation.ranks_file)
            cost = read_tracked(revision, ablation.cost_file) if ablation.cost else None
            collected.append(Collected(experiment, experiment_runs(experiment, ablation, history, ranks), cost))
        except InputError as error:
            failures[experiment.name] = str(error)
    return collected, failures


def _write(
    name: str, ablation: "Ablation", dataset: str, collected: list["Collected"], failures: dict[str, str]
) -> None:
    from stillmotion.experiments.page import ablation_figure, ablation_page, ablation_table
    from stillmotion.experiments.results import ablation_result
    from stillmotion.io.tables import write_json
    from stillmotion.report.figures import save_figure

    result = ablation_result(name, ablation, dataset, collected)
    write_json(REPORTS / f"{name}.json", result, digits=4)
    save_figure(ablation_figure(result), REPORTS / f"{name}.svg")
    page = REPORTS / f"{name}.md"
    with atomic_file(page) as partial:
        partial.write_text(ablation_page(result, failures), encoding="utf-8")
    typer.echo(f"{ablation_table(result)}\n\n{page}")
