"""What the last layer of a STAN's branch looks at in the frames of a clip.

Source: Liu et al. 2023 (papers/mug-stan.txt), figure 9, which shows the intra-frame module by a class activation map
(VideoCAM) without saying of what. Here it is the attention itself: that of the class token, which the branch hands on.

Shapes: B clips, F frames of a clip, P patches of a frame, G by G of them in a square image, S tokens that attend to
one another, W width, N = B · F sequences of 1 + P tokens, or with joint attention B of 1 + F · P.
"""

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from stillmotion.backbones.stan_backbone import StanBackbone


@torch.inference_mode()
def patch_attention(backbone: "StanBackbone", pixels: torch.Tensor) -> torch.Tensor:
    """How the attention of the class token to the patches of a frame is shared out among them.

    The weights are those of the branch's last spatial module, the mean over its heads; of a branch with joint attention
    those of its last layer, where the class token sees the patches of all frames at once. What the class token leaves
    to itself (and, where it is joint, to other frames) is left out: the weights of a frame are divided by their sum.

    Args:
        backbone: in evaluation mode, so that all patches are kept.
        pixels: (B, F, 3, h, w), as `Backbone.pixels` makes them.

    Returns:
        (B, F, G, G) float32, rows of patches from the top; each frame's sum to 1.

    Raises:
        InputError: F is more than the model's time table holds.
    """
    layer = backbone.branch.layers[-1]
    joint, within = layer.temporal, layer.spatial
    norm, attn = (joint.norm, joint.attn) if layer.is_joint else (within.ln_1, within.attn)
    seen: list[torch.Tensor] = []
    handle = norm.register_forward_hook(lambda _module, _given, normed: seen.append(normed))
    try:
        backbone.frame_embeddings(pixels)
    finally:
        handle.remove()
    (tokens_NSW,) = seen
    _, weights_N1S = attn(tokens_NSW[:, :1], tokens_NSW, tokens_NSW, need_weights=True)
    weights_BFP = weights_N1S[:, 0, 1:].float().reshape(*pixels.shape[:2], -1)
    weights_BFP = weights_BFP / weights_BFP.sum(-1, keepdim=True)
    return weights_BFP.unflatten(-1, backbone.model.visual.grid_size)
