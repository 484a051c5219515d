"""Stage evaluate_tight: retrieval by CLIP4Clip's tight transformer, which scores each caption with each video.

    python src/evaluate_tight.py --model models/finetuned/small_clip_tight_transf-clips --raw data/raw/clips \
        --embeddings data/embeddings/clips-small_clip_tight_transf-clips \
        --metrics metrics/retrieval/small_clip_tight_transf-clips-tight_transformer.json \
        --predictions data/predictions/retrieval/small_clip_tight_transf-clips-tight_transformer

Reads a model folder, embeddings of the dataset by this model that were made with embed.tokens: true, and the captions
of the test split. A video is the one clip that spans it. All scores are in memory: 4 bytes for each pair. Writes the
metrics and, in the predictions folder, ranks.jsonl, as evaluate_retrieval does.
"""

import stillmotion.config.capped  # noqa: F401 - before all others

import logging
from pathlib import Path
from typing import Annotated

import typer

from stillmotion.backbones.clip4clip_backbone import TightClip4Clip
from stillmotion.backbones.compute import prepare_torch
from stillmotion.backbones.registry import load_backbone
from stillmotion.config.environment import read_environment
from stillmotion.config.loading import load_params
from stillmotion.embedding.reader import Embeddings
from stillmotion.errors import InputError
from stillmotion.io.atomic import atomic_folder
from stillmotion.io.memo import folder_digest
from stillmotion.io.records import Caption, Video, load_records
from stillmotion.io.tables import write_json, write_rows
from stillmotion.retrieval.evaluation import evaluate_scores
from stillmotion.retrieval.pairs import retrieval_pairs, retrieval_protocol
from stillmotion.retrieval.tight_scores import tight_scores
from stillmotion.stage import run_stage

_log = logging.getLogger("stillmotion")


def main(
    model: Annotated[Path, typer.Option(help="folder of a fine-tuned CLIP4Clip with a tight transformer")],
    raw: Annotated[Path, typer.Option(help="tables of the dataset")],
    embeddings: Annotated[Path, typer.Option(help="embeddings of the dataset by that model, with frames")],
    metrics: Annotated[Path, typer.Option(help="JSON file of the metrics")],
    predictions: Annotated[Path, typer.Option(help="folder of the per-query table")],
) -> None:
    """Score text-video retrieval on the test split by a tight transformer."""
    params = load_params()
    settings = params.evaluate_retrieval
    device = prepare_torch(read_environment(), params.threads)
    backbone = load_backbone(model, device)
    if not isinstance(backbone, TightClip4Clip):
        raise InputError(f"{model}: no CLIP4Clip with head: tight_transformer; take this one out of run.tight")
    embedded = Embeddings(embeddings)
    if embedded.model["model"] != folder_digest(model):
        raise InputError(f"{embeddings}: made by another model than {model}; run the embed stage again")
    splits = {video.video_id: video.split for video in load_records(raw, Video)}
    captions = load_records(raw, Caption)
    embedded.require_dataset(splits, len(captions), raw)
    # Whatever clips: their frames are what is scored.
    pairs = retrieval_pairs(embedded, captions, "test", splits, num_clips=embedded.clip_counts[0])
    protocol = retrieval_protocol(pairs, ties=settings.ties, truncated=embedded.model["truncated"]) | {
        "num_clips": 1,
        "clip_frames": embedded.model["clip_frames"],
        "selected_on": "nothing: no aggregator is trained",
        "seeds": [],
        "inference_tricks": "none",
    }
    if not len(pairs):
        _log.warning("the test split has no captioned videos: an empty result")
        with atomic_folder(predictions) as folder:
            write_rows(folder / "ranks.jsonl", [])
        write_json(metrics, {"t2v": {}, "v2t": {}, "by_num_clips": {}, "protocol": protocol})
        return
    row_of = {caption.caption_id: row for row, caption in enumerate(captions)}
    scores_TV = tight_scores(
        embedded,
        [row_of[caption.caption_id] for caption in pairs.captions],
        [caption.text for caption in pairs.captions],
        [embedded.row_of[video_id] for video_id in pairs.video_ids],
        backbone.head,
        device=device,
    )
    found, rows = evaluate_scores(pairs, scores_TV, scores_TV, settings)
    with atomic_folder(predictions) as folder:
        write_rows(folder / "ranks.jsonl", rows)
    write_json(metrics, found | {"protocol": protocol}, digits=4)


if __name__ == "__main__":
    run_stage(main)
