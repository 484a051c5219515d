"""STAN around a CLIP or CoCa of open_clip: frames that see one another, in clips of any number of frames.

The tower's own pass is that of the image model; what the branch makes of its layers' outputs is added to its last
one, before the norm (and the pooler, where there is one) that end the tower.

A model folder is that of the image model (`open_clip_config.json`, `open_clip_model.safetensors`), which still
loads as such in open_clip; beside them are `stan.json` with the settings of the branch and `stan.safetensors` with
its weights.

Source: Liu et al. 2023 (papers/mug-stan.txt), section III-B; METHODS.md section 6.

Shapes: N images or texts, B clips, F frames of a clip, T stored frames of a video, P patches, W width, D embedding
dimensions, L tokens.
"""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from stillmotion.backbones import family_files
from stillmotion.backbones.open_clip_backbone import OpenClipBackbone, save_backbone
from stillmotion.backbones.stan_branch import StanBranch
from stillmotion.backbones.stan_settings import StanSettings
from stillmotion.errors import InputError
from stillmotion.io.atomic import atomic_folder
from stillmotion.io.tables import write_json
from stillmotion.io.weights import save_tensors
from stillmotion.video.sampling import frame_groups

SETTINGS = family_files.STAN
BRANCH_WEIGHTS = "stan.safetensors"


