"""Scores of all pairs of texts and videos from the cosines of their tokens and frames, a tile at a time.

The cosines of all pairs would take terabytes where a benchmark is large. So they are computed for some texts and
videos at once, made into scores, and dropped; for the gradients they are computed once more. Beside inputs, outputs
and the gradients of the inputs, there is memory for one tile.

Texts are sorted by how many of their tokens count, and so are videos by frames. A tile leaves out what does not
count, and is as large as its longest text and video.

Shapes: N texts of L tokens, M videos of F frames, D embedding dimensions; a tile has n texts of l tokens and m videos
of f frames. In a tile the videos come last, so that all sums run over contiguous vectors of them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.function import once_differentiable

TILE_COSINES = {"cpu": 2**19, "cuda": 2**25}
"""How many cosines of a tile are in memory at once: on a CPU they stay in its cache."""
TILE_FRAMES = 1536
"""How many frames of all its videos a tile has, where videos have fewer: enough for fast matrix products."""


@dataclass(frozen=True)
class Tile:
    """Cosines of the tokens of some texts and the frames of some videos."""

    cosines_nlfm: torch.Tensor
    """Zero where the token or the frame does not count."""
    token_mask_nl: torch.Tensor | None
    """None where all count."""
    frame_mask_fm: torch.Tensor | None
    tau: torch.Tensor
    tokens_nlD: torch.Tensor
    """What the cosines are of; zero where they do not count."""
    frames_mfD: torch.Tensor


@dataclass(frozen=True)
class _Part:
    """Some texts or videos, and which of their tokens or frames count."""

    rows: torch.Tensor
    """(n, 1)"""
    columns: torch.Tensor
    """(n, l), those that count first; all are different."""
    mask: torch.Tensor | None
    """(n, l); None where all count."""

    def take(self, values: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Of values (N, L, …), this part's (n, l, …), zero where they do not count."""
        taken = values[self.rows, self.columns].to(dtype)
        if self.mask is None:
            return taken
        return torch.where(self.mask.view(*self.mask.shape, *[1] * (taken.ndim - 2)), taken, 0.0)


