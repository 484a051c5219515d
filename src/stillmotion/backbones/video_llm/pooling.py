"""Hidden states of the tokens of a video or a text as one vector of each layer.

Shapes: K layers, P poolings, T tokens that count, D width.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from stillmotion.config.video_llms import POOLINGS as POOLINGS


@dataclass(frozen=True)
class States:
    """What a language model makes of a video or a text: index 0 as its tokens enter it, index k after block k.

    Behind each block is the model's final norm, so that layers compare, and the last one is
    what the model itself gives.
    """

    layers_LTD: torch.Tensor
    """(L + 1, T, D) at the positions that count: the visual tokens of a video, the caption's tokens of a text."""
    last_LD: torch.Tensor
    """(L + 1, D) at the last attended token of the whole prompt, the generation prompt included."""
    beside: dict[str, torch.Tensor] = field(default_factory=dict)
    """(rows, columns) by name: what the model needs of a video beside its visual tokens to be asked of it later."""


def pool(states: States, poolings: Sequence[str], layers: Sequence[int] | None = None) -> torch.Tensor:
    """One vector of each layer by each pooling.

    Args:
        states: of a video or a text; where no token counts, the last attended one stands for them.
        poolings: of `POOLINGS`.
        layers: indices; all without them.

    Returns:
        (K, P, D) float32, of their own length. States 1, 2, 6 of one layer and last token 9: first 1, max 6, mean 3,
        sum 9, last_token 9.
    """
    places = list(range(len(states.last_LD)) if layers is None else layers)
    last_KD = states.last_LD[places].float()
    tokens_KTD = states.layers_LTD[places].float() if states.layers_LTD.shape[1] else last_KD[:, None]
    pooled = {
        "first": lambda: tokens_KTD[:, 0],
        "max": lambda: tokens_KTD.amax(1),
        "mean": lambda: tokens_KTD.mean(1),
        "sum": lambda: tokens_KTD.sum(1),
        "last_token": lambda: last_KD,
    }
    return torch.stack([pooled[name]() for name in poolings], dim=1)
