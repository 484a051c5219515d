"""STAN: a branch beside a vision tower that mixes what the tower's layers see across the frames of a clip.

Source: Liu et al. 2023 (papers/mug-stan.txt), section III-B; where its equations and its code differ, METHODS.md
section 6 decides. The source has a `conv` and a joint space-time variant without saying how they are built: here
the one is a convolution over time of the size of the attention it replaces, the other one attention over all
tokens of the clip in place of both attentions. Eq. 5's dropout of the input has no rate there; there is none here.

With `inter_proj: none` and `class_token_mean: after_attention` a layer computes what the released code does, on equal
weights. What differs: its first class token is (the frames' mean + the class embedding + the first position) / 2, here
the mean alone, as in the paper. In training, its branch shares the tower's table of positions, here it has a copy; its
time table starts as N(0, 1), here at zero; and its DropPath draws for each sequence of a patch and each frame, never
for the MLP, here once a clip for each of the three residuals.

Shapes: B clips, F frames of a clip, P patches of a frame (under patch dropout the kept ones), W width, K layers,
N sequences, S tokens of a sequence, C class tokens of a clip: 1, or one for each frame.
"""

import copy
from typing import Any

import numpy as np
import torch
from torch.utils.checkpoint import checkpoint

from stillmotion.backbones.stan_settings import ClassToken, StanSettings

_KERNEL_FRAMES = 3
_DROP_PATHS = 3
"""Residuals of a layer: temporal, spatial attention, MLP."""


class _Silent(torch.nn.Linear):
    """A linear that starts at zero, so that the residual it ends changes nothing until it is trained."""

    def reset_parameters(self) -> None:
        torch.nn.init.zeros_(self.weight)
        torch.nn.init.zeros_(self.bias)


