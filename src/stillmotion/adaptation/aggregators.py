"""Aggregators: from the embeddings of a video's clips to one embedding of the video.

Source: Lindgren 2023 (papers/video-embeddings.txt), section 3.1.5; sizes that it leaves open are params.

Shapes: B videos, C clips, D embedding dimensions.
"""

import torch
from torch import nn
from torch.nn import functional

from stillmotion.errors import InputError
from stillmotion.params.training import AggregatorParams


class Mean(nn.Module):
    """The mean of the clips; it has nothing to train."""

    def forward(self, clips_BCD: torch.Tensor) -> torch.Tensor:
        """Unit vectors (B, C, D) to unit vectors (B, D)."""
        return functional.normalize(clips_BCD.mean(1), dim=-1)


class TransformerMean(nn.Module):
    """An encoder block over the clips with learned positions and a residual around it, then the mean."""

    def __init__(self, dim: int, num_clips: int, *, heads: int, mlp_ratio: float):
        super().__init__()
        self.positions = nn.Parameter(torch.randn(num_clips, dim) * dim**-0.5 * 0.1)
        self.block = _encoder_block(dim, heads, mlp_ratio)

    def forward(self, clips_BCD: torch.Tensor) -> torch.Tensor:
        """Unit vectors (B, C, D) to unit vectors (B, D)."""
        return functional.normalize((clips_BCD + self.block(clips_BCD + self.positions)).mean(1), dim=-1)


class ClassToken(nn.Module):
    """A learned token before the clips, read out after an encoder block with a residual around it."""

    def __init__(self, dim: int, num_clips: int, *, heads: int, mlp_ratio: float):
        super().__init__()
        self.positions = nn.Parameter(torch.randn(num_clips + 1, dim) * dim**-0.5 * 0.1)
        self.token = nn.Parameter(torch.randn(dim) * dim**-0.5)
        self.block = _encoder_block(dim, heads, mlp_ratio)

    def forward(self, clips_BCD: torch.Tensor) -> torch.Tensor:
        """Unit vectors (B, C, D) to unit vectors (B, D)."""
        tokens = torch.cat([self.token.expand(len(clips_BCD), 1, -1), clips_BCD], dim=1)
        return functional.normalize((tokens + self.block(tokens + self.positions))[:, 0], dim=-1)


def _encoder_block(dim: int, heads: int, mlp_ratio: float) -> nn.Module:
    return nn.TransformerEncoderLayer(
        dim, heads, int(dim * mlp_ratio), dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )


def build_aggregator(params: AggregatorParams, *, dim: int, num_clips: int, seed: int) -> nn.Module:
    """The aggregator that `params` names, with initial weights from `seed`.

    Args:
        params: kind and sizes.
        dim: D of the embeddings; params.heads must divide it.
        num_clips: C; the learned positions are for this many.
        seed: of the initial weights.

    Raises:
        InputError: the heads don't divide D.
    """
    if params.kind == "mean":
        return Mean()
    if dim % params.heads:
        raise InputError(
            f"params.yaml: heads of an aggregator is {params.heads} and the embeddings have {dim} dimensions; "
            f"set a divisor of {dim}"
        )
    kinds = {"transformer_mean": TransformerMean, "class_token": ClassToken}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kinds[params.kind](dim, num_clips, heads=params.heads, mlp_ratio=params.mlp_ratio)
