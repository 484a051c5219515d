"""From the embeddings of a video's frames to one: the mean pooling that other ways of fusing frames are held to.

Shapes: B videos, F frames, D embedding dimensions.
"""

import torch
from torch.nn import functional


def pool_frames(frames_BFD: torch.Tensor, mask_BF: torch.Tensor) -> torch.Tensor:
    """The unit vector (B, D) along the mean of each video's frames that count, of whatever length they are.

    Source: Luo et al. 2021, "CLIP4Clip", section 3.3, parameter-free type.
    """
    counted_BFD = torch.where(mask_BF[..., None], frames_BFD, 0.0)
    return functional.normalize(counted_BFD.sum(1) / mask_BF.sum(1, keepdim=True), dim=-1)
