"""Stage evaluate_shots: rank the shots of the test videos by their similarity with the query.

    python src/evaluate_shots.py --shots data/shots/toy-content_shots --raw data/raw/toy \
        --embeddings data/embeddings/toy-small_clip --metrics metrics/moments/small_clip-content_shots.json \
        --predictions data/predictions/moments/small_clip-content_shots

A training-free baseline: nothing is searched. Reads the shots, the embeddings and the moments of the test split.
Writes the metrics and, in the predictions folder, submission.jsonl in the official format and queries.jsonl, a row
for each query with its windows and its scores.
"""

import stillmotion.config.capped  # noqa: F401 - before all others

import logging
from pathlib import Path
from typing import Annotated, Any

import typer

from stillmotion.config.loading import load_params
from stillmotion.embedding.reader import Embeddings
from stillmotion.io.atomic import atomic_folder
from stillmotion.io.records import Moment, Video, load_records
from stillmotion.io.tables import read_json, read_rows, write_json, write_rows
from stillmotion.moments.evaluation import Evaluation, evaluate, metrics_file, protocol_of
from stillmotion.moments.shots import shot_rows
from stillmotion.moments.split import split_moments
from stillmotion.moments.truth import missing_of_split
from stillmotion.stage import run_stage

_log = logging.getLogger("stillmotion")


def main(
    shots: Annotated[Path, typer.Option(help="folder of the shots")],
    raw: Annotated[Path, typer.Option(help="tables of the dataset")],
    embeddings: Annotated[Path, typer.Option(help="embeddings of the dataset by one model")],
    metrics: Annotated[Path, typer.Option(help="JSON file of the metrics")],
    predictions: Annotated[Path, typer.Option(help="folder of the submission")],
) -> None:
    """Score the shots of the test split as moments."""
    params = load_params()
    clip_length_s = params.sample_frames.clip_length_s
    embedded = Embeddings(embeddings)
    moments = load_records(raw, Moment)
    found = read_rows(shots / "shots.jsonl")
    test = split_moments(embedded, moments, "test", clip_length_s)
    truth = None if test is None else test.truth
    missing = missing_of_split(load_records(raw, Video), moments, kept=embedded.row_of, split="test")
    protocol = protocol_of(
        "shots",
        truth,
        missing,
        clip_length_s=clip_length_s,
        detector=read_json(shots / "detector.json"),
        num_unread_videos=sum(row["reason"] is not None for row in found),
    )
    rows: list[dict[str, Any]] = []
    evaluation = Evaluation({}, [])
    if test is None or truth is None:
        _log.warning("the test split has no moments: an empty result")
    else:
        shots_of = {row["video_id"]: row["shots"] for row in found}
        rows = shot_rows(truth, test.curves.sc_QT, shots_of, name=str(shots / "shots.jsonl"))
        evaluation = evaluate(rows, truth, frames_QT=None, missing=missing, params=params.evaluate_moments)
    with atomic_folder(predictions) as partial:
        write_rows(partial / "submission.jsonl", rows, digits=6)
        write_rows(partial / "queries.jsonl", evaluation.rows, digits=6)
    write_json(metrics, metrics_file(evaluation.metrics, protocol))


if __name__ == "__main__":
    run_stage(main)
