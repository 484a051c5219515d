"""Scores of stored texts and videos by an alignment of their tokens and frames.

Shapes: T texts, V videos, N texts of a pass, F frames of the clip that spans a video, L tokens, D embedding dimensions.
"""

from collections.abc import Sequence

import numpy as np
import torch

from stillmotion.config.training import AlignmentParams
from stillmotion.embedding.reader import Embeddings
from stillmotion.retrieval.distinct import distinct
from stillmotion.retrieval.mug import Texts, Videos, score_pairs

TEXTS_A_PASS = 256


def alignment_scores(
    embedded: Embeddings,
    rows_T: Sequence[int],
    texts_T: Sequence[str],
    videos_V: Sequence[int],
    params: AlignmentParams,
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
