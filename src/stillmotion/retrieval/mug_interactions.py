"""What a tile of cosines between tokens and frames is worth: Mug, its variants, and the interaction it is held to.

Source: Liu et al. 2023 (papers/mug-stan.txt), equations 11 to 18 and table VIII; METHODS.md section 6.

Shapes: n texts of l tokens, m videos of f frames.
"""

from dataclasses import dataclass

import torch

from stillmotion.backbones.compute import square_root
from stillmotion.retrieval.mug_tiling import Tile

HEADROOM = 64.0
"""Exponents are shifted so that the largest is this one: most of float32's range is left for those below."""
EXCLUDED = -1e4
"""An exponent so low that its exponential is zero in float64 too."""


@dataclass(frozen=True)
class Guides:
    """How well tokens and frames of each pair agree with the other side, and the weights that they get for it."""

    token_scores_nlm: torch.Tensor
    """s_t: the cosines of a token, averaged over the frames with weights p."""
    frame_scores_nfm: torch.Tensor
    """s_v: the cosines of a frame, averaged over the tokens with weights q."""
    token_weights_nlm: torch.Tensor
    """a, which sum to 1 over the tokens."""
    frame_weights_nfm: torch.Tensor
    """b, which sum to 1 over the frames."""


def score_mutual(tile: Tile) -> torch.Tensor:
    """Mug: aᵀ S b, (n, m); the product of the guided embeddings of equations 14 and 18 to the last digit."""
    return _product(tile, guide(tile))


def score_mutual_cosine(tile: Tile) -> torch.Tensor:
    """The cosine of the guided embeddings, (n, m): Mug over the lengths of both.

    The source leaves this normalization out, as tokens and frames are unit vectors. But what mixes unlike ones is
    short, so that the product prefers pairs that agree in one token and one frame to those that agree in several.
    """
    guides = guide(tile)
    lengths_nm = _guided_length(tile.tokens_nlD, guides.token_weights_nlm)
    lengths_mn = _guided_length(tile.frames_mfD, guides.frame_weights_nfm.transpose(0, 2))
    return _product(tile, guides) / (lengths_nm * lengths_mn.T)


def _guided_length(embeddings_nlD: torch.Tensor, weights_nlm: torch.Tensor) -> torch.Tensor:
    """The length of each weighted sum of embeddings, (n, m), from their products with one another.

    Its square is rounded by some eps, and held to √eps: a length below 0.0186 in float32 (0.00012 in float64) counts as
    that, so that a score is as many times below the cosine. Where unit vectors nearly cancel, in few dimensions, that
    has been 0.74; in 512 it is 1e-6.
    """
    products_nll = embeddings_nlD @ embeddings_nlD.mT
    squares_nm = (weights_nlm * (products_nll @ weights_nlm)).sum(1)
    return square_root(squares_nm.clamp_min(torch.finfo(squares_nm.dtype).eps ** 0.5))


def score_simple(tile: Tile) -> torch.Tensor:
    """The form that the source's code calls simple: (Σ a s_t + Σ b s_v) / 2, (n, m)."""
    guides = guide(tile)
    from_tokens_nm = (guides.token_weights_nlm * guides.token_scores_nlm).sum(1)
    return (from_tokens_nm + (guides.frame_weights_nfm * guides.frame_scores_nfm).sum(1)) / 2


def score_hard_top_k(tile: Tile, top_k: int) -> torch.Tensor:
    """Mug with each softmax replaced by equal weights for the `top_k` largest (all, where there are fewer), (n, m).

    Which of several equal values are among the largest is not defined. Source: table VIII; that all four softmaxes
    share one k is our reading.
    """
    cosines, token_mask, frame_mask = tile.cosines_nlfm, _over_tokens(tile), tile.frame_mask_fm
    over_frames = _top_k_weights(cosines, frame_mask, 2, top_k)
    over_tokens = _top_k_weights(cosines, None if token_mask is None else token_mask[..., None], 1, top_k)
    token_scores, frame_scores = (over_frames * cosines).sum(2), (over_tokens * cosines).sum(1)
    token_weights = _top_k_weights(token_scores, token_mask, 1, top_k)
    frame_weights = _top_k_weights(frame_scores, frame_mask, 1, top_k)
    return _product(tile, Guides(token_scores, frame_scores, token_weights, frame_weights))


def score_ti(tile: Tile) -> torch.Tensor:
    """Token-wise interaction, unweighted: (the mean over t of max_v S + the mean over v of max_t S) / 2, (n, m).

    Source: Wang et al. 2022, "Disentangled Representation Learning for Text-Video Retrieval", section 3.2.
    """
    token_mask = _over_tokens(tile)
    best_frames_nlm = _excluding(tile.cosines_nlfm, tile.frame_mask_fm).amax(2)
    best_tokens_nfm = _excluding(tile.cosines_nlfm, None if token_mask is None else token_mask[..., None]).amax(1)
    return (_mean(best_frames_nlm, token_mask) + _mean(best_tokens_nfm, tile.frame_mask_fm)) / 2


