"""Stage report: the results page with its tables and figures.

    python src/report.py --raw data/raw/toy --frames data/frames/toy --metrics metrics --plots plots \
        --predictions data/predictions --output reports

Reads the metrics, the training histories and the predictions of the systems named in params.run, and the
tables of the dataset. Writes results.md and figures/*.svg. Times and memory, which no two runs share, stay in
metrics/resources.
"""

from pathlib import Path
from typing import Annotated, Any

import typer

from stillmotion.io.atomic import atomic_folder
from stillmotion.io.tables import read_json, read_rows
from stillmotion.params import load_params
from stillmotion.records import Caption, Moment, Video, load_records
from stillmotion.report.differences import (
    differences_table,
    moment_pairs_to_compare,
    recall_values,
    retrieval_pairs_to_compare,
    top1_values,
)
from stillmotion.report.figures import moment_timelines, recall_bars, save_figure, shots_curves, training_curves
from stillmotion.report.page import example_queries, results_page
from stillmotion.stage import run_stage


def main(
    raw: Annotated[Path, typer.Option(help="tables of the dataset")],
    frames: Annotated[Path, typer.Option(help="stored frames of the dataset")],
    metrics: Annotated[Path, typer.Option(help="folder of the metrics")],
    plots: Annotated[Path, typer.Option(help="folder of the training histories")],
    predictions: Annotated[Path, typer.Option(help="folder of the predictions")],
    output: Annotated[Path, typer.Option(help="folder of the page")],
) -> None:
    """Write the results page."""
    params = load_params()
    run = params.run
    finetuned = [f"{backbone}-{recipe}" for backbone in run.finetuned for recipe in run.recipes]
    systems = {
        "retrieval": [f"{model}-{aggregator}" for model in run.models for aggregator in run.aggregators],
        "moments": [f"{model}-{selection}" for model in run.models for selection in run.selections],
        "actions": list(run.models),
        "resources": [*run.backbones, *finetuned],
    }
    found: dict[str, dict[str, Any]] = {
        task: {name: read_json(metrics / task / f"{name}.json") for name in names} for task, names in systems.items()
    }
    videos = load_records(frames, Video)
    examples: list[dict[str, Any]] = []
    # The selection with the most R1@0.5 is the one to look at.
    scored = [name for name in systems["moments"] if "brief" in found["moments"][name]]
    shown = max(scored, key=lambda name: found["moments"][name]["brief"]["MR-full-R1@0.5"], default="")
    if shown:
        folder = predictions / "moments" / shown
        examples = example_queries(
            read_rows(folder / "queries.jsonl"), read_rows(folder / "submission.jsonl"), params.report.num_examples
        )
    retrieval = {
        name: recall_values(read_rows(predictions / "retrieval" / name / "ranks.jsonl"))
        for name in systems["retrieval"]
    }
    moments = {
        name: top1_values(read_rows(predictions / "moments" / name / "queries.jsonl")) for name in systems["moments"]
    }
    settings = {"seed": params.report.seed, "num_resamples": params.report.bootstrap_samples}
    differences = {
        "retrieval": differences_table(retrieval, retrieval_pairs_to_compare(run), "T2V R@1", **settings),
        "moments": differences_table(moments, moment_pairs_to_compare(run), "R1@0.5", **settings),
    }
    histories = {name: read_json(plots / "finetune" / f"{name}.json") for name in finetuned}
    with atomic_folder(output) as partial:
        figures = partial / "figures"
        if any(values["t2v"] for values in found["retrieval"].values()):
            save_figure(recall_bars(found["retrieval"]), figures / "retrieval.svg")
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
            videos=videos,
            captions=load_records(raw, Caption),
            moments=load_records(raw, Moment),
            figures=sorted(path.stem for path in figures.glob("*.svg")) if figures.is_dir() else [],
            example_system=shown,
            differences=differences,
        )
        (partial / "results.md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    run_stage(main)
