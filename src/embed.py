"""Stage embed: frames, clips, spans and texts as unit vectors, by an original or a fine-tuned model.

    python src/embed.py --model models/backbones/small_clip --raw data/raw/toy/tables --frames data/frames/toy \
        --output data/embeddings/toy-small_clip

Reads the tables of the dataset, its stored frames and a model folder; writes the arrays that
stillmotion/embedding/reader.py lists, of the videos and texts in `embed.splits`. The memo has what was embedded before.
"""

import stillmotion.config.capped

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from stillmotion.backbones.family_files import read_source
from stillmotion.config.environment import read_environment
from stillmotion.config.loading import load_params
from stillmotion.config.processor import instructions
from stillmotion.errors import InputError
from stillmotion.io.atomic import atomic_folder
from stillmotion.io.memo import folder_digest, open_memo
from stillmotion.io.records import Action, Caption, Moment, load_records
from stillmotion.io.tables import write_json
from stillmotion.provenance import code_version
from stillmotion.stage import importing, run_stage
from stillmotion.video.packed import PackedFrames

if TYPE_CHECKING:
    from stillmotion.backbones.xclip_backbone import XClipBackbone

_log = logging.getLogger("stillmotion")


def main(
    model: Annotated[Path, typer.Option(help="model folder, of a backbone or a fine-tuned one")],
    raw: Annotated[Path, typer.Option(help="tables of the dataset")],
    frames: Annotated[Path, typer.Option(help="stored frames of the dataset")],
    output: Annotated[Path, typer.Option(help="folder of the embeddings")],
) -> None:
    """Embed frames, clips, labelled spans, captions, queries and class names."""
    params = load_params()
    environment = read_environment()
    packed, splits = PackedFrames(frames), params.embed.splits
    videos = [video for video in packed.videos if video.split in splits]
    if not videos:
        lost = f"no video of {', '.join(splits)} could be decoded"
        raise InputError(f"{frames}: {lost}; see {frames / 'skipped.jsonl'}, or name another split in embed.splits")
    with importing():
        import torch

        from stillmotion.backbones import registry
        from stillmotion.backbones.compute import prepare_torch
        from stillmotion.embedding import state_embedder as embedding
        from stillmotion.embedding import states, writer
    device = prepare_torch(environment, params.threads)
    backbone = registry.load_embeds(model, device)
    digest = folder_digest(model)
    precision = params.embed.gpu_precision if device.type == "cuda" else "fp32"
    key = {
        "model": digest,
        "code": [code_version(embedding.__file__), code_version(registry.__file__)],
        "torch": torch.__version__,
        "device": device.type,
        "threads": params.threads,
        "instructions": instructions(),
        "precision": precision,
    }
    embedder = embedding.embedder_of(backbone, model, open_memo(environment.memo), key, precision)
    with_tokens = params.embed.tokens
    try:
        if with_tokens:
            embedder.require_tokens()
    except InputError as error:
        _log.warning("%s: no tokens for an alignment: %s", model, error)
        with_tokens = False
    clip_counts, stored = params.embed.clip_counts, len(packed.uniform_indices(videos[0].video_id))
    clip_frames = writer.clip_frames_of(embedder, params.embed.clip_frames, clip_counts, stored)
    splits_of = {video.video_id: video.split for video in (*packed.videos, *packed.skipped)}
    captions, moments = load_records(raw, Caption), load_records(raw, Moment)
    described = {"dim": backbone.dim, "logit_scale": backbone.logit_scale.item(), "model": digest}
    texts = {
        "captions": [caption.text if splits_of.get(caption.video_id) in splits else None for caption in captions],
        "queries": [moment.query if splits_of.get(moment.vid) in splits else None for moment in moments],
    }
    with atomic_folder(output) as partial:
        if isinstance(embedder, embedding.StateEmbedder):
            described |= states.write_states(partial, embedder, packed, videos, texts["captions"])
        labels = writer.write_videos(
            partial,
            embedder,
            packed,
            videos,
            load_records(raw, Action),
            clip_counts=clip_counts,
            clip_frames=clip_frames,
            span_views=params.embed.span_views,
            single_frames=params.embed.single_frames,
            with_spans=params.embed.spans,
        )
        texts["classes"] = [params.embed.class_template.format(label) for label in labels]
        for name, lines in texts.items():
            writer.write_texts(partial / f"{name}.npy", embedder, lines)
        if with_tokens:
            writer.write_clip_frames(partial, embedder, packed, videos, clip_frames=clip_frames)
            writer.write_caption_tokens(partial, embedder, texts["captions"])
        if params.embed.contexts and backbone.has_contexts:
            writer.write_contexts(partial, embedder, cast("XClipBackbone", backbone), packed, videos, texts["captions"])
        # Those of the test split, as metrics are.
        of_test = [caption.text for caption in captions if splits_of.get(caption.video_id) == "test"]
        cut = int(backbone.truncated(of_test).sum())
        origin = {"instructions": instructions(), "system": read_source(model)["system"]}
        clips = {"clip_counts": clip_counts, "clip_frames": clip_frames, "span_views": params.embed.span_views}
        write_json(partial / "model.json", described | origin | clips | {"truncated": {"captions": cut}})


if __name__ == "__main__":
    run_stage(main)
