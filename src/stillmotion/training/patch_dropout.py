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
    first_clip: int = 0,
) -> torch.Tensor:
    """Indices of the patches to keep, sorted.

    Args:
        num_clips: B.
        num_frames: F of each clip.
        num_patches: P of each frame.
        keep_rate: share of the patches to keep, rounded down.
        sampling: whether the frames of a clip share their patches or each has its own.
        generator: at the state where the patches of a batch begin.
        first_clip: the clips are those of the batch from this one on, and keep what they keep in the whole batch.

    Returns:
        (num_clips · num_frames, max(1, int(keep_rate · num_patches))) int64; with `tubelet` the frames of a
        clip share theirs.

    Example:
        16 patches at a keep rate of 0.5: each row holds 8 different indices below 16, in rising order.
    """
    num_kept = max(1, int(keep_rate * num_patches))
    rows_a_clip = 1 if sampling == "tubelet" else num_frames
    rows = (first_clip + num_clips) * rows_a_clip
    noise = torch.rand(rows, num_patches, generator=generator)[first_clip * rows_a_clip :]
    kept = noise.argsort(dim=1)[:, :num_kept].sort(dim=1).values
    return kept.repeat_interleave(num_frames, dim=0) if sampling == "tubelet" else kept


class PatchDropout(torch.nn.Module):
    """Takes the place of open_clip's own module in a vision tower; the class token always stays.

    Call `draw` before each forward pass in training; without a draw, or in eval mode, nothing is dropped.
    """

    def __init__(self, keep_rate: float, sampling: Sampling):
        super().__init__()
        self.keep_rate = keep_rate
        self.sampling = sampling
        self._seed: int | None = None
        self._frames = 1
        self._first_clip = 0

    def draw(self, seed: list[int], num_frames: int, *, first_clip: int = 0) -> None:
        """Choose the patches of the next forward passes, a function of these arguments alone.

        Args:
            seed: of the whole batch.
            num_frames: F of each clip.
            first_clip: the place in the batch of the first clip that passes.
        """
        state = np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]
        self._seed = int(state >> 1)
        self._frames = num_frames
        self._first_clip = first_clip

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Tokens (N, 1 + P, W), class token first, to (N, 1 + kept, W)."""
        if not self.training or self.keep_rate == 1.0 or self._seed is None:
            return tokens
        kept = kept_patches(
            tokens.shape[0] // self._frames,
            self._frames,
            tokens.shape[1] - 1,
            keep_rate=self.keep_rate,
            sampling=self.sampling,
            generator=torch.Generator().manual_seed(self._seed),
            first_clip=self._first_clip,
        ).to(tokens.device)
        patches = tokens[:, 1:].gather(1, kept[..., None].expand(-1, -1, tokens.shape[2]))
        return torch.cat([tokens[:, :1], patches], dim=1)
