"""The captions of whole videos and what is made of them: queries, a gallery, and rows of what was found.

Shapes: N pairs (Q of them queries), V videos, C clips, D embedding dimensions, K negatives.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stillmotion.embedding.reader import Embeddings
from stillmotion.io.records import Caption
from stillmotion.metrics.retrieval import QueryRanks


@dataclass(frozen=True)
class RetrievalPairs:
    """The captions of whole videos in one split, with the videos they belong to."""

    clips_VCD: np.ndarray
    """Clip embeddings of the split's captioned videos."""
    texts_ND: np.ndarray
    video_of_N: np.ndarray
    """Row in clips_VCD of each text's video."""
    video_ids: list[str]
    captions: list[Caption]
    missing: list[Caption]
    """Captions of videos of the split that could not be decoded."""
    logit_scale: float

    def __len__(self) -> int:
        return len(self.texts_ND)

    @property
    def relevance(self) -> np.ndarray:
        """(N, 2) each text with its video."""
        return np.stack([np.arange(len(self)), self.video_of_N], axis=1)


def retrieval_pairs(
    embedded: Embeddings,
    captions: Sequence[Caption],
    split: str,
    splits: dict[str, str] | None = None,
    *,
    num_clips: int,
) -> RetrievalPairs:
    """The whole-video captions of a split.

    Args:
        embedded: embeddings of the dataset.
        captions: all captions, in the order of captions.jsonl.
        split: train, validation or test.
        splits: split of every video, by video_id, decoded or not; with it, `missing` is filled.
        num_clips: how many clips stand for a video.
    """
    videos = {video.video_id: row for row, video in enumerate(embedded.videos) if video.split == split}
    whole = [(row, caption) for row, caption in enumerate(captions) if caption.start is None]
    kept = [(row, caption) for row, caption in whole if caption.video_id in videos]
    missing = [
        caption
        for _, caption in whole
        if splits and splits.get(caption.video_id) == split and caption.video_id not in videos
    ]
    video_ids = sorted({caption.video_id for _, caption in kept})
    position = {video_id: place for place, video_id in enumerate(video_ids)}
    return RetrievalPairs(
        clips_VCD=embedded.clips(num_clips)[[videos[video_id] for video_id in video_ids]],
        texts_ND=embedded.captions[[row for row, _ in kept]],
        video_of_N=np.array([position[caption.video_id] for _, caption in kept], dtype=np.int64),
        video_ids=video_ids,
        captions=[caption for _, caption in kept],
        missing=missing,
        logit_scale=float(embedded.model["logit_scale"]),
    )


@dataclass(frozen=True)
class PairRows:
    """The captions of whole videos in one split, and the rows of an embeddings folder that they and the videos are."""

    pairs: RetrievalPairs
    texts_T: list[int]
    """As rows of captions.jsonl."""
    videos_V: list[int]
    """As rows of index.jsonl."""


def pair_rows(embedded: Embeddings, captions: Sequence[Caption], pairs: RetrievalPairs) -> PairRows:
    """The rows of pairs; `captions` are all of captions.jsonl, in its order."""
    row_of = {caption.caption_id: row for row, caption in enumerate(captions)}
    texts_T = [row_of[caption.caption_id] for caption in pairs.captions]
    return PairRows(pairs, texts_T, [embedded.row_of[video_id] for video_id in pairs.video_ids])


def split_rows(embedded: Embeddings, captions: Sequence[Caption], split: str) -> PairRows:
    """The rows of a split, for what looks at no clips."""
    return pair_rows(embedded, captions, retrieval_pairs(embedded, captions, split, num_clips=embedded.clip_counts[0]))


def retrieval_protocol(pairs: RetrievalPairs, *, ties: str, truncated: dict[str, int]) -> dict[str, Any]:
    """What a metrics file says of its queries and its gallery.

    Args:
        pairs: of the test split, with `missing` filled.
        ties: the rule.
        truncated: number of cut texts by kind, as the embeddings say.
    """
    return {
        "split": "test",
        "num_queries": len(pairs),
        "gallery_size": len(pairs.video_ids),
        "missing_videos": len({caption.video_id for caption in pairs.missing}),
        "missing_queries": len(pairs.missing),
        "ties": ties,
        "captions": "each caption of a whole video is a query; uncaptioned videos are not in the gallery",
        "truncated_captions": truncated.get("captions", 0),
    }


def rank_rows(
    pairs: RetrievalPairs, ranks: dict[str, list[QueryRanks]], negatives_QK: np.ndarray
) -> list[dict[str, Any]]:
    """The rows of ranks.jsonl: each text with its rank by seed and the videos that it is most mistaken for.

    Args:
        pairs: the queries.
        ranks: for each number of clips, the last one the largest, the ranks of each seed.
        negatives_QK: rows of the gallery, -1 where there are no more.
    """
    by_clips = {clips: np.stack([run.ranks_Q for run in runs], axis=1).tolist() for clips, runs in ranks.items()}
    most_clips = list(by_clips)[-1]
    return [
        {
            "caption_id": caption.caption_id,
            "video_id": caption.video_id,
            "text": caption.text,
            "rank": by_clips[most_clips][row],
            "rank_by_num_clips": {clips: values[row] for clips, values in by_clips.items()},
            "hardest_negatives": [pairs.video_ids[video] for video in negatives_QK[row] if video >= 0],
        }
        for row, caption in enumerate(pairs.captions)
    ]