class KeptPatches(torch.nn.Module):
    """Patch dropout that remembers which patches it kept."""

    kept: torch.Tensor | None = None
    """(N, kept) places in the grid, of the last pass; None where all were kept."""

    def __init__(self, dropout: torch.nn.Module):
        super().__init__()
        self.dropout = dropout

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Tokens (N, 1 + P, W), class token first, to those that `dropout` keeps."""
        # It drops places instead of tokens, in a type that autocast has no part in and that holds them exactly.
        places = torch.arange(tokens.shape[1], dtype=torch.float32, device=tokens.device)
        left = self.dropout(places[None, :, None].expand(len(tokens), -1, 1))[..., 0].long()
        if left.shape[1] == tokens.shape[1]:
            self.kept = None
            return tokens
        self.kept = left[:, 1:] - 1
        return tokens.gather(1, left[..., None].expand(-1, -1, tokens.shape[2]))


class StanBackbone(OpenClipBackbone):
    """An open_clip model with a STAN branch; its texts are those of the image model."""

    clips_are_means = False

    def __init__(self, clip: OpenClipBackbone, settings: StanSettings):
        """Wrap the model of `clip`, whose patch dropout is replaced; the branch is new.

        Raises:
            InputError: the tower has too few layers.
        """
        super().__init__(clip.model, clip.tokenizer, clip.config)
        self.settings = settings
        self.branch = StanBranch(self.model.visual, settings)
        self.set_patch_dropout(self.model.visual.patch_dropout)

    def set_patch_dropout(self, dropout: torch.nn.Module) -> None:
        self.model.visual.patch_dropout = KeptPatches(dropout)

    def set_gradient_checkpointing(self, on: bool) -> None:
        """Whether training keeps only what goes from layer to layer: less memory, one more forward pass."""
        self.model.set_grad_checkpointing(on)
        self.branch.uses_checkpoints = on

    def draw_paths(self, seed: list[int], *, first_clip: int = 0) -> None:
        """Choose the residuals that training passes by; see `StanBranch.draw`. Without it there are none."""
        self.branch.draw(seed, first_clip=first_clip)

    def branch_parameter_names(self) -> list[str]:
        """Names, as of `named_parameters`, of what the branch adds: it is not frozen, and takes a higher rate."""
        return [f"branch.{name}" for name, _ in self.branch.named_parameters()]

    def _kept_patches(self, num_clips: int) -> torch.Tensor | None:
        kept = self.model.visual.patch_dropout.kept
        if kept is None:
            return None
        kept_BFP = kept.unflatten(0, (num_clips, -1))
        if not torch.equal(kept_BFP, kept_BFP[:, :1].expand_as(kept_BFP)):
            raise InputError(
                "params.yaml: patch_sampling drops other patches in each frame, and STAN attends to the same patch "
                "of all frames; set patch_sampling: tubelet"
            )
        return kept_BFP[:, 0]

    def frame_embeddings(self, pixels: torch.Tensor) -> torch.Tensor:
        """Clips (B, F, 3, h, w) to unit vectors of their frames, each of which sees the others: (B, F, D).

        Raises:
            InputError: F is more than the model's time table holds, or its frames keep different patches.

        Source: Eq. 10.
        """
        num_clips, num_frames = pixels.shape[:2]
        if num_frames > self.settings.max_frames:
            raise InputError(
                f"this STAN takes clips of at most {self.settings.max_frames} frames, not {num_frames}; set num_frames "
                f"to that or fewer, or max_frames of its expansion to {num_frames} or more"
            )
        visual = self.model.visual
        last = len(visual.transformer.resblocks) - 1
        read = self.settings.read_layers(last + 1)
        taken = sorted({*read, last})
        found = visual.forward_intermediates(
            pixels.flatten(0, 1), indices=taken, intermediates_only=True, output_fmt="NLC", output_extra_tokens=True
        )
        tokens = zip(found["image_intermediates_prefix"], found["image_intermediates"], strict=True)
        outputs = {
            layer: torch.cat(parts, dim=1).unflatten(0, (num_clips, num_frames))
            for layer, parts in zip(taken, tokens, strict=True)
        }
        classes_BCW, patches_BFPW = self.branch([outputs[layer] for layer in read], self._kept_patches(num_clips))
        classes_BF1W = classes_BCW.expand(-1, num_frames, -1)[:, :, None]
        fused = outputs[last] + torch.cat([classes_BF1W, patches_BFPW], dim=2)
        pooled, _ = visual._pool(fused.flatten(0, 1))
        return functional.normalize((pooled @ visual.proj).float(), dim=-1).unflatten(0, (num_clips, num_frames))

    def embed_frames(self, pixels: torch.Tensor) -> torch.Tensor:
        """Images (N, 3, h, w), each a clip of one frame, to unit vectors (N, D)."""
        return self.frame_embeddings(pixels[:, None])[:, 0]

    @torch.inference_mode()
    def embed_video(
        self, frames_THWC: np.ndarray, clips_NF: np.ndarray, *, frames_a_pass: int, single_frames: bool = True
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """A frame is embedded beside its neighbours, in runs of `context_frames`; a clip by itself."""

        def batches(runs_GF: np.ndarray) -> Iterator[torch.Tensor]:
            size = max(1, frames_a_pass // runs_GF.shape[1])
            for first in range(0, len(runs_GF), size):
                runs = runs_GF[first : first + size]
                yield self.pixels(frames_THWC[runs.ravel()]).unflatten(0, runs.shape)

        none = torch.empty(0, self.dim, device=self.device)
        clips_ND = torch.cat([none, *(self.embed_clips(pixels) for pixels in batches(clips_NF))])
        if not single_frames:
            return none, clips_ND
        runs_GF = frame_groups(len(frames_THWC), min(len(frames_THWC), self.settings.context_frames))
        frames_ND = torch.cat([self.frame_embeddings(pixels).flatten(0, 1) for pixels in batches(runs_GF)])
        first_of_T = np.unique(runs_GF.ravel(), return_index=True)[1]
        return frames_ND[torch.from_numpy(first_of_T).to(self.device)], clips_ND

    def save(self, folder: Path, source: dict[str, Any]) -> None:
        with atomic_folder(folder) as partial:
            # It fills a folder of its own and puts that in the place of this one, still empty.
            save_backbone(partial, self.model, self.config, source, tokenizer=self.tokenizer)
            write_json(partial / SETTINGS, asdict(self.settings))
            save_tensors(partial / BRANCH_WEIGHTS, self.branch.state_dict())
