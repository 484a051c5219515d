"""The `stillmotion run` command: an experiment of experiments/ as `dvc exp` runs beside the workspace."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stillmotion.errors import InputError
from stillmotion.io.atomic import atomic_file
from stillmotion.printed import one_line, one_per_line

if TYPE_CHECKING:
    from stillmotion.experiments.definition import Experiment
    from stillmotion.experiments.plan import Collection, PlannedRun
    from stillmotion.experiments.results import Collected

REPORTS = Path("reports") / "ablations"
FAILED_STATUS = 1


def run(
    name: Annotated[
        str, typer.Argument(help="A file of experiments/, without .yaml; without one they are listed.")
    ] = "",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Set a param too, such as threads=1; as often as needed."),
    ] = None,
    values: Annotated[
        str | None, typer.Option(help="Of a study: instead of its values, such as 16,32.", show_default=False)
    ] = None,
    seeds: Annotated[
        str | None, typer.Option(help="Of what is fine-tuned, such as 0,1: an experiment for each.", show_default=False)
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Of a study: experiments at once, each with its own threads.")] = 1,
    keep_queue: Annotated[
        bool, typer.Option("--keep-queue", help="Leave what has ended in dvc's queue, for dvc queue logs.")
    ] = False,
    finetuned: Annotated[
        bool, typer.Option("--finetune", help="Fine-tune the model on the dataset too, and score both.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the commands of dvc, run nothing.")] = False,
) -> None:
    """Run an experiment beside the workspace, whose results stay as they are; alone, list the experiments.

    Prints each `dvc exp run` and runs it: one, or, for a study, one for each of its values and seeds, through dvc's
    queue, after the stages that they share. What has results at this commit is not run again, so the same command goes
    on where it was interrupted. Afterwards `dvc exp show --only-changed` compares, and `dvc exp apply NAME` brings the
    results into the workspace. A study is collected into reports/ablations: NAME.json, NAME.md and NAME.svg. What fails
    is listed with its reason, the exit status is then 1.

    For example:

    stillmotion run retrieval --dry-run

    stillmotion run clip --set dataset=mine --set model=ViT-B-16:laion2b_s34b_b88k

    stillmotion run patch_keep_rate --values 0.5,1.0 --seeds 0
    """
    from stillmotion.experiments import dvc_queue
    from stillmotion.experiments.definition import chosen, load_experiment, read_mapping, with_finetuning
    from stillmotion.experiments.plan import planned_runs
    from stillmotion.experiments.settings import layer_of_options

    if not name:
        typer.echo(_listing())
        return
    experiment = chosen(load_experiment(name), values, seeds)
    if finetuned:
        experiment = with_finetuning(experiment)
    options = layer_of_options(settings or [], experiment.options)
    planned, collection = planned_runs(experiment, read_mapping(Path("params.yaml")), options)
    is_study = bool(experiment.vary or experiment.seeds)
    targets = collection.targets if collection else []
    commands = {
        run.name: shlex.join(["dvc", *dvc_queue.exp_command(run, "--queue" if is_study else "--temp", targets)])
        for run in planned
    }
    if dry_run:
        typer.echo(one_per_line(commands.values()))
        return
    commit = dvc_queue.current_commit(planned[0].dataset)
    done = dvc_queue.finished_experiments(commit)
    pending = [run for run in planned if run.name not in done]
    for run in planned:
        has_results = f"# {run.name} has results; dvc exp remove {run.name} to have it run again"
        typer.echo(one_line(has_results if run.name in done else commands[run.name]), err=True)
    try:
        if is_study:
            all_ran = _run_study(planned, pending, collection, commit=commit, jobs=jobs, keep_queue=keep_queue)
        else:
            all_ran = all(dvc_queue.run_beside(run) == 0 for run in pending)
    except KeyboardInterrupt:
        going = "What runs goes on in the background; `dvc queue stop --kill` ends it. " if is_study else ""
        typer.echo(f"{going}The same command goes on.", err=True)
        raise typer.Abort() from None
    if not all_ran:
        raise typer.Exit(FAILED_STATUS)


def _listing() -> str:
    from stillmotion.experiments.definition import experiment_names, load_experiment

    experiments = [load_experiment(name) for name in experiment_names()]
    width = max((len(experiment.name) for experiment in experiments), default=0)
    return one_per_line(
        f"{experiment.name:<{width}}  {experiment.about}{_varied(experiment)}" for experiment in experiments
    )


def _varied(experiment: "Experiment") -> str:
    """What a study does with its values and seeds; empty for what is none."""
    parts = []
    if experiment.vary:
        parts.append(f"{experiment.vary.key}: {', '.join(str(value) for value, _ in experiment.vary.points)}")
    if experiment.seeds:
        parts.append(f"seeds {', '.join(map(str, experiment.seeds))}")
    return f" ({'; '.join(parts)})" if parts else ""


def _run_study(
    planned: list["PlannedRun"],
    pending: list["PlannedRun"],
    collection: "Collection | None",
    *,
    commit: str,
    jobs: int,
    keep_queue: bool,
) -> bool:
    """Run what has no results yet and collect all; return whether each has results, and tell why others have none."""
    from stillmotion.experiments import dvc_queue

    typer.echo(f"{len(planned)} experiments, {len(pending)} to run", err=True)
    if pending:
        targets = collection.targets if collection else []
        shared_are_built = len(pending) < len(planned)
        dvc_queue.run_queued(pending, targets, commit=commit, jobs=jobs, shared_are_built=shared_are_built)
    done = dvc_queue.finished_experiments(commit)
    failures = {run.name: dvc_queue.failure_reason(run.name) for run in planned if run.name not in done}
    collected: list[Collected] = []
    if collection:
        for run in planned:
            if run.name in done:
                try:
                    collected.append(_collected(run, done[run.name], collection))
                except InputError as error:
                    failures[run.name] = str(error)
    for failed, reason in failures.items():
        typer.echo(one_line(f"failed: {failed}: {reason}"), err=True)
    if pending and not keep_queue:
        dvc_queue.remove_from_queue({run.name for run in pending})
    if collection and collected:
        _write(planned, collection, collected, failures)
    return not failures


def _collected(run: "PlannedRun", revision: str, collection: "Collection") -> "Collected":
    from stillmotion.experiments import dvc_queue
    from stillmotion.experiments.results import Collected, collected_rows

    history = dvc_queue.read_tracked(revision, collection.validation_file)
    ranks = dvc_queue.read_cached_rows(revision, collection.ranks_file)
    cost = dvc_queue.read_tracked(revision, collection.cost_file) if collection.collect.cost else None
    return Collected(run, collected_rows(run, collection, history, ranks), cost)


def _write(
    planned: list["PlannedRun"], collection: "Collection", collected: list["Collected"], failures: dict[str, str]
) -> None:
    from stillmotion.experiments.page import study_figure, study_page, study_table
    from stillmotion.experiments.results import study_result
    from stillmotion.io.tables import write_json
    from stillmotion.report.figures import save_figure

    values = list(dict.fromkeys(run.value for run in planned if run.value is not None))
    result = study_result(collection, values, collected)
    write_json(REPORTS / f"{collection.study}.json", result, digits=4)
    save_figure(study_figure(result), REPORTS / f"{collection.study}.svg")
    page = REPORTS / f"{collection.study}.md"
    with atomic_file(page) as partial:
        partial.write_text(study_page(result, failures), encoding="utf-8")
    typer.echo(f"{study_table(result)}\n\n{page}")
