"""Stage report: the results page, the same in short for GitHub, figures, and the page of published numbers.

    python src/report.py --raw data/raw/toy/tables --frames data/frames/toy --metrics metrics --plots plots \
        --predictions data/predictions --published data --embeddings data/embeddings/toy-small_clip \
        --coverage-model small_clip --studies reports/ablations --summary metrics/summary.json --output reports/results

Reads what the systems that params.yaml names have left, tables and frames of the dataset, published numbers, studies,
and embeddings to tell how much of its video a caption covers. Writes pages, figures, and what `dvc metrics` lists.
"""

import stillmotion.config.capped

from pathlib import Path
from typing import Annotated

import typer

from stillmotion.attention.figure import drawn_attention
from stillmotion.attention.store import read_attended
from stillmotion.claims.compare import Draws
from stillmotion.claims.evidence import Evidence, Search, retrieval_recipe
from stillmotion.claims.studies import study_of
from stillmotion.claims.systems import select, systems_frame, systems_of, values_frame
from stillmotion.claims.windows import shown_selection
from stillmotion.config.loading import load_params
from stillmotion.embedding.reader import Embeddings
from stillmotion.io.atomic import atomic_folder
from stillmotion.io.records import Caption, Moment, Video, load_records
from stillmotion.io.tables import read_json, read_rows, write_json
from stillmotion.metrics.headlines import headline_values
from stillmotion.moments.example_figure import example_figure
from stillmotion.report.coverage import query_coverage
from stillmotion.report.examples import Examples, Gallery
from stillmotion.report.figures import drawn_systems, save_figure
from stillmotion.report.first_videos import first_shows, queries_of
from stillmotion.report.index import index_page
from stillmotion.report.moment_figures import drawn_moments
from stillmotion.report.moments import spread_out
from stillmotion.report.page import SOURCES, published_page, results_page, split_counts
from stillmotion.report.published import beside_ours, read_published
from stillmotion.stage import run_stage
from stillmotion.video.packed import PackedFrames


def main(
    raw: Annotated[Path, typer.Option(help="tables of the dataset")],
    frames: Annotated[Path, typer.Option(help="stored frames of the dataset")],
    metrics: Annotated[Path, typer.Option(help="folder of the metrics")],
    plots: Annotated[Path, typer.Option(help="folder of the training histories")],
    predictions: Annotated[Path, typer.Option(help="folder of the predictions")],
    embeddings: Annotated[Path, typer.Option(help="embeddings by the model that captions and videos are held to")],
    coverage_model: Annotated[str, typer.Option(help="that model")],
    published: Annotated[Path, typer.Option(help="folder of the CSV files of published numbers")],
    studies: Annotated[Path, typer.Option(help="folder of the studies")],
    summary: Annotated[Path, typer.Option(help="JSON file of the headline values")],
    output: Annotated[Path, typer.Option(help="folder of the pages")],
) -> None:
    """Write the pages, their figures and the headline values."""
    loaded = load_params()
    blocks = {"expansions", "finetuned", "recipes", "retrieval", "scorers", "selections", "shot_detectors"}
    params = loaded.model_dump(by_alias=True, include={"dataset", "run", "report"} | blocks)
    run, settings = params["run"], params["report"]
    keys, captions, moments = systems_of(params), load_records(raw, Caption), load_records(raw, Moment)
    ranks = {key: read_rows(predictions / "retrieval" / key / "ranks.jsonl") for key in keys["retrieval"]}
    windows = {key: read_rows(predictions / "moments" / key / "queries.jsonl") for key in keys["moments"]}
    spans = {key: read_rows(predictions / "actions" / key / "spans.jsonl") for key in keys["actions"]}
    videos, embedded = load_records(frames, Video), Embeddings(embeddings)
    embedded.require_dataset({video.video_id for video in videos}, len(captions), raw)
    files = {task: {key: read_json(metrics / task / f"{key}.json") for key in found} for task, found in keys.items()}
    systems = systems_frame(files, params)
    searched = select(systems, {"task": "moments", "protocol.kind": "selection"})["key"]
    evidence = Evidence(
        dataset=params["dataset"],
        systems=systems,
        values=values_frame(systems, ranks=ranks, windows=windows, spans=spans),
        recipe=retrieval_recipe(params),
        architectures={key: read_json(metrics / "resources" / f"{key}.json") for key in run["architectures"]},
        queries=queries_of(next(filter(None, ranks.values()), ()), captions),
        first_shows={key: first_shows(rows, captions) for key, rows in ranks.items()},
        coverage=query_coverage(embedded, captions, ranks, coverage_model),
        windows=windows,
        searches={key: read_search(predictions / "moments" / key) for key in searched},
        studies={study.name: study for study in map(study_of, map(read_json, sorted(studies.glob("*.json"))))},
        draws=Draws(settings["seed"], settings["bootstrap_samples"]),
    )
    named = {"finetune": params["finetuned"], "train_aggregator": params["retrieval"]}
    trained = {of: {key: read_json(plots / of / f"{key}.json") for key in keys} for of, keys in named.items()}
    (numbers, counterparts), stored = read_published(published), PackedFrames(frames)
    attended = {model: read_attended(predictions / "attention" / model) for model in run["attended"]}
    drawn = drawn_systems(evidence) | drawn_moments(evidence) | drawn_attention(attended, stored)
    shown, num_examples = shown_selection(evidence), settings["num_examples"]
    kept = predictions / "moments" / shown / "examples.jsonl"
    located = spread_out(read_rows(kept), num_examples) if shown and kept.is_file() else []
    if located:
        change = evidence.metrics("moments")[shown]["protocol"]["thresholds"]["parameters"].get("change")
        drawn["moments"] = example_figure(located, stored, change)
    beside, splits = beside_ours(numbers, counterparts, evidence), split_counts(videos, captions, moments)
    claims = [source.measured(evidence) for source in SOURCES]
    folders = {"metrics": metrics, "studies": studies, "plots": plots, "frames": frames}
    gallery, examples = Gallery(videos, captions, stored, embedded, output), Examples(ranks, located, num_examples)
    with atomic_folder(output) as partial:
        for name, figure in drawn.items():
            save_figure(figure, partial / "figures" / f"{name}.svg")
        pages = {
            "results.md": results_page(evidence, splits, claims, videos=videos, figures=drawn),
            "published.md": published_page(beside, evidence),
            "index.html": index_page(evidence, beside, splits, claims, gallery, examples, trained, folders, partial),
        }
        for name, text in pages.items():
            (partial / name).write_text(text, encoding="utf-8")
    write_json(summary, headline_values(files), digits=4)


def read_search(folder: Path) -> Search:
    """What the search of a selection has left."""
    return Search(read_rows(folder / "trials.jsonl"), read_rows(folder / "sensitivity.jsonl"))


if __name__ == "__main__":
    run_stage(main)
