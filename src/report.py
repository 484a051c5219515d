"""Stage report: the results page with its tables, figures and claims, and the page of published numbers.

    python src/report.py --raw data/raw/toy --frames data/frames/toy --metrics metrics --plots plots \
        --predictions data/predictions --published data/published_results.csv --ablations reports/ablations \
        --output reports/results

Reads the metrics, the training histories and the predictions of the systems named in params.run, the tables of
the dataset, the published numbers, and what `stillmotion ablate` has collected. Writes results.md, published.md
and figures/*.svg. Times and memory, which no two runs share, stay in metrics/resources.
"""

from pathlib import Path
from typing import Annotated, Any

import typer

from stillmotion.io.atomic import atomic_folder
from stillmotion.io.tables import read_json, read_rows
from stillmotion.params import load_params
from stillmotion.records import Caption, Moment, Video, load_records
from stillmotion.report.claims import claims_table
from stillmotion.report.differences import differences_table, moment_comparisons, retrieval_comparisons, top1_values
from stillmotion.report.evidence import Evidence, finetuned_models, hits_by_num_clips, systems_of
from stillmotion.report.figures import (
    clips_curves,
    moment_timelines,
    recall_bars,
    save_figure,
    shots_curves,
    training_curves,
)
from stillmotion.report.page import example_queries, results_page
from stillmotion.report.published import published_page, read_published
from stillmotion.stage import run_stage


def main(
    raw: Annotated[Path, typer.Option(help="tables of the dataset")],
    frames: Annotated[Path, typer.Option(help="stored frames of the dataset")],
    metrics: Annotated[Path, typer.Option(help="folder of the metrics")],
    plots: Annotated[Path, typer.Option(help="folder of the training histories")],
    predictions: Annotated[Path, typer.Option(help="folder of the predictions")],
    published: Annotated[Path, typer.Option(help="CSV file of published numbers")],
    ablations: Annotated[Path, typer.Option(help="folder of the ablations")],
    output: Annotated[Path, typer.Option(help="folder of the pages")],
) -> None:
    """Write the results page and the page of published numbers."""
    params = load_params()
    run, settings = params.run, params.report
    systems = systems_of(run)
    found: dict[str, dict[str, Any]] = {
        task: {name: read_json(metrics / folder_of(task) / f"{name}.json") for name in names}
        for task, names in systems.items()
    }
    collected = [read_json(path) for path in sorted(ablations.glob("*.json"))]
    evidence = Evidence(
        dataset=params.dataset,
        run=run,
        metrics=found,
        hits={
            name: hits_by_num_clips(read_rows(predictions / "retrieval" / name / "ranks.jsonl"))
            for name in systems["retrieval"]
        },
        ablations={row["name"]: row for row in collected if row["dataset"] == params.dataset},
        seed=settings.seed,
        num_resamples=settings.bootstrap_samples,
    )
    queries = {name: read_rows(predictions / "moments" / name / "queries.jsonl") for name in systems["moments"]}
    moments = moment_comparisons(run, {name: top1_values(rows) for name, rows in queries.items()})
    resampling = {"seed": settings.seed, "num_resamples": settings.bootstrap_samples}
    differences = {
        "retrieval": differences_table(retrieval_comparisons(evidence), "T2V R@1", **resampling),
        "moments": differences_table(moments, "R1@0.5", **resampling),
    }
    # The selection with the most R1@0.5 is the one to look at.
    scored = [name for name in systems["moments"] if "brief" in found["moments"][name]]
    shown = max(scored, key=lambda name: found["moments"][name]["brief"]["MR-full-R1@0.5"], default="")
    examples: list[dict[str, Any]] = []
    if shown:
        submission = read_rows(predictions / "moments" / shown / "submission.jsonl")
        examples = example_queries(queries[shown], submission, settings.num_examples)
    tuned = finetuned_models(run)
    histories = {model.model: read_json(plots / "finetune" / f"{model.model}.json") for model in tuned}
    with atomic_folder(output) as partial:
        figures = partial / "figures"
        if any(values["t2v"] for values in found["retrieval"].values()):
            save_figure(recall_bars(found["retrieval"]), figures / "retrieval.svg")
            groups = [evidence.base_models, [model.model for model in evidence.finetuned]]
            save_figure(clips_curves(found["retrieval"], groups, run.aggregators), figures / "clips.svg")
        if any(values["top1"] for values in found["actions"].values()):
            save_figure(shots_curves(found["actions"]), figures / "actions.svg")
        if histories:
            save_figure(training_curves(histories), figures / "finetune.svg")
        if examples:
            clip_length_s = found["moments"][shown]["protocol"]["clip_length_s"]
            save_figure(moment_timelines(examples, clip_length_s), figures / "moments.svg")
        page = results_page(
            dataset=params.dataset,
            found=found,
            videos=load_records(frames, Video),
            captions=load_records(raw, Caption),
            moments=load_records(raw, Moment),
            figures=sorted(path.stem for path in figures.glob("*.svg")) if figures.is_dir() else [],
            example_system=shown,
            differences=differences,
            claims=claims_table(evidence),
            ablations={name: row["title"] for name, row in evidence.ablations.items()},
        )
        (partial / "results.md").write_text(page, encoding="utf-8")
        (partial / "published.md").write_text(published_page(read_published(published), evidence), encoding="utf-8")


def folder_of(task: str) -> str:
    """The folder of a task's metrics: what full-size architectures cost lies with the other costs."""
    return "resources" if task == "architectures" else task


if __name__ == "__main__":
    run_stage(main)
