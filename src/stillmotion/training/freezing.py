"""Freezing the lower part of both towers of a CLIP, or the whole of the text tower.

Frozen means: no gradient, no optimizer state, and no backward computation below the lowest trainable layer.

Source: Lindgren 2023, section 3.2.3 (embeddings, then the first n blocks of both encoders); Liu et al. 2023
(papers/mug-stan.txt), section III-D (the text encoder, for recognition).
"""

import torch

from stillmotion.backbones.backbone import Backbone, Layers
from stillmotion.errors import InputError


def freeze(backbone: Backbone, *, embeddings: bool, blocks: int, texts: bool = False) -> list[str]:
    """Freeze a backbone in place.

    Args:
        backbone: of any family.
        embeddings: freeze patch, class, position and token embeddings and the norm that follows them.
        blocks: freeze this many first blocks of both towers too.
        texts: freeze all of the text tower, its final norm and projection included.

    Returns:
        Names of the frozen parameters.

    Raises:
        InputError: a tower has fewer blocks, or its layers are not known.
    """
    frozen = backbone.text_parameters() if texts else []
    if embeddings or blocks:
        frozen += _lower_parameters(backbone.layers(), blocks)
    for parameter in frozen:
        parameter.requires_grad_(False)
    identities = {id(parameter) for parameter in frozen}
    return [name for name, parameter in backbone.named_parameters() if id(parameter) in identities]


def _lower_parameters(layers: Layers, blocks: int) -> list[torch.nn.Parameter]:
    lower = list(layers.embeddings)
    for tower in layers.towers:
        if blocks > len(tower):
            raise InputError(f"params.yaml: frozen_blocks is {blocks} and a tower has {len(tower)} blocks; set fewer")
        lower += [parameter for block in tower[:blocks] for parameter in block]
    return lower
