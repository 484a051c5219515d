"""Scores of stored texts and videos by CLIP4Clip's tight transformer.

Shapes: T texts, V videos, F frames of the clip that spans a video, D embedding dimensions.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from stillmotion.backbones.clip4clip_heads import score_all
from stillmotion.embedding.reader import Embeddings
from stillmotion.retrieval.distinct import distinct
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
