"""Stage evaluate_moments: select the moments of the test split and score them with the official protocol.

    python src/evaluate_moments.py --thresholds models/thresholds/small_clip-vc1_none --raw data/raw/toy \
        --embeddings data/embeddings/toy-small_clip --metrics metrics/moments/small_clip-vc1_none.json \
        --predictions data/predictions/moments/small_clip-vc1_none

Reads embeddings, thresholds and the moments of the test split. Writes the metrics and, in the predictions
folder, submission.jsonl in the official format and queries.jsonl, a row for each query with its true windows
and its scores. `pessimistic` is what the headline values would be if every query about a test video that could not be
embedded were answered wrongly.
"""

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from stillmotion.io.atomic import atomic_folder
from stillmotion.io.embeddings import Embeddings
from stillmotion.io.tables import read_json, write_json, write_rows
from stillmotion.metrics.frames import frame_metrics
from stillmotion.metrics.moments import additions, moment_intervals, moment_values, official_metrics
from stillmotion.moments.postprocess import postprocess
from stillmotion.moments.predictions import prediction_rows
from stillmotion.moments.search import select
from stillmotion.moments.split import split_moments
from stillmotion.params import load_params
from stillmotion.records import Moment, Video, load_records
from stillmotion.stage import run_stage

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
    clip_length_s = params.sample_frames.clip_length_s
    embedded = Embeddings(embeddings)
    moments = load_records(raw, Moment)
    found = read_json(thresholds / "thresholds.json")
    test = split_moments(embedded, moments, "test", clip_length_s)
    of_test = {video.video_id for video in load_records(raw, Video) if video.split == "test"}
    lost = of_test - {video.video_id for video in embedded.videos}
    missing = sum(moment.vid in lost for moment in moments)
    protocol: dict[str, Any] = {
        "split": "test",
        "num_queries": 0 if test is None else len(test.queries),
        "num_videos": 0 if test is None else len({query.vid for query in test.queries}),
        "missing_videos": len(lost),
        "missing_queries": missing,
        "clip_length_s": clip_length_s,
        "selected_on": "train",
        "thresholds": found,
    }
    rows: list[dict[str, Any]] = []
    result: dict[str, Any] = {}
    per_query: list[dict[str, Any]] = []
    if test is None or found is None:
        _log.warning("the dataset has no moments to search thresholds on or to test: an empty result")
    else:
        parameters = found["parameters"]
        processed = postprocess(
            test.curves.sc_QT,
            test.curves.num_frames_Q,
            method=found["post_processing"],
            window=parameters.get("window"),
            frozen_range=found["frozen_range"],
            least_cosine=found["least_cosine"],
        )
        selection = select(test.curves, processed.sc_QT, found["method"], parameters)
        rows = prediction_rows(test.queries, test.curves, selection, processed.sc_QT)
        truth = [asdict(query) for query in test.queries]
        values = moment_values(rows, truth, clip_length_s=clip_length_s)
        rng = np.random.default_rng(params.evaluate_moments.seed)
        protocol |= {
            "num_fallback": int(selection.fallback_Q.sum()),
            "num_clipped_cosines": processed.num_clipped,
        }
        intervals = moment_intervals(values, rng=rng, num_resamples=params.evaluate_moments.bootstrap_samples)
        result = official_metrics(values) | {
            "frames": frame_metrics(selection.frames_QT, test.true_QT, test.curves.valid_QT),
            **additions(values),
            "ci95": intervals,
        }
        share = len(test.queries) / (len(test.queries) + missing)
        headline = result["brief"] | {"mIoU": result["mIoU"]}
        result["pessimistic"] = {name: share * headline[name] for name in intervals}
        per_query = [
            {
                "qid": query.qid,
                "query": query.query,
                "vid": query.vid,
                "true_windows": query.relevant_windows,
                "top1_iou": float(values.top1_iou_Q[index]),
            }
            for index, query in enumerate(test.queries)
        ]
    with atomic_folder(predictions) as partial:
        write_rows(partial / "submission.jsonl", rows, digits=6)
        write_rows(partial / "queries.jsonl", per_query, digits=6)
    write_json(metrics, result | {"protocol": protocol}, digits=4)


if __name__ == "__main__":
    run_stage(main)
