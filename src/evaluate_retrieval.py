"""Stage evaluate_retrieval: rank the test videos for each caption, and the captions for each video.

    python src/evaluate_retrieval.py --scorer transformer_mean --model models/backbones/small_clip \
        --aggregator models/aggregators/small_clip-transformer_mean --raw data/raw/toy/tables \
        --embeddings data/embeddings/toy-small_clip --metrics metrics/retrieval/small_clip-transformer_mean.json \
        --predictions data/predictions/retrieval/small_clip-transformer_mean

Reads embeddings, what the scorer needs beside them, and the captions of the test split. Writes the metrics (those of
the most clips on top, all below `by_num_clips`) and, in the predictions folder, ranks.jsonl: a row for each caption
with its rank by each seed and the first seed's five hardest negatives.
"""

import stillmotion.config.capped

import logging
from pathlib import Path
from typing import Annotated, Any

import typer

from stillmotion.config.environment import read_environment
from stillmotion.config.loading import load_params
from stillmotion.embedding.reader import Embeddings
from stillmotion.io.atomic import atomic_folder
from stillmotion.io.records import Caption, Video, load_records
from stillmotion.io.tables import write_json, write_rows
from stillmotion.metrics.seeds import summarise_system
from stillmotion.retrieval.pairs import rank_rows, retrieval_protocol
from stillmotion.retrieval.scoring import Queries, Ranked, ScorerInputs, open_scorer
from stillmotion.stage import importing, run_stage

_log = logging.getLogger("stillmotion")


def main(
    scorer: Annotated[str, typer.Option(help="key of `scorers` in params.yaml")],
    model: Annotated[Path, typer.Option(help="folder of the model that made the embeddings")],
    aggregator: Annotated[Path, typer.Option(help="folder of what was trained for the scorer")],
    raw: Annotated[Path, typer.Option(help="tables of the dataset")],
    embeddings: Annotated[Path, typer.Option(help="embeddings of the dataset by the model")],
    metrics: Annotated[Path, typer.Option(help="JSON file of the metrics")],
    predictions: Annotated[Path, typer.Option(help="folder of the per-query table")],
) -> None:
    """Score text-video retrieval on the test split."""
    params = load_params()
    settings = params.evaluate_retrieval
    embedded = Embeddings(embeddings)
    splits = {video.video_id: video.split for video in load_records(raw, Video)}
    captions = load_records(raw, Caption)
    embedded.require_dataset(splits, len(captions), raw)
    queries = Queries(embedded, captions, splits)
    with importing():
        from stillmotion.backbones.compute import prepare_torch
    device = prepare_torch(read_environment(), params.threads)
    opened = open_scorer(params.scorers[scorer], queries, ScorerInputs(aggregator, model, device))
    most_clips, pairs = opened.clip_counts[-1], queries.any_clips
    protocol = {
        **retrieval_protocol(pairs, ties=settings.ties, truncated=embedded.model["truncated"]),
        "num_clips": most_clips,
        "clip_frames": embedded.model["clip_frames"],
        "selected_on": opened.selected_on,
        "seeds": list(opened.seeds),
        "inference_tricks": opened.inference_tricks,
        **opened.described,
        **embedded.told,
    }
    ranked: dict[int, list[Ranked]] = {}
    if len(pairs):
        ranked = {num: opened.rank(queries, num, settings.ties) for num in opened.clip_counts}
    else:
        _log.warning("the test split has no captioned videos: an empty result")
    by_num_clips: dict[str, Any] = {
        str(num): summarise_system(
            [run.ranks.directions for run in runs],
            num_missing=len(pairs.missing),
            seed=settings.seed,
            num_resamples=settings.bootstrap_samples,
        )
        for num, runs in ranked.items()
    }
    rows: list[dict[str, Any]] = []
    result: dict[str, Any] = {"t2v": {}, "v2t": {}}
    if ranked:
        ranks = {str(num): [run.ranks.directions["t2v"] for run in runs] for num, runs in ranked.items()}
        first = ranked[most_clips][0]
        rows = rank_rows(pairs, ranks, first.ranks.negatives_TK)
        result = by_num_clips[str(most_clips)] | first.measured
    with atomic_folder(predictions) as partial:
        write_rows(partial / "ranks.jsonl", rows)
    system = embedded.system | {"scorer": scorer}
    write_json(metrics, result | {"by_num_clips": by_num_clips, "protocol": protocol, "system": system}, digits=4)


if __name__ == "__main__":
    run_stage(main)
