"""Stage evaluate_moments: select the moments of the test split and score them with the official protocol.

    python src/evaluate_moments.py --thresholds models/thresholds/small_clip-vc1_none --raw data/raw/toy \
        --embeddings data/embeddings/toy-small_clip --metrics metrics/moments/small_clip-vc1_none.json \
        --predictions data/predictions/moments/small_clip-vc1_none

Reads embeddings, thresholds and the moments of the test split. Writes the metrics and, in the predictions
folder, submission.jsonl in the official format, queries.jsonl, a row for each query with its windows and its
scores, examples.jsonl, queries from the best to the worst with their curves, and the tables of the search, which are
those of the thresholds' folder: what the report shows of a system lies together. `pessimistic` is what the headline
values would be if every query about a test video that could not be embedded were answered wrongly; `boundaries`,
of VC2, is whether its cuts fall where true moments begin and end.
"""

import stillmotion.config.capped  # noqa: F401 - before all others

import logging
import shutil
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from stillmotion.config.loading import load_params
from stillmotion.embedding.reader import Embeddings
from stillmotion.io.atomic import atomic_folder
from stillmotion.io.records import Moment, Video, load_records
from stillmotion.io.tables import read_json, write_json, write_rows
from stillmotion.moments.boundaries import boundary_metrics, cuts_of_videos
from stillmotion.moments.evaluation import Evaluation, evaluate, metrics_file, protocol_of
from stillmotion.moments.examples import example_rows
from stillmotion.moments.postprocess import postprocess
from stillmotion.moments.predictions import prediction_rows
from stillmotion.moments.selection import scene_starts, select
from stillmotion.moments.split import split_moments
from stillmotion.moments.truth import missing_of_split
from stillmotion.stage import run_stage

SEARCH_TABLES = ("trials.jsonl", "sensitivity.jsonl")
_log = logging.getLogger("stillmotion")


def main(
    thresholds: Annotated[Path, typer.Option(help="folder of the thresholds")],
    raw: Annotated[Path, typer.Option(help="tables of the dataset")],
    embeddings: Annotated[Path, typer.Option(help="embeddings of the dataset by one model")],
    metrics: Annotated[Path, typer.Option(help="JSON file of the metrics")],
    predictions: Annotated[Path, typer.Option(help="folder of the submission")],
) -> None:
    """Score moment retrieval on the test split."""
    params = load_params()
    settings, clip_length_s = params.evaluate_moments, params.sample_frames.clip_length_s
    embedded = Embeddings(embeddings)
    moments = load_records(raw, Moment)
    found = read_json(thresholds / "thresholds.json")
    test = split_moments(embedded, moments, "test", clip_length_s)
    missing = missing_of_split(load_records(raw, Video), moments, kept=embedded.row_of, split="test")
    protocol = protocol_of(
        "selection",
        None if test is None else test.truth,
        missing,
        clip_length_s=clip_length_s,
        selected_on="train",
        thresholds=found,
    )
    rows: list[dict[str, Any]] = []
    examples: list[dict[str, Any]] = []
    evaluation = Evaluation({}, [])
    if test is None or found is None:
        _log.warning("the dataset has no moments to search thresholds on or to test: an empty result")
    else:
        curves, parameters = test.curves, found["parameters"]
        processed = postprocess(
            curves.sc_QT,
            curves.num_frames_Q,
            method=found["post_processing"],
            window=parameters.get("window"),
            frozen_range=found["frozen_range"],
            least_cosine=found["least_cosine"],
        )
        selection = select(curves, processed.sc_QT, found["method"], parameters)
        rows = prediction_rows(test.queries, curves, selection, processed.sc_QT)
        evaluation = evaluate(rows, test.truth, frames_QT=selection.frames_QT, missing=missing, params=settings)
        protocol |= {
            "num_fallback": int(selection.fallback_Q.sum()),
            "num_clipped_cosines": processed.num_clipped,
        }
        starts_QT = scene_starts(curves, change=parameters["change"]) if found["method"] == "vc2" else None
        if starts_QT is not None:
            evaluation.metrics["boundaries"] = boundary_metrics(
                list(cuts_of_videos(test.truth, starts_QT).values()),
                tolerance_s=clip_length_s,
                rng=np.random.default_rng(settings.seed),
                num_resamples=settings.bootstrap_samples,
            )
        examples = example_rows(
            test,
            evaluation.rows,
            processed_QT=processed.sc_QT,
            starts_QT=starts_QT,
            threshold=parameters["threshold"],
            stored_frames={video.video_id: video.clips for video in embedded.videos},
            num_examples=settings.num_examples,
        )
    with atomic_folder(predictions) as partial:
        write_rows(partial / "submission.jsonl", rows, digits=6)
        write_rows(partial / "queries.jsonl", evaluation.rows, digits=6)
        write_rows(partial / "examples.jsonl", examples, digits=6)
        for name in SEARCH_TABLES:
            shutil.copyfile(thresholds / name, partial / name)
    write_json(metrics, metrics_file(evaluation.metrics, protocol))


if __name__ == "__main__":
    run_stage(main)
