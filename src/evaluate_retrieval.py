"""Stage evaluate_retrieval: rank the test videos for each caption, and the captions for each video.

    python src/evaluate_retrieval.py --aggregator models/aggregators/small_clip-mean --raw data/raw/toy \
        --embeddings data/embeddings/toy-small_clip --metrics metrics/retrieval/small_clip-mean.json \
        --predictions data/predictions/retrieval/small_clip-mean

Reads embeddings, an aggregator and the captions of the test split. Writes the metrics (those
of the most clips on top, all below `by_num_clips`) and, in the predictions folder, ranks.jsonl: a row for each
caption with its rank by each seed and the first seed's five hardest negatives.
"""

import stillmotion.config.capped  # noqa: F401 - before all others

import logging
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from stillmotion.backbones.compute import prepare_torch
from stillmotion.config.environment import read_environment
from stillmotion.config.loading import load_params
from stillmotion.config.training import AggregatorParams
from stillmotion.embedding.reader import Embeddings
from stillmotion.io.atomic import atomic_folder
from stillmotion.io.records import Caption, Video, load_records
from stillmotion.io.tables import read_json, write_json, write_rows
from stillmotion.io.weights import load_tensors
from stillmotion.metrics.embedding_ranks import rank_embeddings
from stillmotion.metrics.retrieval import QueryRanks
from stillmotion.metrics.seeds import summarise_system
from stillmotion.retrieval.aggregators import aggregate, build_aggregator
from stillmotion.retrieval.pairs import RetrievalPairs, rank_rows, retrieval_pairs, retrieval_protocol
from stillmotion.stage import run_stage

_log = logging.getLogger("stillmotion")


def video_embeddings(
    folder: Path, described: dict[str, Any], pairs: RetrievalPairs, num_clips: int
) -> list[np.ndarray]:
    """Videos (V, D) by the aggregator that `described` describes, once for each of its seeds."""
    params = AggregatorParams(**{name: described[name] for name in AggregatorParams.model_fields})
    runs = []
    for seed in described["seeds"] or [0]:
        module = build_aggregator(params, dim=described["dim"], num_clips=num_clips, seed=seed)
        if described["seeds"]:
            module.load_state_dict(load_tensors(folder / f"clips-{num_clips}" / f"seed-{seed}.safetensors")[0])
        runs.append(aggregate(module, pairs.clips_VCD))
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
    prepare_torch(read_environment(), params.threads)
    embedded = Embeddings(embeddings)
    splits = {video.video_id: video.split for video in load_records(raw, Video)}
    captions = load_records(raw, Caption)
    described = read_json(aggregator / "aggregator.json")
    embedded.require_dataset(splits, len(captions), raw)
    embedded.require_model(described["model"], aggregator)
    settings = params.evaluate_retrieval
    most_clips = described["clip_counts"][-1]
    pairs = retrieval_pairs(embedded, captions, "test", splits, num_clips=most_clips)
    protocol = retrieval_protocol(pairs, ties=settings.ties, truncated=embedded.model["truncated"]) | {
        "num_clips": most_clips,
        "clip_frames": embedded.model["clip_frames"],
        "selected_on": described["selected_on"],
        "seeds": described["seeds"],
        "inference_tricks": "none",
    }
    if not len(pairs):
        _log.warning("the test split has no captioned videos: an empty result")
        with atomic_folder(predictions) as partial:
            write_rows(partial / "ranks.jsonl", [])
        write_json(metrics, {"t2v": {}, "v2t": {}, "by_num_clips": {}, "protocol": protocol})
        return
    by_num_clips: dict[str, Any] = {}
    ranks: dict[str, list[QueryRanks]] = {}
    for num_clips in described["clip_counts"]:
        pairs = retrieval_pairs(embedded, captions, "test", splits, num_clips=num_clips)
        runs = [
            rank_embeddings(pairs.texts_ND, videos_VD, pairs.relevance, ties=settings.ties)
            for videos_VD in video_embeddings(aggregator, described, pairs, num_clips)
        ]
        directions = [run.directions for run in runs]
        by_num_clips[str(num_clips)] = summarise_system(
            directions,
            num_missing=len(pairs.missing),
            seed=settings.seed,
            num_resamples=settings.bootstrap_samples,
        )
        ranks[str(num_clips)] = [run["t2v"] for run in directions]
    with atomic_folder(predictions) as partial:
        write_rows(partial / "ranks.jsonl", rank_rows(pairs, ranks, runs[0].negatives_TK))
    result = by_num_clips[str(most_clips)] | {"by_num_clips": by_num_clips, "protocol": protocol}
    write_json(metrics, result, digits=4)


if __name__ == "__main__":
    run_stage(main)
