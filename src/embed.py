"""Stage embed: frames, clips, spans and texts as unit vectors, by an original or a fine-tuned model.

    python src/embed.py --model models/backbones/small_clip --raw data/raw/toy --frames data/frames/toy \
        --output data/embeddings/toy-small_clip

Reads the tables of the dataset, its stored frames and a model folder; writes the arrays that
stillmotion/io/embeddings.py lists. What was embedded before is taken from the memo, video by video.
"""

import logging
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from stillmotion.backbones.compute import prepare_torch
from stillmotion.backbones.embedding import Embedder, fuse_clips, fuse_frames
from stillmotion.backbones.open_clip_backbone import CONFIG, WEIGHTS, load_backbone
from stillmotion.environment import read_environment
from stillmotion.errors import InputError
from stillmotion.io.arrays import load_array, save_array
from stillmotion.io.atomic import atomic_folder
from stillmotion.io.embeddings import EmbeddedVideo
from stillmotion.io.tables import write_json, write_rows
from stillmotion.memo import Memo, file_digest
from stillmotion.params import load_params
from stillmotion.provenance import code_version
from stillmotion.records import Action, Caption, Moment, load_records, save_records
from stillmotion.stage import Progress, run_stage
from stillmotion.video.packed import PackedFrames
from stillmotion.video.sampling import span_indices

_log = logging.getLogger("stillmotion")


def embed_videos(embedder: Embedder, packed: PackedFrames, folder: Path, clip_frames: int) -> list[EmbeddedVideo]:
    """Write frames.npy, clips.npy and index.jsonl, one video in memory at a time."""
    videos = packed.videos
    counts = [len(packed.timestamps(video.video_id)) for video in videos]
    rows = np.lib.format.open_memmap(
        folder / "frames.npy", mode="w+", dtype=np.float32, shape=(sum(counts), embedder.dim)
    )
    index, clips, offset, remembered = [], [], 0, 0
    with Progress("embedding videos", len(videos)) as progress:
        for video, count in zip(videos, counts, strict=True):
            digest = file_digest(packed.file(video.video_id))
            frames_TD, from_memo = embedder.video(packed.all(video.video_id), digest)
            rows[offset : offset + count] = frames_TD
            uniform, clip = packed.uniform_indices(video.video_id), packed.clip_indices(video.video_id)
            clips.append(fuse_clips(frames_TD, uniform, clip_frames))
            assert video.duration is not None
            index.append(
                EmbeddedVideo(
                    video.video_id,
                    video.split,
                    video.duration,
                    offset,
                    count,
                    uniform.tolist(),
                    clip.tolist(),
                )
            )
            offset += count
            remembered += from_memo
            progress.advance()
    rows.flush()
    save_array(folder / "clips.npy", np.stack(clips))
    write_rows(folder / "index.jsonl", [video.row() for video in index])
    _log.info("%d videos embedded, %d from the memo", len(videos) - remembered, remembered)
    return index


def embed_actions(
    index: list[EmbeddedVideo], actions: list[Action], packed: PackedFrames, folder: Path, span_frames: int
) -> list[str]:
    """Write actions.npy, actions.jsonl and classes.json; returns the labels, sorted."""
    frames = load_array(folder / "frames.npy")
    offset_of = {video.video_id: video.offset for video in index}
    known = [action for action in actions if action.video_id in offset_of]
    known.sort(key=lambda action: (action.video_id, action.start, action.end, action.label))
    spans = np.empty((len(known), span_frames, frames.shape[1]), np.float32)
    for row, action in enumerate(known):
        shown = span_indices(packed.timestamps(action.video_id), action.start, action.end, span_frames)
        spans[row] = frames[offset_of[action.video_id] + shown]
    save_array(folder / "actions.npy", fuse_frames(spans))
    save_records(folder, Action, known)
    labels = sorted({action.label for action in known})
    write_json(folder / "classes.json", labels)
    return labels


def main(
    model: Annotated[Path, typer.Option(help="model folder, of a backbone or a fine-tuned one")],
    raw: Annotated[Path, typer.Option(help="tables of the dataset")],
    frames: Annotated[Path, typer.Option(help="stored frames of the dataset")],
    output: Annotated[Path, typer.Option(help="folder of the embeddings")],
) -> None:
    """Embed frames, clips, labelled spans, captions, queries and class names."""
    params = load_params()
    environment = read_environment()
    device = prepare_torch(environment)
    packed = PackedFrames(frames)
    if not packed.videos:
        raise InputError(f"{frames}: no video could be decoded; see {frames / 'skipped.jsonl'}")
    backbone = load_backbone(model, device)
    weights = file_digest(model / WEIGHTS)
    precision = params.embed.gpu_precision if device.type == "cuda" else "fp32"
    key = {
        "weights": weights,
        "config": file_digest(model / CONFIG),
        "code": code_version(__file__),
        "torch": torch.__version__,
        "device": device.type,
        "threads": environment.threads,
        "precision": precision,
    }
    embedder = Embedder(backbone, Memo(environment.memo), key, precision)
    with atomic_folder(output) as partial:
        index = embed_videos(embedder, packed, partial, params.embed.clip_frames)
        labels = embed_actions(index, load_records(raw, Action), packed, partial, params.embed.span_frames)
        texts = {
            "captions": [caption.text for caption in load_records(raw, Caption)],
            "queries": [moment.query for moment in load_records(raw, Moment)],
            "classes": [params.embed.class_template.format(label) for label in labels],
        }
        for name, lines in texts.items():
            save_array(partial / f"{name}.npy", embedder.texts(lines, name))
        truncated = {name: int(backbone.truncated(lines).sum()) for name, lines in texts.items() if lines}
        logit_scale = backbone.logit_scale.item()
        write_json(
            partial / "model.json",
            {"dim": embedder.dim, "logit_scale": logit_scale, "weights": weights, "truncated": truncated},
        )


if __name__ == "__main__":
    run_stage(main)
