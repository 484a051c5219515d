"""Patch dropout: training on a random part of each frame's patches.

Source: Lindgren 2023, section 3.2.3, after Liu et al. 2023 (PatchDropout); METHODS.md section 4 decides the
place (after positions are added, before the first norm), the count and the two samplings.

Shapes: N = B · F frames of B clips, P patches, W width.
"""

from typing import Literal

import numpy as np
import torch

Sampling = Literal["tubelet", "per_frame"]


def kept_patches(
    num_clips: int,
    num_frames: int,
    num_patches: int,
    *,
    keep_rate: float,
    sampling: Sampling,
    generator: torch.Generator,
) -> torch.Tensor:
    """Indices of the patches to keep, sorted.

    Returns:
        (num_clips · num_frames, max(1, int(keep_rate · num_patches))) int64; with `tubelet` the frames of a
        clip share theirs.

    Example:
        16 patches at a keep rate of 0.5: each row holds 8 different indices below 16, in rising order.
    """
    num_kept = max(1, int(keep_rate * num_patches))
    rows = num_clips if sampling == "tubelet" else num_clips * num_frames
    noise = torch.rand(rows, num_patches, generator=generator)
    kept = noise.argsort(dim=1)[:, :num_kept].sort(dim=1).values
    return kept.repeat_interleave(num_frames, dim=0) if sampling == "tubelet" else kept


class PatchDropout(torch.nn.Module):
    """Takes the place of open_clip's own module in a vision tower; the class token always stays.

    Call `draw` before each training step; without a draw, or in eval mode, nothing is dropped.
    """

    def __init__(self, keep_rate: float, sampling: Sampling):
        super().__init__()
        self.keep_rate = keep_rate
        self.sampling = sampling
        self._frames = 1
        self._generator: torch.Generator | None = None

    def draw(self, seed: list[int], num_frames: int) -> None:
        """Choose the patches of the next forward passes: from `seed`, for clips of `num_frames`."""
        state = np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]
        self._generator = torch.Generator().manual_seed(int(state >> 1))
        self._frames = num_frames

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Tokens (N, 1 + P, W), class token first, to (N, 1 + kept, W)."""
        if not self.training or self.keep_rate == 1.0 or self._generator is None:
            return tokens
        kept = kept_patches(
            tokens.shape[0] // self._frames,
            self._frames,
            tokens.shape[1] - 1,
            keep_rate=self.keep_rate,
            sampling=self.sampling,
            generator=self._generator,
        ).to(tokens.device)
        patches = tokens[:, 1:].gather(1, kept[..., None].expand(-1, -1, tokens.shape[2]))
        return torch.cat([tokens[:, :1], patches], dim=1)
