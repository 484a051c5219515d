"""Retrieval by the scores that a model was trained by: those of CLIP4Clip's tight transformer, for each pair.

Shapes: T texts, V videos, F frames of the clip that spans a video, D embedding dimensions.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from stillmotion.backbones.clip4clip_heads import score_all
from stillmotion.backbones.registry import load_backbone
from stillmotion.config.scorers import OwnParams
from stillmotion.embedding.reader import Embeddings
from stillmotion.errors import InputError
from stillmotion.io.memo import folder_digest
from stillmotion.metrics.retrieval import TieRule
from stillmotion.retrieval.distinct import distinct
from stillmotion.retrieval.scoring import Queries, Ranked, ScorerInputs, Untrained, rank_scores
from stillmotion.stage import Progress


def tight_scores(
    embedded: Embeddings,
    rows_T: Sequence[int],
    texts_T: Sequence[str],
    videos_V: Sequence[int],
    head: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor],
    *,
    device: torch.device,
) -> np.ndarray:
    """Score each text with each video; equal texts have equal scores, and so have videos of equal frames.

    In memory are the frames of all videos, the texts' own embeddings, one pass of the transformer, and the scores.

    Args:
        embedded: embeddings that were made with embed.tokens.
        rows_T: the texts as rows of captions.jsonl.
        texts_T: what they say.
        videos_V: rows of index.jsonl.
        head: of texts (B, D), frames (B, F, D) and which of them count (B, F), the scores (B,).
        device: computes.

    Returns:
        (T, V) float32.

    Raises:
        InputError: the embeddings hold no frames of clips.
    """
    frames_VFD = embedded.clip_frames[list(videos_V)]
    kept_videos, video_of_V = distinct([frames_FD.tobytes() for frames_FD in frames_VFD])
    kept_texts, text_of_T = distinct(texts_T)
    frames = torch.from_numpy(frames_VFD[kept_videos]).to(device)
    texts = torch.from_numpy(embedded.captions[[rows_T[place] for place in kept_texts]]).to(device)
    mask = torch.ones(frames.shape[:2], dtype=torch.bool, device=device)
    scores = np.empty((len(kept_texts), len(kept_videos)), dtype=np.float32)
    with torch.no_grad(), Progress("scoring texts", len(kept_texts)) as progress:
        for row in range(len(kept_texts)):
            scores[row] = score_all(head, texts[row : row + 1], frames, mask)[0].cpu().numpy()
            progress.advance()
    return scores[np.ix_(text_of_T, video_of_V)]


@dataclass(frozen=True, kw_only=True)
class Own(Untrained):
    """Scores of all pairs by the model's own head, which are in memory: 4 bytes for each."""

    head: torch.nn.Module
    device: torch.device
    inference_tricks: str = "none"
    described: Mapping[str, Any] = field(default_factory=dict)

    def rank(self, queries: Queries, num_clips: int, ties: TieRule) -> list[Ranked]:
        """Rank by the head."""
        pairs = queries.any_clips
        texts_T = [caption.text for caption in pairs.captions]
        scores_TV = tight_scores(
            queries.embedded, queries.text_rows_T, texts_T, queries.video_rows_V, self.head, device=self.device
        )
        return [Ranked(rank_scores(pairs, scores_TV, scores_TV, ties))]


def open_scorer(params: OwnParams, queries: Queries, inputs: ScorerInputs) -> Own:
    """The scorer of embeddings that were made with embed.tokens by a CLIP4Clip with a tight transformer.

    Raises:
        InputError: the model has no scores of its own, or has not made these embeddings.
    """
    backbone = load_backbone(inputs.model, inputs.device)
    if backbone.pair_head is None:
        raise InputError(
            f"{inputs.model}: this model was trained by embeddings and has no scores of its own; score it by another "
            "scorer than own"
        )
    folder = queries.embedded.folder
    if queries.embedded.model["model"] != folder_digest(inputs.model):
        raise InputError(f"{folder}: made by another model than {inputs.model}; run the embed stage again")
    return Own(head=backbone.pair_head, device=inputs.device)