class SequenceAttention(torch.nn.Module):
    """Norm, self-attention and a linear that starts at zero, over sequences (N, S, W); the residual alone."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norm = torch.nn.LayerNorm(width)
        self.attn = torch.nn.MultiheadAttention(width, heads, batch_first=True)
        self.out = _Silent(width, width)

    def forward(self, tokens_NSW: torch.Tensor) -> torch.Tensor:
        normed = self.norm(tokens_NSW)
        return self.out(self.attn(normed, normed, normed, need_weights=False)[0])


class SequenceConv(torch.nn.Module):
    """Norm, a convolution over 3 neighbours and a linear that starts at zero; as `SequenceAttention` otherwise."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = torch.nn.LayerNorm(width)
        self.conv = torch.nn.Conv1d(width, width, _KERNEL_FRAMES, padding=_KERNEL_FRAMES // 2)
        self.out = _Silent(width, width)

    def forward(self, tokens_NSW: torch.Tensor) -> torch.Tensor:
        return self.out(self.conv(self.norm(tokens_NSW).transpose(1, 2)).transpose(1, 2))


class StanLayer(torch.nn.Module):
    """The temporal module and then the spatial one, which starts as a layer of the tower."""

    def __init__(self, block: Any, settings: StanSettings, *, projects: bool):
        """Build a layer.

        Args:
            block: open_clip's ResidualAttentionBlock; a copy of it is the spatial module.
            settings: of the branch.
            projects: whether what the layer reads goes through a linear of its own.
        """
        super().__init__()
        width = block.ln_1.normalized_shape[0]
        self.inter_proj: torch.nn.Module = torch.nn.Identity()
        if projects:
            self.inter_proj = torch.nn.Linear(width, width, bias=False)
            torch.nn.init.eye_(self.inter_proj.weight)
        conv = settings.temporal == "conv"
        self.temporal = SequenceConv(width) if conv else SequenceAttention(width, block.attn.num_heads)
        self.spatial = copy.deepcopy(block).requires_grad_(True)
        self.is_joint = settings.temporal == "joint"
        self.class_token = settings.class_token
        self.means_first = settings.class_token == "clip" and settings.class_token_mean == "after_attention"
        if self.is_joint:  # its attention is in the place of the one within frames
            del self.spatial.ln_1, self.spatial.attn, self.spatial.ls_1

    def _attended(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.spatial.ls_1(self.spatial.attention(self.spatial.ln_1(tokens)))

    def _mlp(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.spatial.ls_2(self.spatial.mlp(self.spatial.ln_2(tokens)))

    def forward(
        self, classes_BCW: torch.Tensor, patches_BFPW: torch.Tensor, scales_B3: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """One step of the branch.

        Args:
            classes_BCW: the clips' class tokens.
            patches_BFPW: patches of all frames.
            scales_B3: what a clip's temporal, attention and MLP residuals are multiplied with; None for 1.

        Returns:
            Both after this layer.
        """

        def scaled(residual: torch.Tensor, which: int) -> torch.Tensor:
            if scales_B3 is None:
                return residual
            return residual * scales_B3[:, which].view(-1, *[1] * (residual.ndim - 1))

        B, F, P, _ = patches_BFPW.shape
        if self.is_joint:
            tokens = torch.cat([classes_BCW, patches_BFPW.flatten(1, 2)], dim=1)
            tokens = tokens + scaled(self.temporal(tokens), 0)
        else:
            change_NFW = self.temporal(patches_BFPW.transpose(1, 2).flatten(0, 1))
            patches_BFPW = patches_BFPW + scaled(change_NFW.unflatten(0, (B, P)).transpose(1, 2), 0)
            frames_BFSW = torch.cat([classes_BCW.expand(-1, F, -1)[:, :, None], patches_BFPW], dim=2)
            frames_BFSW = frames_BFSW + scaled(self._attended(frames_BFSW.flatten(0, 1)).unflatten(0, (B, F)), 1)
            if not self.means_first:
                frames_BFSW = frames_BFSW + scaled(self._mlp(frames_BFSW), 2)
                return _classes(frames_BFSW, self.class_token), frames_BFSW[:, :, 1:]
            tokens = torch.cat([_classes(frames_BFSW, "clip"), frames_BFSW[:, :, 1:].flatten(1, 2)], dim=1)
        tokens = tokens + scaled(self._mlp(tokens), 2)
        return tokens[:, :1], tokens[:, 1:].unflatten(1, (F, P))


def _classes(frames_BFSW: torch.Tensor, class_token: ClassToken) -> torch.Tensor:
    """The class tokens that a layer hands on, (B, C, W): the frames' own, C = F, or their mean alone, C = 1."""
    classes_BFW = frames_BFSW[:, :, 0]
    return classes_BFW if class_token == "frame" else classes_BFW.mean(1, keepdim=True)


class StanBranch(torch.nn.Module):
    """The layers, with a table of positions in a frame that starts as the tower's, and one of times, at zero."""

    layers: Any
    """K of StanLayer."""

    def __init__(self, visual: Any, settings: StanSettings):
        """Build a branch, whose new weights are a function of `settings.seed`.

        Args:
            visual: open_clip's VisionTransformer, which stays as it is.
            settings: of the branch.

        Raises:
            InputError: the tower has too few layers.
        """
        super().__init__()
        self.settings = settings
        self.uses_checkpoints = False
        """Keep only what goes from layer to layer, and compute a layer once more for its gradient."""
        self._drawn: tuple[list[int], int] | None = None
        blocks = visual.transformer.resblocks
        projects = settings.inter_proj == "linear" and settings.structure != "posterior"
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            aligned = settings.aligned_layers(len(blocks))
            self.layers = torch.nn.ModuleList(
                StanLayer(blocks[beside], settings, projects=projects and row > 0) for row, beside in enumerate(aligned)
            )
        positions_PW = visual.positional_embedding.detach()[1:]
        self.patch_positions = torch.nn.Parameter(positions_PW.clone())
        self.times = torch.nn.Parameter(torch.zeros(settings.max_frames, positions_PW.shape[1]))

    def draw(self, seed: list[int], *, first_clip: int = 0) -> None:
        """Choose what the next forward passes in training pass by, a function of these arguments alone.

        Args:
            seed: of the whole batch.
            first_clip: the place in the batch of the first clip that passes.
        """
        self._drawn = (seed, first_clip)

    def _scales(self, num_clips: int, device: torch.device) -> list[torch.Tensor | None]:
        """What each clip's residuals are multiplied with in each layer: K of (B, 3), or None where nothing is drawn."""
        K = len(self.layers)
        if not self.training or self._drawn is None or self.settings.drop_path == 0:
            return [None] * K
        seed, first_clip = self._drawn
        # A stream of its own: patch dropout draws from the same seed.
        state = np.random.SeedSequence(seed, spawn_key=(1,)).generate_state(1, np.uint64)[0]
        generator = torch.Generator().manual_seed(int(state >> 1))
        noise = torch.rand(first_clip + num_clips, K, _DROP_PATHS, generator=generator)[first_clip:]
        rates_K1 = torch.linspace(0, self.settings.drop_path, K)[:, None]
        return list(((noise >= rates_K1) / (1 - rates_K1)).transpose(0, 1).to(device))

    def forward(
        self, levels: list[torch.Tensor], kept_BP: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What the tower's layers made of a batch to what the branch makes of it.

        Args:
            levels: for each layer that reads, (B, F, 1 + P, W), class token first.
            kept_BP: the patches that a frame has in the tower's grid; None where it has all.

        Returns:
            The clips' class tokens (B, C, W) and the patches of all frames (B, F, P, W).

        Source: Eqs. 3 to 9.
        """
        first = levels[0]
        positions = self.patch_positions if kept_BP is None else self.patch_positions[kept_BP][:, None]
        classes_BCW = _classes(first, self.settings.class_token)
        patches_BFPW = first[:, :, 1:] + positions + self.times[: first.shape[1], None]
        scales = self._scales(len(first), first.device)
        for row, layer in enumerate(self.layers):
            if 0 < row < len(levels):
                classes_BCW = classes_BCW + layer.inter_proj(_classes(levels[row], self.settings.class_token))
                patches_BFPW = patches_BFPW + layer.inter_proj(levels[row][:, :, 1:])
            state = (classes_BCW, patches_BFPW, scales[row])
            checkpoints = self.uses_checkpoints and torch.is_grad_enabled()
            classes_BCW, patches_BFPW = checkpoint(layer, *state, use_reentrant=False) if checkpoints else layer(*state)
        return classes_BCW, patches_BFPW
