"""Writes what reader.py reads of videos, labelled spans, texts, their tokens and X-CLIP's contexts.

Of the stored videos some are embedded, and of the texts those that belong to them: the other texts keep their rows, so
that a row of captions.jsonl or moments.jsonl is one here, and hold nothing.
"""

import logging
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from stillmotion.backbones.compute import autocast
from stillmotion.embedding.embedder import TEXTS_A_PASS, Embedder
from stillmotion.embedding.reader import EmbeddedVideo
from stillmotion.errors import InputError
from stillmotion.io.arrays import growing_array, load_array, save_array, writable_map
from stillmotion.io.records import Action, Video, save_records
from stillmotion.io.tables import write_json, write_rows
from stillmotion.io.weights import save_tensors
from stillmotion.stage import Progress
from stillmotion.video.packed import PackedFrames
from stillmotion.video.sampling import clip_layout, view_indices

if TYPE_CHECKING:
    from stillmotion.backbones.xclip_backbone import XClipBackbone

_log = logging.getLogger("stillmotion")


def write_videos(
    folder: Path,
    embedder: Embedder,
    packed: PackedFrames,
    videos: Sequence[Video],
    actions: Sequence[Action],
    *,
    clip_counts: Sequence[int],
    clip_frames: int,
    span_views: int,
    single_frames: bool = True,
    with_spans: bool = True,
) -> list[str]:
    """Write frames.npy, clips.npy, index.jsonl, actions.npy, actions.jsonl and classes.json.

    One video is in memory at a time. A labelled span is the unit vector along the mean of its views' vectors: its
    cosines rank the classes as the means of the views' cosines do, which is how scores of several views are joined.
    Views are temporal; published protocols also take several spatial crops, which sample_frames does not keep.

    Args:
        folder: to write to.
        embedder: the model.
        packed: the stored frames.
        videos: which of the stored ones to embed.
        actions: labelled spans; those of other videos are left out.
        clip_counts: how many clips stand for a video, each by itself.
        clip_frames: F.
        span_views: temporal views of a labelled span, V of `sampling.view_indices`.
        single_frames: without them there is no frames.npy, unless clips are means of them.
        with_spans: without them there are no actions.npy and actions.jsonl.

    Returns:
        The labels, sorted.
    """
    spans_of: dict[str, list[Action]] = defaultdict(list)
    for action in actions if with_spans else ():
        spans_of[action.video_id].append(action)
    counts = [len(packed.timestamps(video.video_id)) for video in videos]
    num_clips = sum(clip_counts)
    dim = embedder.backbone.dim
    single_frames = single_frames or embedder.backbone.clips_are_means
    rows = None
    if single_frames:
        rows = writable_map(folder / "frames.npy", np.float32, (sum(counts), dim))
    index, clips, spans, known, offset, remembered = [], [], [], [], 0, 0
    with Progress("embedding videos", len(videos)) as progress:
        for video, count in zip(videos, counts, strict=True):
            uniform, timestamps = packed.uniform_indices(video.video_id), packed.timestamps(video.video_id)
            own = sorted(spans_of[video.video_id], key=lambda action: (action.start, action.end, action.label))
            wanted = [
                uniform[clip_layout(len(uniform), num_clips=number, clip_frames=clip_frames)] for number in clip_counts
            ]
            wanted += [
                view_indices(timestamps, action.start, action.end, clip_frames, num_views=span_views) for action in own
            ]
            frames_TD, clips_ND, from_memo = embedder.video(
                packed.all(video.video_id),
                packed.digest(video.video_id),
                np.concatenate(wanted),
                single_frames=single_frames,
                times_T=timestamps,
            )
            if rows is not None:
                rows[offset : offset + count] = frames_TD
            clips.append(clips_ND[:num_clips])
            spans.append(_mean_of_views(clips_ND[num_clips:], span_views))
            known += own
            assert video.duration is not None
            clip_list = packed.clip_indices(video.video_id).tolist()
            index.append(
                EmbeddedVideo(
                    video.video_id, video.split, video.duration, offset, count, uniform.tolist(), clip_list
                ).row()
            )
            offset += count
            remembered += from_memo
            progress.advance()
    if rows is not None:
        rows.flush()
    save_array(folder / "clips.npy", np.stack(clips))
    write_rows(folder / "index.jsonl", index)
    if with_spans:
        save_array(folder / "actions.npy", np.concatenate(spans))
        save_records(folder, Action, known)
    # Of all spans: that a video is missing must not make the task easier.
    labels = sorted({action.label for action in actions})
    write_json(folder / "classes.json", labels)
    _log.info("%d videos embedded, %d from the memo", len(videos) - remembered, remembered)
    return labels


def _mean_of_views(views_ND: np.ndarray, span_views: int) -> np.ndarray:
    """Unit vectors of spans, of whose views' unit vectors each `span_views` follow one another."""
    if span_views == 1:
        return views_ND
    means_AD = views_ND.reshape(-1, span_views, views_ND.shape[1]).mean(axis=1)
    return means_AD / np.linalg.norm(means_AD, axis=1, keepdims=True)


