"""Stage evaluate_conditional: retrieval with X-CLIP's texts that depend on the video, for the best candidates.

    python src/evaluate_conditional.py --raw data/raw/toy --embeddings data/embeddings/toy-small_clip_xclip \
        --metrics metrics/retrieval/small_clip_xclip-conditional.json \
        --predictions data/predictions/retrieval/small_clip_xclip-conditional

Reads embeddings that were made with embed.contexts: true, and the captions of the test split. The cosines of texts
and videos of one clip rank everything; the best of each text and of each video are scored again. Writes the
metrics and, in the predictions folder, ranks.jsonl, as evaluate_retrieval does.
"""

import stillmotion.config.capped  # noqa: F401 - before all others

import logging
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from stillmotion.backbones.compute import prepare_torch
from stillmotion.backbones.xclip_prompts import build_prompts, conditional_scores, rescore_best
from stillmotion.config.environment import read_environment
from stillmotion.config.loading import load_params
from stillmotion.embedding.reader import Embeddings
from stillmotion.io.atomic import atomic_folder
from stillmotion.io.records import Caption, Video, load_records
from stillmotion.io.tables import write_json, write_rows
from stillmotion.io.weights import load_tensors
from stillmotion.retrieval.evaluation import evaluate_scores
from stillmotion.retrieval.pairs import retrieval_pairs, retrieval_protocol
from stillmotion.stage import run_stage

_log = logging.getLogger("stillmotion")

TEXTS_A_PASS = 1024


def main(
    raw: Annotated[Path, typer.Option(help="tables of the dataset")],
    embeddings: Annotated[Path, typer.Option(help="embeddings of the dataset by an X-CLIP, with contexts")],
    metrics: Annotated[Path, typer.Option(help="JSON file of the metrics")],
    predictions: Annotated[Path, typer.Option(help="folder of the per-query table")],
) -> None:
    """Score text-video retrieval on the test split with conditional texts."""
    params = load_params()
    settings = params.evaluate_conditional
    device = prepare_torch(read_environment(), params.threads)
    embedded = Embeddings(embeddings)
    splits = {video.video_id: video.split for video in load_records(raw, Video)}
    captions = load_records(raw, Caption)
    embedded.require_dataset(splits, len(captions), raw)
    pairs = retrieval_pairs(embedded, captions, "test", splits, num_clips=1)
    protocol = retrieval_protocol(pairs, ties=settings.ties, truncated=embedded.model["truncated"]) | {
        "num_clips": 1,
        "clip_frames": embedded.model["clip_frames"],
        "selected_on": "nothing: no aggregator is trained",
        "seeds": [],
        "inference_tricks": f"conditional texts for the top {settings.top_k}",
    }
    if not len(pairs):
        _log.warning("the test split has no captioned videos: an empty result")
        with atomic_folder(predictions) as folder:
            write_rows(folder / "ranks.jsonl", [])
        write_json(metrics, {"t2v": {}, "v2t": {}, "by_num_clips": {}, "protocol": protocol})
        return
    row_of = {caption.caption_id: row for row, caption in enumerate(captions)}
    lengths_T = embedded.caption_lengths[[row_of[caption.caption_id] for caption in pairs.captions]]
    videos_VD = pairs.clips_VCD[:, 0]
    score_pairs = partial(
        conditional_scores,
        build_prompts(*load_tensors(embedded.prompts_file)).to(device),
        pairs.texts_ND * lengths_T[:, None],
        videos_VD,
        lambda video: embedded.contexts[embedded.row_of[pairs.video_ids[video]]],
        texts_a_pass=TEXTS_A_PASS,
    )
    t2v_TV, v2t_TV = rescore_best(pairs.texts_ND @ videos_VD.T, score_pairs, top_k=settings.top_k)
    found, rows = evaluate_scores(pairs, t2v_TV, v2t_TV, settings)
    with atomic_folder(predictions) as folder:
        write_rows(folder / "ranks.jsonl", rows)
    write_json(metrics, found | {"protocol": protocol}, digits=4)


if __name__ == "__main__":
    run_stage(main)
