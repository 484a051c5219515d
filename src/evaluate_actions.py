"""Stage evaluate_actions: name the actions of the test split, zero-shot and with the few-shot probes.

    python src/evaluate_actions.py --probes models/probes/small_clip \
        --raw data/raw/toy --embeddings data/embeddings/toy-small_clip --metrics metrics/actions/small_clip.json \
        --predictions data/predictions/actions/small_clip --plot plots/evaluate_actions/small_clip.json

Reads span and class-name embeddings and the probes. Writes top-1 and top-5 accuracy by number of shots, with
mean and standard deviation over seeds, zero-shot beside them, spans.jsonl with the class that each test span was given
zero-shot and by each probe (`probes`: by number of shots one a seed; of equal scores the first class), and the curve
for `dvc plots`. `pessimistic` beside a value is what it would be if every span of a test video that could not be
embedded were named wrongly.
"""

import stillmotion.config.capped  # noqa: F401 - before all others

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from stillmotion.config.loading import load_params
from stillmotion.embedding.reader import Embeddings
from stillmotion.io.arrays import load_array
from stillmotion.io.atomic import atomic_folder
from stillmotion.io.records import Action, Video, load_records
from stillmotion.io.tables import read_rows, write_json, write_rows
from stillmotion.metrics.classification import TOP_K, top_k_accuracy
from stillmotion.stage import run_stage

_log = logging.getLogger("stillmotion")


def over_seeds(runs: list[dict[str, Any]], name: str, share: float) -> dict[str, Any]:
    """Mean, sample standard deviation and the runs themselves, of one metric; `share` of the spans were there."""
    values = [run[name] for run in runs]
    std = np.std(values, ddof=1) if len(values) > 1 else 0.0
    return {"mean": np.mean(values), "std": std, "runs": values, "pessimistic": share * np.mean(values)}


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
    rng = np.random.default_rng(params.evaluate_actions.seed)
    settings: dict[str, Any] = {"rng": rng, "num_resamples": params.evaluate_actions.bootstrap_samples}
    result: dict[str, Any] = {"zero_shot": {}, "top1": {}, "top5": {}}
    curve: list[dict[str, Any]] = []
    named: list[dict[str, Any]] = []
    rows = read_rows(probes / "probes.jsonl")
    if not len(spans):
        _log.warning("the test split has no actions: an empty result")
    else:
        share = len(spans) / (len(spans) + missing)
        zero_shot_NK = spans @ embedded.classes.T
        result["zero_shot"] = top_k_accuracy(zero_shot_NK, labels, **settings)
        result["zero_shot"]["pessimistic"] = {name: share * result["zero_shot"][name] for name in TOP_K}
        weights_RKD = load_array(probes / "weights.npy")
        names = np.array(embedded.class_names)
        named_RN: dict[int, np.ndarray] = {}
        for shots in sorted({row["shots"] for row in rows}):
            scores_RNK = [
                spans @ weights_KD[:, :-1].T + weights_KD[:, -1]
                for row, weights_KD in zip(rows, weights_RKD, strict=True)
                if row["shots"] == shots
            ]
            runs = [top_k_accuracy(scores_NK, labels, **settings) for scores_NK in scores_RNK]
            named_RN[shots] = names[[scores_NK.argmax(axis=1) for scores_NK in scores_RNK]]
            result["top1"][str(shots)] = over_seeds(runs, "top1", share)
            result["top5"][str(shots)] = over_seeds(runs, "top5", share)
        curve = [
            {"shots": int(shots), "top1": result["top1"][shots]["mean"], "zero_shot": result["zero_shot"]["top1"]}
            for shots in result["top1"]
        ]
        known = [action for action in embedded.actions if action.video_id in of_test]
        for row, (action, best) in enumerate(zip(known, zero_shot_NK.argmax(axis=1), strict=True)):
            probed = {shots: by_seed_RN[:, row] for shots, by_seed_RN in named_RN.items()}
            named.append(asdict(action) | {"zero_shot": names[best], "probes": probed})
    result["protocol"] = {
        "split": "test",
        "num_spans": len(spans),
        "num_videos": len({action.video_id for action in embedded.actions if action.video_id in of_test}),
        "missing_videos": len(lost),
        "missing_spans": missing,
        "missing_classes": len({action.label for action in actions} - set(embedded.class_names)),
        "classes": embedded.class_names,
        "span_views": embedded.model["span_views"],
        "chance_top1": 100 / len(embedded.class_names) if embedded.class_names else None,
        "selected_on": "validation" if any(row["validation_top1"] is not None for row in rows) else None,
        "seeds": sorted({row["seed"] for row in rows}),
    }
    write_json(metrics, result, digits=4)
    write_json(plot, curve, digits=4)
    with atomic_folder(predictions) as partial:
        write_rows(partial / "spans.jsonl", named)


if __name__ == "__main__":
    run_stage(main)