def score_tiles(
    score: Callable[[Tile], torch.Tensor],
    tokens_NLD: torch.Tensor,
    token_mask_NL: torch.Tensor,
    frames_MFD: torch.Tensor,
    frame_mask_MF: torch.Tensor,
    tau: torch.Tensor,
    *,
    tile_cosines: int | None = None,
) -> torch.Tensor:
    """Score every text with every video; embeddings and τ get first derivatives.

    Computed in float64 where an embedding is float64, else in float32, inside autocast too.

    Args:
        score: makes the scores (n, m) of a tile; with gradients enabled, of differentiable operations alone.
        tokens_NLD: unit vectors.
        token_mask_NL: which tokens count; one of every text at least.
        frames_MFD: unit vectors.
        frame_mask_MF: which frames count; one of every video at least.
        tau: a scalar.
        tile_cosines: how many cosines to compute at once; None takes TILE_COSINES. A tile has one pair at least.

    Returns:
        Scores (N, M).
    """
    dtype = torch.promote_types(torch.promote_types(tokens_NLD.dtype, frames_MFD.dtype), torch.float32)
    num_frames = frame_mask_MF.shape[1]
    num_videos = max(1, min(len(frame_mask_MF), TILE_FRAMES // num_frames))
    cosines_a_text = token_mask_NL.shape[1] * num_frames * num_videos
    budget = TILE_COSINES.get(tokens_NLD.device.type, TILE_COSINES["cuda"]) if tile_cosines is None else tile_cosines
    num_videos = max(1, min(num_videos, num_videos * budget // cosines_a_text))
    cosines_a_text = token_mask_NL.shape[1] * num_frames * num_videos
    plan = _Plan(
        score,
        dtype,
        _parts(token_mask_NL, max(1, budget // cosines_a_text)),
        _parts(frame_mask_MF, num_videos),
    )
    return _ScoreTiles.apply(plan, tokens_NLD, frames_MFD, tau)


def _parts(mask_NL: torch.Tensor, size: int) -> list[_Part]:
    counts_N = mask_NL.sum(1)
    columns_NL = (~mask_NL).to(torch.uint8).argsort(dim=1, stable=True)
    parts = []
    for rows_n in counts_N.argsort(stable=True).split(size):
        fewest, most = (int(count) for count in counts_N[rows_n].aminmax())
        columns_nl = columns_NL[rows_n, :most]
        mask_nl = None if fewest == most else mask_NL[rows_n[:, None], columns_nl]
        parts.append(_Part(rows_n[:, None], columns_nl, mask_nl))
    return parts


@dataclass(frozen=True)
class _Plan:
    score: Callable[[Tile], torch.Tensor]
    dtype: torch.dtype
    texts: list[_Part]
    videos: list[_Part]

    def tile(self, texts: _Part, videos: _Part, values: list[torch.Tensor]) -> Tile:
        """The tile of what was taken for two parts: tokens, frames, and τ."""
        tokens_nlD, frames_mfD, tau = values
        cosines = tokens_nlD.flatten(0, 1) @ frames_mfD.transpose(0, 1).flatten(0, 1).T
        return Tile(
            cosines.view(*tokens_nlD.shape[:2], frames_mfD.shape[1], frames_mfD.shape[0]),
            texts.mask,
            None if videos.mask is None else videos.mask.T,
            tau,
            tokens_nlD,
            frames_mfD,
        )


class _ScoreTiles(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, plan: _Plan, *inputs: torch.Tensor) -> torch.Tensor:
        ctx.plan = plan
        ctx.save_for_backward(*inputs)
        tokens, frames, tau = inputs
        scores_NM = torch.empty(len(tokens), len(frames), dtype=plan.dtype, device=tokens.device)
        with torch.autocast(tokens.device.type, enabled=False):
            for videos in plan.videos:
                of_videos = videos.take(frames, plan.dtype)
                for texts in plan.texts:
                    values = [texts.take(tokens, plan.dtype), of_videos, tau.to(plan.dtype)]
                    tile = plan.tile(texts, videos, values)
                    scores_NM[texts.rows, videos.rows.T] = plan.score(tile)
        return scores_NM

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_NM: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        plan, inputs = ctx.plan, ctx.saved_tensors
        needed = ctx.needs_input_grad[1:]
        sums = [torch.zeros_like(x, dtype=plan.dtype) if need else None for x, need in zip(inputs, needed, strict=True)]
        with torch.autocast(grad_NM.device.type, enabled=False), torch.enable_grad():
            for videos in plan.videos:
                for texts in plan.texts:
                    _add_gradients(plan, texts, videos, inputs, sums, grad_NM[texts.rows, videos.rows.T])
        return None, *(None if total is None else total.to(x.dtype) for total, x in zip(sums, inputs, strict=True))


def _add_gradients(
    plan: _Plan,
    texts: _Part,
    videos: _Part,
    inputs: tuple[torch.Tensor, ...],
    sums: list[torch.Tensor | None],
    grad_nm: torch.Tensor,
) -> None:
    """Add the gradients of a tile's scores to those of the inputs."""
    parts = [texts, videos, None]
    values = [
        (x.to(plan.dtype, copy=True) if part is None else part.take(x, plan.dtype)).detach()
        for x, part in zip(inputs, parts, strict=True)
    ]
    wanted = [number for number, total in enumerate(sums) if total is not None]
    leaves = [values[number].requires_grad_() for number in wanted]
    scores_nm = plan.score(plan.tile(texts, videos, values))
    grads = torch.autograd.grad(scores_nm, leaves, grad_nm.to(plan.dtype), allow_unused=True)
    for number, grad in zip(wanted, grads, strict=True):
        total, part = sums[number], parts[number]
        if grad is None or total is None:
            continue
        if part is None:
            total += grad
        else:
            total[part.rows, part.columns] += grad
