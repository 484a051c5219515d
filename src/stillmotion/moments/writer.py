"""Writer of what a system of moment retrieval is worth, whatever its windows come from.

| file | rows |
|---|---|
| submission.jsonl | the answers in the official format, as they were scored |
| queries.jsonl | a query each: its true and predicted windows, and its scores |
| examples.jsonl | of a selection: queries from the best to the worst, with their curves |

The metrics file lies elsewhere, in git.
"""

import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stillmotion.config.evaluation import EvaluateMomentsParams
from stillmotion.io.atomic import atomic_folder
from stillmotion.io.tables import write_json, write_rows
from stillmotion.metrics.submission import Row
from stillmotion.moments.boundaries import boundaries_by_video, boundary_metrics
from stillmotion.moments.evaluation import Evaluation, evaluate, metrics_file, protocol_of
from stillmotion.moments.examples import example_rows
from stillmotion.moments.predictions import Predictions
from stillmotion.moments.truth import GroundTruth, Missing

_log = logging.getLogger("stillmotion")


def score_and_write(
    predictions: Predictions,
    truth: GroundTruth | None,
    missing: Missing,
    *,
    system: Mapping[str, Any],
    told: Mapping[str, Any],
    clip_length_s: float,
    params: EvaluateMomentsParams,
    metrics_path: Path,
    folder: Path,
    copied: Sequence[Path] = (),
) -> None:
    """Score predictions of the test split, and write their metrics and tables.

    Args:
        predictions: without rows, the tables are empty and the metrics file holds protocol and system alone.
        truth: None where the split has no queries.
        missing: what of the split is not scored.
        system: which model and scorer the predictions are of.
        told: what the protocol says of the model: `Embeddings.told`.
        clip_length_s: seconds that a frame stands for.
        params: of the intervals and the examples.
        metrics_path: JSON file of the metrics.
        folder: of the tables.
        copied: files that shall lie beside the tables.

    Raises:
        InputError: a row of the predictions has another form than the official one.
    """
    rows: Sequence[Row] = []
    evaluation, examples = Evaluation({}, []), []
    if truth is None or predictions.rows is None:
        _log.warning("the dataset has no moments to test, or none to search thresholds on: an empty result")
    else:
        rows, curves = predictions.rows, predictions.curves
        frames_QT = None if curves is None else curves.frames_QT
        evaluation = evaluate(rows, truth, frames_QT=frames_QT, missing=missing, params=params, name=predictions.name)
        if curves is not None:
            examples = example_rows(curves, evaluation.rows, num_examples=params.num_examples)
            if curves.starts_QT is not None:
                evaluation.metrics["boundaries"] = boundary_metrics(
                    list(boundaries_by_video(truth, curves.starts_QT).values()),
                    tolerance_s=clip_length_s,
                    rng=np.random.default_rng(params.seed),
                    num_resamples=params.bootstrap_samples,
                )
    protocol = protocol_of(predictions.kind, truth, missing, clip_length_s=clip_length_s, **predictions.protocol)
    protocol |= told
    with atomic_folder(folder) as partial:
        write_rows(partial / "submission.jsonl", rows, digits=6)
        write_rows(partial / "queries.jsonl", evaluation.rows, digits=6)
        if predictions.kind == "selection":
            write_rows(partial / "examples.jsonl", examples, digits=6)
        for source in copied:
            shutil.copyfile(source, partial / source.name)
    write_json(metrics_path, metrics_file(evaluation.metrics, protocol, system))
