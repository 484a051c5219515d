"""Stage evaluate_submission: score the moments that another system has found, from its submission file.

    python src/evaluate_submission.py --submission data/submissions/toy/other.jsonl --raw data/raw/toy \
        --frames data/frames/toy --metrics metrics/moments/other.json \
        --predictions data/predictions/moments/other

Reads the file, in the format of a QVHighlights submission (qid, query, vid, pred_relevant_windows and, in all rows
or in none, pred_saliency_scores), the moments of the test split, and from the stored frames which videos could be
decoded. It is scored on the queries that models are scored on: a query without a row counts as an empty list and is
named in `protocol.missing_rows`. Writes the metrics and, in the predictions folder, submission.jsonl as it was
scored and queries.jsonl, a row for each query with its windows and its scores.
"""

import stillmotion.config.capped  # noqa: F401 - before all others

import logging
from pathlib import Path
from typing import Annotated

import typer

from stillmotion.config.loading import load_params
from stillmotion.errors import InputError
from stillmotion.io.atomic import atomic_folder
from stillmotion.io.records import Moment, Video, load_records
from stillmotion.io.tables import read_rows, write_json, write_rows
from stillmotion.moments.evaluation import Evaluation, evaluate, metrics_file, protocol_of
from stillmotion.moments.stored import stored_truth
from stillmotion.moments.submitted import submitted_rows
from stillmotion.moments.truth import missing_of_split
from stillmotion.stage import run_stage
from stillmotion.video.packed import PackedFrames

_log = logging.getLogger("stillmotion")


def main(
    submission: Annotated[Path, typer.Option(help="file of the submission")],
    raw: Annotated[Path, typer.Option(help="tables of the dataset")],
    frames: Annotated[Path, typer.Option(help="frames store of the dataset")],
    metrics: Annotated[Path, typer.Option(help="JSON file of the metrics")],
    predictions: Annotated[Path, typer.Option(help="folder of the submission as it was scored")],
) -> None:
    """Score another system's moments on the test split."""
    params = load_params()
    clip_length_s = params.sample_frames.clip_length_s
    if not submission.is_file():
        raise InputError(
            f"{submission}: no such file; put the submission there, in the format of QVHighlights, or take "
            f"{submission.stem} out of run.submissions in params.yaml"
        )
    store = PackedFrames(frames)
    videos, moments = load_records(raw, Video), load_records(raw, Moment)
    truth = stored_truth(store, moments, "test", clip_length_s)
    submitted = submitted_rows(
        read_rows(submission),
        queries=[] if truth is None else truth.queries,
        moments=moments,
        splits={video.video_id: video.split for video in videos},
        name=str(submission),
    )
    kept = {video.video_id for video in store.videos}
    missing = missing_of_split(videos, moments, kept=kept, split="test")
    protocol = protocol_of(
        "submission",
        truth,
        missing,
        clip_length_s=clip_length_s,
        missing_rows=submitted.missing_qids,
        num_ignored_rows=submitted.num_ignored,
    )
    evaluation = Evaluation({}, [])
    if truth is None:
        _log.warning("the test split has no moments: an empty result")
    else:
        if submitted.missing_qids:
            _log.warning("%s: no row for %d of the test queries", submission, len(submitted.missing_qids))
        evaluation = evaluate(
            submitted.rows,
            truth,
            frames_QT=None,
            missing=missing,
            params=params.evaluate_moments,
            name=str(submission),
        )
    with atomic_folder(predictions) as partial:
        write_rows(partial / "submission.jsonl", submitted.rows, digits=6)
        write_rows(partial / "queries.jsonl", evaluation.rows, digits=6)
    write_json(metrics, metrics_file(evaluation.metrics, protocol))


if __name__ == "__main__":
    run_stage(main)
