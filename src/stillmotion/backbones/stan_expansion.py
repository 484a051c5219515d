"""From a CLIP or CoCa of open_clip to a STAN: the model as it is, and a branch that starts from its layers.

The spatial modules and the table of positions start as copies of the tower's own, the temporal modules and the
table of times add nothing: before it is trained, a clip's frames may be shuffled without a change.

Source: Liu et al. 2023 (papers/mug-stan.txt), section III-B; METHODS.md section 6.
"""

import copy
from typing import Any

from open_clip.transformer import LayerNorm, LayerNormFp32, ResidualAttentionBlock, VisionTransformer

from stillmotion.backbones.open_clip_backbone import OpenClipBackbone
from stillmotion.backbones.stan_backbone import StanBackbone
from stillmotion.backbones.stan_settings import StanSettings
from stillmotion.errors import InputError


def _require(condition: bool, reason: str) -> None:
    if not condition:
        raise InputError(f"STAN can't be built around this model: {reason}; expand a CLIP or CoCa of open_clip's ViT")


def check_expandable(backbone: OpenClipBackbone) -> None:
    """Raise InputError where the vision tower has parts that STAN has no place for."""
    _require(not isinstance(backbone, StanBackbone), "it is one")
    visual: Any = backbone.model.visual
    _require(isinstance(visual, VisionTransformer), f"its vision is {type(visual).__name__}")
    for block in visual.transformer.resblocks:
        _require(type(block) is ResidualAttentionBlock, f"its vision blocks are {type(block).__name__}")
        _require(isinstance(block.ln_1, LayerNorm | LayerNormFp32), f"its vision norms are {type(block.ln_1).__name__}")
    poolers = "it has a pooler of its own for the contrastive vector"
    _require(visual.attn_pool is None or visual.attn_pool_contrastive is None, poolers)


def expand_stan(backbone: OpenClipBackbone, settings: StanSettings) -> StanBackbone:
    """Build a STAN around a copy of a model.

    Args:
        backbone: with a vision transformer of open_clip's own blocks, of any size; it stays as it is.
        settings: of the branch.

    Raises:
        InputError: the model has parts that STAN has no place for, or too few layers.
    """
    check_expandable(backbone)
    clip = OpenClipBackbone(copy.deepcopy(backbone.model), backbone.tokenizer, backbone.config)
    return StanBackbone(clip, settings).eval()
