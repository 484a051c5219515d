"""Stage evaluate_retrieval: rank the test videos for each caption, and the captions for each video.

    python src/evaluate_retrieval.py --aggregator models/aggregators/small_clip-mean --raw data/raw/toy \
        --embeddings data/embeddings/toy-small_clip --metrics metrics/retrieval/small_clip-mean.json \
        --predictions data/predictions/retrieval/small_clip-mean

Reads embeddings, an aggregator and the captions of the test split. Writes the metrics and, in the predictions
folder, ranks.jsonl: a row for each caption with its rank by each seed and the first seed's five
hardest negatives.
"""

import logging
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from stillmotion.adaptation.aggregators import build_aggregator
from stillmotion.backbones.compute import prepare_torch
from stillmotion.environment import read_environment
from stillmotion.io.atomic import atomic_folder
from stillmotion.io.embeddings import Embeddings
from stillmotion.io.tables import read_json, write_json, write_rows
from stillmotion.io.weights import load_tensors
from stillmotion.metrics.negatives import hardest_negatives
from stillmotion.metrics.retrieval import pessimistic_recall, rank_both_directions
from stillmotion.metrics.seeds import summarise_seeds
from stillmotion.params import AggregatorParams, load_params
from stillmotion.records import Caption, Video, load_records
from stillmotion.stage import run_stage
from stillmotion.training.aggregation import RetrievalPairs, aggregate, retrieval_pairs

_log = logging.getLogger("stillmotion")


def score_matrices(folder: Path, described: dict[str, Any], pairs: RetrievalPairs) -> list[np.ndarray]:
    """Texts × videos cosines, one matrix for each seed of the aggregator that `described` describes."""
    params = AggregatorParams(**{name: described[name] for name in AggregatorParams.model_fields})
    sizes = {"dim": described["dim"], "num_clips": described["num_clips"]}
    runs = []
    for seed in described["seeds"] or [0]:
        module = build_aggregator(params, **sizes, seed=seed)
        if described["seeds"]:
            module.load_state_dict(load_tensors(folder / f"seed-{seed}.safetensors")[0])
        runs.append(pairs.texts_ND @ aggregate(module, pairs.clips_VCD).T)
    return runs


def main(
    aggregator: Annotated[Path, typer.Option(help="folder of the aggregator")],
    raw: Annotated[Path, typer.Option(help="tables of the dataset")],
    embeddings: Annotated[Path, typer.Option(help="embeddings of the dataset by one model")],
    metrics: Annotated[Path, typer.Option(help="JSON file of the metrics")],
    predictions: Annotated[Path, typer.Option(help="folder of the per-query table")],
) -> None:
    """Score text-video retrieval on the test split."""
    params = load_params()
    prepare_torch(read_environment())
    embedded = Embeddings(embeddings)
    splits = {video.video_id: video.split for video in load_records(raw, Video)}
    pairs = retrieval_pairs(embedded, load_records(raw, Caption), "test", splits)
    described = read_json(aggregator / "aggregator.json")
    protocol = {
        "split": "test",
        "num_queries": len(pairs),
        "gallery_size": len(pairs.video_ids),
        "missing_videos": len({caption.video_id for caption in pairs.missing}),
        "missing_queries": len(pairs.missing),
        "ties": params.evaluate_retrieval.ties,
        "selected_on": described["selected_on"],
        "seeds": described["seeds"],
        "captions": "each caption of a whole video is a query; uncaptioned videos are not in the gallery",
        "inference_tricks": "none",
        "truncated_captions": embedded.model["truncated"].get("captions", 0),
    }
    if not len(pairs):
        _log.warning("the test split has no captioned videos: an empty result")
        with atomic_folder(predictions) as partial:
            write_rows(partial / "ranks.jsonl", [])
        write_json(metrics, {"t2v": {}, "v2t": {}, "protocol": protocol})
        return
    settings = params.evaluate_retrieval
    runs = score_matrices(aggregator, described, pairs)
    relevance = np.stack([np.arange(len(pairs)), pairs.video_of_N], axis=1)
    directions = [rank_both_directions(scores, relevance, ties=settings.ties) for scores in runs]
    rng = np.random.default_rng(settings.seed)
    result: dict[str, Any] = {
        name: summarise_seeds([run[name] for run in directions], rng=rng, num_resamples=settings.bootstrap_samples)
        for name in directions[0]
    }
    recalls = [pessimistic_recall(run["t2v"].ranks_Q, len(pairs.missing)) for run in directions]
    result["t2v"]["pessimistic"] = {name: np.mean([row[name] for row in recalls]) for name in recalls[0]}
    rows = [
        {
            "caption_id": caption.caption_id,
            "video_id": caption.video_id,
            "text": caption.text,
            "rank": [run["t2v"].ranks_Q[row] for run in directions],
            "hardest_negatives": [pairs.video_ids[video] for video in negatives if video >= 0],
        }
        for row, (caption, negatives) in enumerate(
            zip(pairs.captions, hardest_negatives(runs[0], relevance).tolist(), strict=True)
        )
    ]
    with atomic_folder(predictions) as partial:
        write_rows(partial / "ranks.jsonl", rows)
    write_json(metrics, result | {"protocol": protocol}, digits=4)


if __name__ == "__main__":
    run_stage(main)
