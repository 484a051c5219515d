"""Stage evaluate_alignment: retrieval by how the frames of a video and the tokens of a caption fit one another.

    python src/evaluate_alignment.py --alignment mug --raw data/raw/toy --embeddings data/embeddings/toy-small_clip \
        --metrics metrics/retrieval/small_clip-mug.json --predictions data/predictions/retrieval/small_clip-mug

Reads embeddings that were made with embed.tokens: true, and the captions of the test split. A video is the one clip
that spans it. All scores are in memory: 4 bytes for each pair, and with dual softmax 16 more. Writes the metrics, which
say too how alike the frames of a video are, as no text can choose between equal ones, and, in the predictions folder,
ranks.jsonl, as evaluate_retrieval does.
"""

import stillmotion.config.capped  # noqa: F401 - before all others

import logging
from pathlib import Path
from typing import Annotated

import typer

from stillmotion.backbones.compute import prepare_torch
from stillmotion.config.environment import read_environment
from stillmotion.config.loading import load_params
from stillmotion.embedding.reader import Embeddings
from stillmotion.io.atomic import atomic_folder
from stillmotion.io.records import Caption, Video, load_records
from stillmotion.io.tables import write_json, write_rows
from stillmotion.metrics.dual_softmax import dual_softmax
from stillmotion.metrics.frame_cosine import mean_frame_cosine
from stillmotion.retrieval.alignment import alignment_scores
from stillmotion.retrieval.evaluation import evaluate_scores
from stillmotion.retrieval.pairs import retrieval_pairs, retrieval_protocol
from stillmotion.stage import run_stage

_log = logging.getLogger("stillmotion")


def main(
    alignment: Annotated[str, typer.Option(help="key of `alignments` in params.yaml")],
    raw: Annotated[Path, typer.Option(help="tables of the dataset")],
    embeddings: Annotated[Path, typer.Option(help="embeddings of the dataset by one model, with frames and tokens")],
    metrics: Annotated[Path, typer.Option(help="JSON file of the metrics")],
    predictions: Annotated[Path, typer.Option(help="folder of the per-query table")],
) -> None:
    """Score text-video retrieval on the test split by an alignment of frames and tokens."""
    params = load_params()
    settings, aligned = params.evaluate_retrieval, params.alignments[alignment]
    device = prepare_torch(read_environment(), params.threads)
    embedded = Embeddings(embeddings)
    splits = {video.video_id: video.split for video in load_records(raw, Video)}
    captions = load_records(raw, Caption)
    embedded.require_dataset(splits, len(captions), raw)
    # Whatever clips: their frames are what is compared.
    pairs = retrieval_pairs(embedded, captions, "test", splits, num_clips=embedded.clip_counts[0])
    trick = f"dual softmax over all test queries of each direction, temperature 1/{aligned.tau:g}"
    protocol = retrieval_protocol(pairs, ties=settings.ties, truncated=embedded.model["truncated"]) | {
        "num_clips": 1,
        "clip_frames": embedded.model["clip_frames"],
        "selected_on": "nothing: no aggregator is trained",
        "seeds": [],
        "alignment": aligned.model_dump(),
        "inference_tricks": trick if aligned.dual_softmax else "none",
    }
    if not len(pairs):
        _log.warning("the test split has no captioned videos: an empty result")
        with atomic_folder(predictions) as folder:
            write_rows(folder / "ranks.jsonl", [])
        write_json(metrics, {"t2v": {}, "v2t": {}, "by_num_clips": {}, "protocol": protocol})
        return
    row_of = {caption.caption_id: row for row, caption in enumerate(captions)}
    videos_V = [embedded.row_of[video_id] for video_id in pairs.video_ids]
    scores_TV = alignment_scores(
        embedded,
        [row_of[caption.caption_id] for caption in pairs.captions],
        [caption.text for caption in pairs.captions],
        videos_V,
        aligned,
        device=device,
    )
    t2v_TV, v2t_TV = scores_TV, scores_TV
    if aligned.dual_softmax:
        t2v_TV, v2t_TV = dual_softmax(scores_TV, tau=aligned.tau), dual_softmax(scores_TV.T, tau=aligned.tau).T
    found, rows = evaluate_scores(pairs, t2v_TV, v2t_TV, settings)
    found["mean_frame_cosine"] = mean_frame_cosine(embedded.clip_frames[videos_V])
    with atomic_folder(predictions) as folder:
        write_rows(folder / "ranks.jsonl", rows)
    write_json(metrics, found | {"protocol": protocol}, digits=4)


if __name__ == "__main__":
    run_stage(main)
