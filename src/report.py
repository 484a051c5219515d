"""Stage report: the results page with its tables, figures and claims, and the page of published numbers.

    python src/report.py --raw data/raw/toy --frames data/frames/toy --metrics metrics --plots plots \
        --predictions data/predictions --published data/published_results.csv \
        --embeddings data/embeddings/toy-small_clip --ablations reports/ablations --output reports/results

Reads the metrics, the training histories, the predictions and the searches of the systems named in params.run, the
tables and some frames of the dataset, one model's embeddings to tell how captions and videos fit, the published
numbers, and what `stillmotion ablate` has collected. Writes results.md, published.md and figures/*.svg. Times and
memory, which no two runs share, stay in metrics/resources.
"""

import stillmotion.config.capped  # noqa: F401 - before all others

from pathlib import Path
from typing import Annotated

import typer

from stillmotion.attention.store import read_attended
from stillmotion.config.loading import load_params
from stillmotion.embedding.reader import Embeddings
from stillmotion.io.atomic import atomic_folder
from stillmotion.io.records import Caption, Moment, Video, load_records
from stillmotion.io.tables import read_json, read_rows
from stillmotion.report.attention_figures import drawn_attention
from stillmotion.report.evidence import (
    Evidence,
    Study,
    finetuned_models,
    hits_by_num_clips,
    metrics_folder,
    selected_systems,
    systems_of,
)
from stillmotion.report.example_figure import example_figure
from stillmotion.report.figures import drawn_systems, save_figure
from stillmotion.report.first_videos import asked_queries, first_shows
from stillmotion.report.misalignment import query_levels
from stillmotion.report.moment_figures import drawn_moments
from stillmotion.report.moment_systems import shown_selection, spread_out
from stillmotion.report.page import results_page
from stillmotion.report.published import published_page, read_published
from stillmotion.stage import run_stage
from stillmotion.video.packed import PackedFrames


def main(
    raw: Annotated[Path, typer.Option(help="tables of the dataset")],
    frames: Annotated[Path, typer.Option(help="stored frames of the dataset")],
    metrics: Annotated[Path, typer.Option(help="folder of the metrics")],
    plots: Annotated[Path, typer.Option(help="folder of the training histories")],
    predictions: Annotated[Path, typer.Option(help="folder of the predictions")],
    embeddings: Annotated[Path, typer.Option(help="embeddings by the model that captions and videos are held to")],
    published: Annotated[Path, typer.Option(help="CSV file of published numbers")],
    ablations: Annotated[Path, typer.Option(help="folder of the ablations")],
    output: Annotated[Path, typer.Option(help="folder of the pages")],
) -> None:
    """Write the results page and the page of published numbers."""
    params = load_params()
    run, settings = params.run, params.report
    systems, captions = systems_of(run), load_records(raw, Caption)
    ranks = {name: read_rows(predictions / "retrieval" / name / "ranks.jsonl") for name in systems["retrieval"]}
    videos, embedded = load_records(frames, Video), Embeddings(embeddings)
    embedded.require_dataset({video.video_id for video in videos}, len(captions), raw)
    collected = [read_json(path) for path in sorted(ablations.glob("*.json"))]
    evidence = Evidence(
        dataset=params.dataset,
        run=run,
        metrics={
            task: {name: read_json(metrics / metrics_folder(task) / f"{name}.json") for name in names}
            for task, names in systems.items()
        },
        hits={name: hits_by_num_clips(rows) for name, rows in ranks.items()},
        hits_in_five={name: hits_by_num_clips(rows, k=5) for name, rows in ranks.items()},
        asked=asked_queries(next(filter(None, ranks.values()), ()), captions),
        first_shows={name: first_shows(rows, captions) for name, rows in ranks.items()},
        levels=query_levels(embedded, captions, ranks, embeddings.name.removeprefix(f"{params.dataset}-")),
        queries={name: read_rows(predictions / "moments" / name / "queries.jsonl") for name in systems["moments"]},
        spans={name: read_rows(predictions / "actions" / name / "spans.jsonl") for name in systems["actions"]},
        studies={name: read_study(predictions / "moments" / name) for name in selected_systems(run)},
        ablations={row["name"]: row for row in collected},
        seed=settings.seed,
        num_resamples=settings.bootstrap_samples,
    )
    histories = {found.model: read_json(plots / "finetune" / f"{found.model}.json") for found in finetuned_models(run)}
    numbers = read_published(published)
    stored = PackedFrames(frames)
    attended = {model: read_attended(predictions / "attention" / model) for model in run.attended}
    drawn = drawn_systems(evidence, histories) | drawn_moments(evidence) | drawn_attention(attended, stored)
    shown = shown_selection(evidence)
    kept = predictions / "moments" / shown / "examples.jsonl"
    if shown and kept.is_file():
        examples = spread_out(read_rows(kept), settings.num_examples)
        searched = evidence.metrics["moments"][shown]["protocol"]["thresholds"]["parameters"]
        if examples:
            drawn["moments"] = example_figure(examples, stored, searched.get("change"))
    with atomic_folder(output) as partial:
        for name, figure in drawn.items():
            save_figure(figure, partial / "figures" / f"{name}.svg")
        page = results_page(
            evidence,
            numbers,
            videos=videos,
            captions=captions,
            moments=load_records(raw, Moment),
            figures=list(drawn),
        )
        (partial / "results.md").write_text(page, encoding="utf-8")
        (partial / "published.md").write_text(published_page(numbers, evidence), encoding="utf-8")


def read_study(folder: Path) -> Study:
    """What the search of a selection has left."""
    return Study(read_rows(folder / "trials.jsonl"), read_rows(folder / "sensitivity.jsonl"))


if __name__ == "__main__":
    run_stage(main)