def clip_frames_of(embedder: Embedder, wanted: int, clip_counts: Sequence[int], num_uniform: int) -> int:
    """Frames a clip: the model's own number, or `wanted` where it takes any.

    Raises:
        InputError: fewer frames are stored than the most clips need.
    """
    frames = embedder.backbone.clip_frames or wanted
    if frames * clip_counts[-1] > num_uniform:
        raise InputError(
            f"params.yaml: {clip_counts[-1]} clips of the model's {frames} frames are more than "
            f"sample_frames.num_uniform ({num_uniform}); raise it, or lower embed.clip_counts"
        )
    return frames


def write_clip_frames(
    folder: Path, embedder: Embedder, packed: PackedFrames, videos: Sequence[Video], *, clip_frames: int
) -> None:
    """Write clip_frames.npy: the frames of the one clip that spans each video, one video in memory at a time.

    Args:
        folder: to write to.
        embedder: the model.
        packed: the stored frames.
        videos: which of the stored ones to embed.
        clip_frames: F.
    """
    shape = (len(videos), clip_frames, embedder.backbone.dim)
    rows_VFD = writable_map(folder / "clip_frames.npy", np.float32, shape)
    with Progress("embedding the frames of clips", len(videos)) as progress:
        for row, video in enumerate(videos):
            uniform = packed.uniform_indices(video.video_id)
            clip_F = uniform[clip_layout(len(uniform), num_clips=1, clip_frames=clip_frames)[0]]
            digest = packed.digest(video.video_id)
            rows_VFD[row] = embedder.clip_frames(packed.at(video.video_id, clip_F), digest, clip_F)
            progress.advance()
    rows_VFD.flush()


def write_texts(path: Path, embedder: Embedder, texts: Sequence[str | None]) -> None:
    """Write the unit vectors of texts, with a row of NaN for each that is None.

    Args:
        path: the .npy file.
        embedder: the model.
        texts: in the order of the rows.
    """
    is_wanted_T = np.array([text is not None for text in texts], dtype=bool)
    rows_TD = np.full((len(texts), embedder.backbone.dim), np.nan, dtype=np.float32)
    rows_TD[is_wanted_T] = embedder.texts([text for text in texts if text is not None], path.stem)
    save_array(path, rows_TD)


def write_caption_tokens(folder: Path, embedder: Embedder, captions: Sequence[str | None]) -> None:
    """Write caption_tokens.npy and caption_token_offsets.npy, one batch of captions in memory at a time.

    Args:
        folder: to write to.
        embedder: the model.
        captions: in the order of captions.npy; one that is None has no tokens.
    """
    counts = [np.zeros(0, np.int64)]
    with growing_array(folder / "caption_tokens.npy", np.float32, embedder.backbone.dim) as put:
        for tokens_ND, counts_B in embedder.tokens([text for text in captions if text is not None], "captions"):
            counts.append(counts_B)
            put(tokens_ND)
    offsets = np.zeros(len(captions) + 1, np.int64)
    offsets[1:][[text is not None for text in captions]] = np.concatenate(counts)
    save_array(folder / "caption_token_offsets.npy", offsets.cumsum())


def write_contexts(
    folder: Path,
    embedder: Embedder,
    backbone: "XClipBackbone",
    packed: PackedFrames,
    videos: Sequence[Video],
    captions: Sequence[str | None],
) -> None:
    """Write contexts.npy, caption_lengths.npy and prompts.safetensors: what texts that depend on a video need.

    A context is of the one clip that spans the video. One video is in memory at a time.

    Args:
        folder: to write to.
        embedder: of `backbone`; its memo holds the contexts too.
        backbone: the model.
        packed: the stored frames.
        videos: which of the stored ones to embed.
        captions: in the order of captions.npy; one that is None has the length NaN.
    """
    # Imported here, where it is at hand: it comes with transformers, which other families have no use for.
    from stillmotion.backbones.xclip_prompts import prompt_settings

    shape = (len(videos), *backbone.context_shape)
    contexts_VPD = writable_map(folder / "contexts.npy", np.float32, shape)
    with torch.inference_mode(), autocast(backbone.device, embedder.precision):
        for row, video in enumerate(videos):
            uniform = packed.uniform_indices(video.video_id)
            clip_1F = uniform[clip_layout(len(uniform), num_clips=1, clip_frames=backbone.clip_frames)]
            digest = packed.digest(video.video_id)
            key = embedder.key | {"frames": digest, "clips": clip_1F.tolist()}

            def make(video_id: str = video.video_id, clip_F: np.ndarray = clip_1F[0]) -> np.ndarray:
                pixels = backbone.pixels(packed.at(video_id, clip_F))[None]
                made: np.ndarray = backbone.contexts(pixels)[0].cpu().numpy()
                return made

            contexts_VPD[row], _ = embedder.memo.recall(
                "contexts", key, make, load=load_array, save=save_array, suffix=".npy"
            )
        lengths = [np.zeros(0, np.float32)]
        wanted = [text for text in captions if text is not None]
        for first in range(0, len(wanted), TEXTS_A_PASS):
            tokens = backbone.tokens(wanted[first : first + TEXTS_A_PASS])
            lengths.append(backbone.text_features(tokens).float().norm(dim=-1).cpu().numpy())
    contexts_VPD.flush()
    lengths_T = np.full(len(captions), np.nan, dtype=np.float32)
    lengths_T[[text is not None for text in captions]] = np.concatenate(lengths)
    save_array(folder / "caption_lengths.npy", lengths_T)
    tensors = backbone.model.prompts_generator.state_dict()
    save_tensors(folder / "prompts.safetensors", tensors, prompt_settings(backbone.model))
