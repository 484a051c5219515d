"""Retrieval by how the tokens of a text and the frames of a video fit one another: Mug, its ablation's arms, cosines.

Shapes: T texts, V videos, N texts of a pass, F frames of the clip that spans a video, L tokens, D embedding dimensions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from stillmotion.config.scorers import InteractionParams
from stillmotion.embedding.reader import Embeddings
from stillmotion.metrics.dual_softmax import dual_softmax
from stillmotion.metrics.frame_cosine import mean_frame_cosine
from stillmotion.metrics.retrieval import TieRule
from stillmotion.retrieval.distinct import distinct
from stillmotion.retrieval.mug import Texts, Videos, score_pairs
from stillmotion.retrieval.scoring import Queries, Ranked, ScorerInputs, Untrained, rank_scores

TEXTS_A_PASS = 256


def interaction_scores(
    embedded: Embeddings,
    rows_T: Sequence[int],
    texts_T: Sequence[str],
    videos_V: Sequence[int],
    params: InteractionParams,
    *,
    device: torch.device,
    texts_a_pass: int = TEXTS_A_PASS,
) -> np.ndarray:
    """Score each text with each video; equal texts have equal scores, and so have videos of equal frames.

    In memory are the frames of all videos, the tokens of some texts, a tile of their cosines, and the scores.

    Args:
        embedded: embeddings with frames and tokens.
        rows_T: the texts as rows of captions.jsonl.
        texts_T: what they say.
        videos_V: rows of index.jsonl.
        params: how a pair is scored; its dual softmax, which needs all pairs, is left to the caller.
        device: computes.
        texts_a_pass: how many texts are scored at once.

    Returns:
        (T, V) float32.

    Raises:
        InputError: the embeddings hold no frames and tokens.
    """
    frames_VFD = embedded.clip_frames[list(videos_V)]
    # Equal ones in different tiles could differ in the last digit: a score is made once for all that are equal.
    kept_videos, video_of_V = distinct([frames_FD.tobytes() for frames_FD in frames_VFD])
    kept_texts, text_of_T = distinct(texts_T)
    frames = torch.from_numpy(frames_VFD[kept_videos]).to(device)
    videos = Videos(frames, torch.ones(frames.shape[:2], dtype=torch.bool, device=device))
    scores = np.empty((len(kept_texts), len(kept_videos)), dtype=np.float32)
    with torch.no_grad():
        for first in range(0, len(kept_texts), texts_a_pass):
            rows_N = [rows_T[place] for place in kept_texts[first : first + texts_a_pass]]
            found = score_pairs(
                stored_texts(embedded, rows_N, device),
                videos,
                interaction=params.interaction,
                tau=params.tau,
                top_k=params.top_k,
            )
            scores[first : first + len(rows_N)] = found.cpu().numpy()
    return scores[np.ix_(text_of_T, video_of_V)]


def stored_texts(embedded: Embeddings, rows_N: Sequence[int], device: torch.device) -> Texts:
    """Captions by their rows in captions.jsonl, padded to the longest of them.

    Raises:
        InputError: the embeddings hold no tokens.
    """
    offsets = embedded.caption_token_offsets
    parts = [torch.from_numpy(np.array(embedded.caption_tokens[offsets[row] : offsets[row + 1]])) for row in rows_N]
    counts_N = torch.tensor([len(part) for part in parts])
    tokens_NLD = torch.nn.utils.rnn.pad_sequence(parts, batch_first=True)
    mask_NL = torch.arange(tokens_NLD.shape[1]) < counts_N[:, None]
    sentences_ND = torch.from_numpy(np.array(embedded.captions[list(rows_N)]))
    return Texts(tokens_NLD.to(device), mask_NL.to(device), sentences_ND.to(device))


@dataclass(frozen=True, kw_only=True)
class Interaction(Untrained):
    """Scores of all pairs, which are in memory: 4 bytes for each, and with dual softmax 16 more."""

    params: InteractionParams
    device: torch.device

    @property
    def inference_tricks(self) -> str:
        trick = f"dual softmax over all test queries of each direction, temperature 1/{self.params.tau:g}"
        return trick if self.params.dual_softmax else "none"

    @property
    def described(self) -> Mapping[str, Any]:
        return {"scorer": self.params.model_dump()}

    def rank(self, queries: Queries, num_clips: int, ties: TieRule) -> list[Ranked]:
        """Rank by the interaction; and say how alike the frames of a video are, as no text can choose among equals."""
        pairs, embedded = queries.any_clips, queries.embedded
        texts_T = [caption.text for caption in pairs.captions]
        rows_V = queries.video_rows_V
        scores_TV = interaction_scores(embedded, queries.text_rows_T, texts_T, rows_V, self.params, device=self.device)
        t2v_TV, v2t_TV = scores_TV, scores_TV
        if self.params.dual_softmax:
            tau = self.params.tau
            t2v_TV, v2t_TV = dual_softmax(scores_TV, tau=tau), dual_softmax(scores_TV.T, tau=tau).T
        measured = {"mean_frame_cosine": mean_frame_cosine(embedded.clip_frames[rows_V])}
        return [Ranked(rank_scores(pairs, t2v_TV, v2t_TV, ties), measured)]


def open_scorer(params: InteractionParams, queries: Queries, inputs: ScorerInputs) -> Interaction:
    """The scorer of embeddings that were made with embed.tokens."""
    return Interaction(params=params, device=inputs.device)
