"""Stage evaluate_references: score windows that no model has found, as bounds for those that one has.

    python src/evaluate_references.py --reference whole_video --raw data/raw/toy --frames data/frames/toy \
        --metrics metrics/moments/whole_video.json --predictions data/predictions/moments/whole_video

Reads the moments of the test split, and from the stored frames which videos could be decoded and how long they
are. Writes the metrics and, in the predictions folder, submission.jsonl in the official format and queries.jsonl, a
row for each query with its windows and its scores. A reference rates no clips, so its submission has no saliency
and its metrics no HL-* values.
"""

import stillmotion.config.capped  # noqa: F401 - before all others

import logging
from pathlib import Path
from typing import Annotated, Any

import typer

from stillmotion.config.loading import load_params
from stillmotion.config.run import Reference
from stillmotion.io.atomic import atomic_folder
from stillmotion.io.records import Moment, Video, load_records
from stillmotion.io.tables import write_json, write_rows
from stillmotion.moments.evaluation import Evaluation, evaluate, metrics_file, protocol_of
from stillmotion.moments.references import reference_rows
from stillmotion.moments.stored import stored_truth
from stillmotion.moments.truth import missing_of_split
from stillmotion.stage import run_stage
from stillmotion.video.packed import PackedFrames

_log = logging.getLogger("stillmotion")


def main(
    reference: Annotated[Reference, typer.Option(help="which reference")],
    raw: Annotated[Path, typer.Option(help="tables of the dataset")],
    frames: Annotated[Path, typer.Option(help="frames store of the dataset")],
    metrics: Annotated[Path, typer.Option(help="JSON file of the metrics")],
    predictions: Annotated[Path, typer.Option(help="folder of the submission")],
) -> None:
    """Score a reference system of moment retrieval on the test split."""
    params = load_params()
    settings, clip_length_s = params.evaluate_references, params.sample_frames.clip_length_s
    store = PackedFrames(frames)
    moments = load_records(raw, Moment)
    truth = stored_truth(store, moments, "test", clip_length_s)
    kept = {video.video_id for video in store.videos}
    missing = missing_of_split(load_records(raw, Video), moments, kept=kept, split="test")
    protocol = protocol_of(
        "reference", truth, missing, clip_length_s=clip_length_s, num_windows=settings.num_windows, seed=settings.seed
    )
    rows: list[dict[str, Any]] = []
    evaluation = Evaluation({}, [])
    if truth is None:
        _log.warning("the test split has no moments: an empty result")
    else:
        rows = reference_rows(reference, truth, num_windows=settings.num_windows, seed=settings.seed)
        evaluation = evaluate(rows, truth, frames_QT=None, missing=missing, params=params.evaluate_moments)
    with atomic_folder(predictions) as partial:
        write_rows(partial / "submission.jsonl", rows, digits=6)
        write_rows(partial / "queries.jsonl", evaluation.rows, digits=6)
    write_json(metrics, metrics_file(evaluation.metrics, protocol))


if __name__ == "__main__":
    run_stage(main)
