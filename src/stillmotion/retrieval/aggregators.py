"""Aggregators: from the embeddings of a video's clips to one embedding of the video.

A kind of aggregator is a class here, made of D, the number of clips and the settings of its params, and an entry of
AGGREGATORS; its params are a class in config/scorers.py.

Source: Lindgren 2023 (papers/video-embeddings.txt), section 3.1.5; sizes that it leaves open are params.

Shapes: B videos, C clips, T tokens (the clips behind the class token), D embedding dimensions, H heads of K dimensions.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from stillmotion.config.scorers import AggregatorParams
from stillmotion.errors import InputError


class Mean(nn.Module):
    """The mean of the clips; it has nothing to train."""

    def __init__(self, dim: int, num_clips: int):
        super().__init__()

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
        block = self.block
        tokens_BCD = clips_BCD + self.positions
        normed_BCD = block.norm1(tokens_BCD)
        tokens_BCD = tokens_BCD + block.self_attn(normed_BCD, normed_BCD, normed_BCD, need_weights=False)[0]
        # The last product is linear: that of the mean is the mean of those of the clips.
        fed_BD = block.linear2(block.activation(block.linear1(block.norm2(tokens_BCD))).mean(1))
        return functional.normalize((clips_BCD + tokens_BCD).mean(1) + fed_BD, dim=-1)


class ClassToken(nn.Module):
    """A learned token before the clips, read out after an encoder block with a residual around it.

    Nothing but the token is read, so nothing but what reaches it is computed. Its query is the same for every video:
    keys are not made, as their product with one query is that of the clips with one vector a head; and values are
    made of each head's weighted mean of the clips.
    """

    def __init__(self, dim: int, num_clips: int, *, heads: int, mlp_ratio: float):
        super().__init__()
        self.positions = nn.Parameter(torch.randn(num_clips + 1, dim) * dim**-0.5 * 0.1)
        self.token = nn.Parameter(torch.randn(dim) * dim**-0.5)
        self.block = _encoder_block(dim, heads, mlp_ratio)

    def forward(self, clips_BCD: torch.Tensor) -> torch.Tensor:
        """Unit vectors (B, C, D) to unit vectors (B, D)."""
        block = self.block
        token_D = self.token + self.positions[0]
        own_D = block.norm1(token_D)
        normed_BTD = torch.cat(
            [own_D.expand(len(clips_BCD), 1, -1), block.norm1(clips_BCD + self.positions[1:])], dim=1
        )
        read_BD = token_D + self._attended(own_D, normed_BTD)
        fed_BD = block.linear2(block.activation(block.linear1(block.norm2(read_BD))))
        return functional.normalize(self.token + read_BD + fed_BD, dim=-1)

    def _attended(self, own_D: torch.Tensor, normed_BTD: torch.Tensor) -> torch.Tensor:
        """What the token own_D, the first of each T, takes from all of them: (B, D)."""
        attention = self.block.self_attn
        heads = attention.num_heads
        queries_DD, keys_DD, values_DD = attention.in_proj_weight.chunk(3)
        query_bias_D, _, value_bias_D = attention.in_proj_bias.chunk(3)  # that of the keys adds the same to all
        query_HK = (queries_DD @ own_D + query_bias_D).unflatten(0, (heads, -1))
        directions_HD = torch.einsum("hk,hkd->hd", query_HK, keys_DD.unflatten(0, (heads, -1)))
        weights_BTH = (normed_BTD @ directions_HD.T * query_HK.shape[1] ** -0.5).softmax(dim=1)
        means_HBD = (weights_BTH.transpose(1, 2) @ normed_BTD).transpose(0, 1)
        values_HBK = means_HBD @ values_DD.unflatten(0, (heads, -1)).transpose(1, 2)
        return attention.out_proj(values_HBK.transpose(0, 1).flatten(1) + value_bias_D)


def _encoder_block(dim: int, heads: int, mlp_ratio: float) -> nn.TransformerEncoderLayer:
    if dim % heads:
        raise InputError(
            f"params.yaml: heads of an aggregator is {heads} and the embeddings have {dim} dimensions; "
            f"set a divisor of {dim}"
        )
    return nn.TransformerEncoderLayer(
        dim, heads, int(dim * mlp_ratio), dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )


AGGREGATORS: Mapping[str, type[nn.Module]] = {
    "mean": Mean,
    "transformer_mean": TransformerMean,
    "class_token": ClassToken,
}
"""By kind."""


def build_aggregator(params: AggregatorParams, *, dim: int, num_clips: int, seed: int) -> nn.Module:
    """The aggregator that `params` names, with initial weights from `seed`.

    Args:
        params: kind and settings.
        dim: D of the embeddings; the heads, where there are some, must divide it.
        num_clips: C; the learned positions are for this many.
        seed: of the initial weights.

    Raises:
        InputError: the heads don't divide D.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AGGREGATORS[params.kind](dim, num_clips, **params.model_dump(exclude={"kind"}))


@torch.no_grad()
def aggregate(aggregator: torch.nn.Module, clips_VCD: np.ndarray) -> np.ndarray:
    """Video embeddings (V, D) of clip embeddings (V, C, D)."""
    device = next((value.device for value in aggregator.parameters()), torch.device("cpu"))
    return aggregator.eval()(torch.from_numpy(np.array(clips_VCD)).to(device)).cpu().numpy()
