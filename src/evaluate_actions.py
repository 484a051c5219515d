"""Stage evaluate_actions: name the actions of the test split, zero-shot and with the few-shot probes.

    python src/evaluate_actions.py --probes models/probes/small_clip \
        --raw data/raw/toy/tables --embeddings data/embeddings/toy-small_clip \
        --metrics metrics/actions/small_clip.json --predictions data/predictions/actions/small_clip \
        --plot plots/evaluate_actions/small_clip.json

Reads span and class-name embeddings and the probes. Writes top-1 and top-5 accuracy by number of shots, with
mean and standard deviation over seeds, zero-shot beside them, spans.jsonl with the class that each test span was given
zero-shot and by each probe (`probes`: by number of shots one a seed; of equal scores the first class), and the curve
for `dvc plots`. `pessimistic` beside a value is what it would be if every span of a test video that could not be
embedded were named wrongly.
"""

import stillmotion.config.capped

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from stillmotion.actions.evaluation import Probed, recognise
from stillmotion.config.loading import load_params
from stillmotion.embedding.reader import Embeddings
from stillmotion.errors import InputError
from stillmotion.io.arrays import load_array
from stillmotion.io.atomic import atomic_folder
from stillmotion.io.checked import MEND, read_checked_rows
from stillmotion.io.records import Action, Video, load_records
from stillmotion.io.tables import write_json, write_rows
from stillmotion.stage import run_stage

_log = logging.getLogger("stillmotion")


def main(
    probes: Annotated[Path, typer.Option(help="folder of the probes")],
    raw: Annotated[Path, typer.Option(help="tables of the dataset")],
    embeddings: Annotated[Path, typer.Option(help="embeddings of the dataset by one model")],
    metrics: Annotated[Path, typer.Option(help="JSON file of the metrics")],
    predictions: Annotated[Path, typer.Option(help="folder of the class named for each span")],
    plot: Annotated[Path, typer.Option(help="accuracy by number of shots")],
) -> None:
    """Score action recognition on the test split."""
    params = load_params()
    embedded = Embeddings(embeddings)
    spans, labels = embedded.labelled_spans("test")
    of_test = {video.video_id for video in load_records(raw, Video) if video.split == "test"}
    lost = of_test - embedded.row_of.keys()
    actions = load_records(raw, Action)
    missing = sum(action.video_id in lost for action in actions)
    rows = read_checked_rows(probes / "probes.jsonl", Probed)
    weights, fitted = load_array(probes / "weights.npy"), (len(rows), len(embedded.classes), spans.shape[1] + 1)
    if not len(spans):
        _log.warning("the test split has no actions: an empty result")
    elif weights.shape != fitted:
        told = f"but probes.jsonl beside it and {embeddings} tell of {fitted}"
        raise InputError(f"{probes / 'weights.npy'}: of shape {weights.shape}, {told}; {MEND}")
    recognition = recognise(
        spans,
        labels,
        classes_KD=embedded.classes,
        weights_RKD1=weights,
        shots_R=[row["shots"] for row in rows],
        num_missing=missing,
        rng=np.random.default_rng(params.evaluate_actions.seed),
        num_resamples=params.evaluate_actions.bootstrap_samples,
    )
    names = np.array(embedded.class_names)
    known = [action for action in embedded.actions if action.video_id in of_test]
    named = [
        asdict(action)
        | {"zero_shot": names[recognition.zero_shot_N[span]]}
        | {"probes": {shots: names[probed_SN[:, span]] for shots, probed_SN in recognition.probed_SN.items()}}
        for span, action in enumerate(known)
    ]
    protocol = {
        "split": "test",
        "num_spans": len(spans),
        "num_videos": len({action.video_id for action in known}),
        "missing_videos": len(lost),
        "missing_spans": missing,
        "missing_classes": len({action.label for action in actions} - set(embedded.class_names)),
        "classes": embedded.class_names,
        "span_views": embedded.model["span_views"],
        "chance_top1": 100 / len(embedded.class_names) if embedded.class_names else None,
        "selected_on": "validation" if any(row["validation_top1"] is not None for row in rows) else None,
        "seeds": sorted({row["seed"] for row in rows}),
    }
    system = embedded.system | {"scorer": None}
    write_json(metrics, recognition.metrics | {"protocol": protocol | embedded.told, "system": system}, digits=4)
    write_json(plot, recognition.curve(), digits=4)
    with atomic_folder(predictions) as partial:
        write_rows(partial / "spans.jsonl", named)


if __name__ == "__main__":
    run_stage(main)
