"""Writes what stillmotion/io/embeddings.py reads of videos and labelled spans."""

import logging
from pathlib import Path

import numpy as np

from stillmotion.backbones.embedding import Embedder, fuse_clips, fuse_frames
from stillmotion.io.arrays import load_array, save_array
from stillmotion.io.embeddings import EmbeddedVideo
from stillmotion.io.tables import write_json, write_rows
from stillmotion.memo import file_digest
from stillmotion.records import Action, save_records
from stillmotion.stage import Progress
from stillmotion.video.packed import PackedFrames
from stillmotion.video.sampling import span_indices

_log = logging.getLogger("stillmotion")


def write_videos(folder: Path, embedder: Embedder, packed: PackedFrames, clip_frames: int) -> list[EmbeddedVideo]:
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


def write_actions(
    folder: Path, index: list[EmbeddedVideo], actions: list[Action], packed: PackedFrames, span_frames: int
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
