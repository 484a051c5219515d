"""Mug: similarity of texts and videos by mutual guidance of their tokens and frames.

Of a text and a video, S holds the cosines of tokens and frames. Each token looks at the frames it fits, and each frame
at the tokens: p is the softmax of τS over frames, q that over tokens; s_t = Σ_v p S and s_v = Σ_t q S say how well a
token and a frame find themselves on the other side; a = softmax(τ s_t) and b = softmax(τ s_v) weigh them. The source
compares the text embedding Σ_t a t with the video embedding Σ_v b v, which is aᵀ S b: exact, without ever making an
embedding for each pair.

Source: Liu et al. 2023 (papers/mug-stan.txt), section III-C and table VIII; METHODS.md section 6.

Shapes: N texts of L tokens, M videos of F frames, D embedding dimensions.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from stillmotion.backbones.frame_pooling import pool_frames
from stillmotion.errors import InputError
from stillmotion.retrieval.mug_interactions import (
    attention,
    guide,
    score_hard_top_k,
    score_mutual,
    score_mutual_cosine,
    score_simple,
    score_ti,
)
from stillmotion.retrieval.mug_tiling import Tile, score_tiles

INTERACTIONS = ("mutual", "mutual_cosine", "simple", "frame_text", "video_token", "hard_top_k", "ti", "mean_pooling")
"""`mutual` is Mug, exact, and `simple` the form of the source's code. `mutual_cosine` is ours: the cosine of the guided
embeddings, where the source takes their product. The others are the arms of its table VIII.

`frame_text` has the text's one embedding for its tokens (guided frames, unguided text), `video_token` the mean of the
frames for the frames (guided tokens, unguided video): Mug with one token, or one frame. The source says that one
embedding is substituted; whether tokens still guide the frames then is open, and its code takes the text's alone, as
we do. `hard_top_k` selects where Mug weighs. `ti` is token-wise interaction with all tokens and frames alike; the
table's WTI has weights of its own for either side, which are trained with the model: ours has none. `mean_pooling` is
the cosine of the text's embedding and the mean of the frames.
"""


@dataclass(frozen=True)
class Texts:
    """Unit vectors of texts."""

    tokens_NLD: torch.Tensor
    mask_NL: torch.Tensor
    """True where a token counts: the attention mask, never a comparison of token ids with zero."""
    sentences_ND: torch.Tensor
    """The texts' own embeddings, for `frame_text` and `mean_pooling`."""


@dataclass(frozen=True)
class Videos:
    """Unit vectors of videos' frames."""

    frames_MFD: torch.Tensor
    mask_MF: torch.Tensor
    """True where a frame counts."""


@dataclass(frozen=True)
class Guidance:
    """What a text and a video make of each other, in the order of their tokens and frames; 0 where one is masked."""

    cosines_LF: torch.Tensor
    """S."""
    frames_of_token_LF: torch.Tensor
    """p, equation 15: each row sums to 1."""
    tokens_of_frame_LF: torch.Tensor
    """q, equation 11: each column sums to 1."""
    token_weights_L: torch.Tensor
    """a, equation 17."""
    frame_weights_F: torch.Tensor
    """b, equation 13."""
    score: torch.Tensor
    """aᵀ S b."""


def score_pairs(
    texts: Texts,
    videos: Videos,
    *,
    interaction: str = "mutual",
    tau: torch.Tensor | float,
    top_k: int = 1,
    tile_cosines: int | None = None,
) -> torch.Tensor:
    """Score every text with every video, in memory for one tile of pairs; it has first derivatives in all tensors.

    Args:
        texts: unit vectors.
        videos: unit vectors.
        interaction: one of INTERACTIONS.
        tau: sharpness τ of the softmaxes, 100 in the source; not the temperature of a loss.
        top_k: for `hard_top_k`.
        tile_cosines: how many cosines to hold at once; None suits the device.

    Returns:
        Cosine-like scores (N, M): float64 for float64, else float32. Equal texts or videos in different tiles may
        differ in the last digit.

    Raises:
        InputError: no token of a text counts, or no frame of a video, or `top_k` is below 1.
        ValueError: no such interaction, or shapes that do not fit.
    """
    _check(texts, videos)
    if interaction == "mean_pooling":
        return texts.sentences_ND @ pool_frames(videos.frames_MFD, videos.mask_MF).T
    tokens, token_mask, frames, frame_mask = texts.tokens_NLD, texts.mask_NL, videos.frames_MFD, videos.mask_MF
    if interaction == "frame_text":
        tokens, token_mask = texts.sentences_ND[:, None], token_mask.new_ones(len(token_mask), 1)
    if interaction == "video_token":
        frames, frame_mask = pool_frames(frames, frame_mask)[:, None], frame_mask.new_ones(len(frame_mask), 1)
    return score_tiles(
        _tile_score(interaction, top_k),
        tokens,
        token_mask,
        frames,
        frame_mask,
        _scalar(tau, tokens.device),
        tile_cosines=tile_cosines,
    )