def _mean(values_nlm: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Over the second axis."""
    return values_nlm.mean(1) if mask is None else torch.where(mask, values_nlm, 0.0).sum(1) / mask.sum(-2)


def guide(tile: Tile) -> Guides:
    """Both sides' guidance with softmaxes: in few passes where no gradient is asked for and the exponents allow it."""
    if not torch.is_grad_enabled():
        guides = _guide_in_few_passes(tile)
        if guides is not None:
            return guides
    over_frames_nlfm, over_tokens_nlfm = attention(tile)
    token_scores_nlm = (over_frames_nlfm * tile.cosines_nlfm).sum(2)
    frame_scores_nfm = (over_tokens_nlfm * tile.cosines_nlfm).sum(1)
    return _weigh(tile, token_scores_nlm, frame_scores_nfm)


def attention(tile: Tile) -> tuple[torch.Tensor, torch.Tensor]:
    """Both softmaxes of the cosines, (n, l, f, m): p over frames (equation 15) and q over tokens (equation 11)."""
    exponents = tile.tau * tile.cosines_nlfm
    token_mask = _over_tokens(tile)
    over_frames_nlfm = _excluding(exponents, tile.frame_mask_fm).softmax(2)
    return over_frames_nlfm, _excluding(exponents, None if token_mask is None else token_mask[..., None]).softmax(1)


def _guide_in_few_passes(tile: Tile) -> Guides | None:
    """The guidance from one exponential for both softmaxes; None where a sum has left the range of the numbers.

    Both softmaxes have the same exponents τS, up to a shift of each row that cancels. Instead of each row's maximum,
    that of the tile is subtracted from all. With τ = 100, a row is in float32's range if its maximum is no further than
    1.35 below; what the row loses by underflow is below its rounding.
    """
    shift = HEADROOM - tile.tau * tile.cosines_nlfm.amax()
    if tile.token_mask_nl is not None:
        shift = torch.where(tile.token_mask_nl, shift, EXCLUDED)[..., None, None]
    exponentials = torch.addcmul(shift, tile.cosines_nlfm, tile.tau)
    if tile.frame_mask_fm is not None:
        exponentials += torch.where(tile.frame_mask_fm, 0.0, EXCLUDED)
    exponentials.exp_()
    sums_nlm = _counting(exponentials.sum(2), _over_tokens(tile))
    sums_nfm = _counting(exponentials.sum(1), tile.frame_mask_fm)
    if not (_in_range(sums_nlm) and _in_range(sums_nfm)):
        return None
    exponentials *= tile.cosines_nlfm
    return _weigh(tile, exponentials.sum(2) / sums_nlm, exponentials.sum(1) / sums_nfm)


def _counting(sums: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """The sums, and 1 for what does not count: it is divided by."""
    return sums if mask is None else torch.where(mask, sums, 1.0)


def _in_range(sums: torch.Tensor) -> bool:
    smallest, largest = sums.aminmax()
    limits = torch.finfo(sums.dtype)
    return bool((smallest > limits.tiny / limits.eps) & (largest < limits.max * limits.eps))


def _weigh(tile: Tile, token_scores_nlm: torch.Tensor, frame_scores_nfm: torch.Tensor) -> Guides:
    """The weights a (equation 17) and b (13) for the scores."""
    return Guides(
        token_scores_nlm,
        frame_scores_nfm,
        _excluding(tile.tau * token_scores_nlm, _over_tokens(tile)).softmax(1),
        _excluding(tile.tau * frame_scores_nfm, tile.frame_mask_fm).softmax(1),
    )


def _product(tile: Tile, guides: Guides) -> torch.Tensor:
    token_weighted_nfm = (guides.token_weights_nlm[:, :, None] * tile.cosines_nlfm).sum(1)
    return (token_weighted_nfm * guides.frame_weights_nfm).sum(1)


def _top_k_weights(values: torch.Tensor, mask: torch.Tensor | None, dim: int, top_k: int) -> torch.Tensor:
    best = _excluding(values.detach(), mask).topk(min(top_k, values.shape[dim]), dim).indices
    chosen = torch.zeros_like(values).scatter(dim, best, 1.0)
    if mask is not None:
        chosen = chosen * mask
    return chosen / chosen.sum(dim, keepdim=True)


def _over_tokens(tile: Tile) -> torch.Tensor | None:
    """The mask of the tokens, (n, l, 1)."""
    return None if tile.token_mask_nl is None else tile.token_mask_nl[..., None]


def _excluding(values: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    return values if mask is None else values.masked_fill(~mask, -torch.inf)