def guide_pairs(
    texts: Texts, videos: Videos, pairs: Sequence[tuple[int, int]], *, tau: torch.Tensor | float
) -> list[Guidance]:
    """The weights that Mug gives to tokens and frames of some pairs (row of the text, row of the video), for figures.

    Raises:
        InputError: no token of a text counts, or no frame of a video.
    """
    _check(texts, videos)
    tau = _scalar(tau, texts.tokens_NLD.device)
    return [_guide_pair(texts, videos, text, video, tau) for text, video in pairs]


def _guide_pair(texts: Texts, videos: Videos, text: int, video: int, tau: torch.Tensor) -> Guidance:
    token_mask_L, frame_mask_F = texts.mask_NL[text], videos.mask_MF[video]
    counts_LF = token_mask_L[:, None] & frame_mask_F
    tokens_LD, frames_FD = texts.tokens_NLD[text], videos.frames_MFD[video]
    dtype = torch.promote_types(torch.promote_types(tokens_LD.dtype, frames_FD.dtype), torch.float32)
    tokens_LD = torch.where(token_mask_L[:, None], tokens_LD.to(dtype), 0.0)
    frames_FD = torch.where(frame_mask_F[:, None], frames_FD.to(dtype), 0.0)
    cosines_LF = tokens_LD @ frames_FD.T
    tile = Tile(
        cosines_LF[None, :, :, None],
        token_mask_L[None],
        frame_mask_F[:, None],
        tau.to(cosines_LF),
        tokens_LD[None],
        frames_FD[None],
    )
    over_frames, over_tokens = (torch.where(counts_LF, of_pair[0, :, :, 0], 0.0) for of_pair in attention(tile))
    guides = guide(tile)
    return Guidance(
        cosines_LF,
        over_frames,
        over_tokens,
        guides.token_weights_nlm[0, :, 0],
        guides.frame_weights_nfm[0, :, 0],
        score_mutual(tile)[0, 0],
    )


def _tile_score(interaction: str, top_k: int) -> Callable[[Tile], torch.Tensor]:
    if top_k < 1:
        raise InputError(f"top_k of Mug's hard selection is {top_k}; set 1 or more")
    scores: dict[str, Callable[[Tile], torch.Tensor]] = {
        "mutual": score_mutual,
        "mutual_cosine": score_mutual_cosine,
        "simple": score_simple,
        "frame_text": score_mutual,
        "video_token": score_mutual,
        "hard_top_k": partial(score_hard_top_k, top_k=top_k),
        "ti": score_ti,
    }
    if interaction not in scores:
        raise ValueError(f"no interaction is named {interaction!r}; take one of {', '.join(INTERACTIONS)}")
    return scores[interaction]


def _scalar(tau: torch.Tensor | float, device: torch.device) -> torch.Tensor:
    return tau.to(device) if isinstance(tau, torch.Tensor) else torch.tensor(tau, dtype=torch.float64, device=device)


def _check(texts: Texts, videos: Videos) -> None:
    for noun, part, embeddings, mask in (
        ("text", "token", texts.tokens_NLD, texts.mask_NL),
        ("video", "frame", videos.frames_MFD, videos.mask_MF),
    ):
        if mask.dtype != torch.bool or embeddings.shape[:2] != mask.shape:
            raise ValueError(
                f"the mask of {part}s is {mask.dtype} of shape {tuple(mask.shape)} for embeddings of shape "
                f"{tuple(embeddings.shape)}; give one bool for each {part}"
            )
        empty = (~mask.any(1)).nonzero()
        if len(empty):
            raise InputError(f"{noun} {int(empty[0])} (counted from 0) has no {part} that counts; leave the {noun} out")
