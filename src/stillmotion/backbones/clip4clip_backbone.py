"""CLIP4Clip: a CLIP or CoCa of open_clip whose clips are made by a head over the frames, one that training can change.

Frames and texts are those of the image model; a clip is what the head makes of its frames before they are unit
vectors. With `mean_pooling` it is the image model itself. The tight transformer gives a score for each pair of a text
and a video and no vector of a video: what it adds is in the scores of scorer `own` alone, and its clips are the
means of their frames.

A model folder is that of the image model (`open_clip_config.json`, `open_clip_model.safetensors`), which still
loads as such in open_clip; beside them are `clip4clip.json` with the settings of the head and
`clip4clip.safetensors` with its weights.

Source: Luo et al. 2021, "CLIP4Clip: An Empirical Study of CLIP for End to End Video Clip Retrieval", section 3.3.

Shapes: B clips, F frames of a clip, T stored frames of a video, N clips of a video, D embedding dimensions.
"""

import copy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from stillmotion.backbones import family_files
from stillmotion.backbones.clip4clip_heads import HEADS, build_head
from stillmotion.backbones.open_clip_backbone import OpenClipBackbone, save_backbone
from stillmotion.errors import InputError
from stillmotion.io.atomic import atomic_folder
from stillmotion.io.tables import write_json
from stillmotion.io.weights import save_tensors

SETTINGS = family_files.CLIP4CLIP
HEAD_WEIGHTS = "clip4clip.safetensors"
TIGHT = "tight_transformer"
"""The head that scores pairs."""


@dataclass(frozen=True)
class Clip4ClipSettings:
    """What a head is made of."""

    head: str
    """One of HEADS."""
    num_layers: int
    """Of the transformers, copied from the first ones of the text tower; 4 in the source. The others have none."""
    seed: int
    """Of the weights that are copied from nothing: those of `seq_lstm`, and what reads the tight type's score."""

    def __post_init__(self) -> None:
        if self.head not in HEADS:
            raise InputError(f"the head of a CLIP4Clip is {self.head!r}; set one of {', '.join(HEADS)}")
        if self.num_layers < 0:
            raise InputError(f"num_layers of a CLIP4Clip is {self.num_layers}; set 0 or more")


class Clip4ClipBackbone(OpenClipBackbone):
    """An open_clip model with a head over the frames of a clip; its frames and texts are those of the model."""

    def __init__(self, clip: OpenClipBackbone, settings: Clip4ClipSettings):
        """Wrap the model of `clip`; the head is new.

        Raises:
            InputError: the head's layers can't be copied from the model's text tower.
        """
        super().__init__(clip.model, clip.tokenizer, clip.config)
        self.settings = settings
        self.head = build_head(
            settings.head, self.model, dim=self.dim, num_layers=settings.num_layers, seed=settings.seed
        )

    def branch_parameter_names(self) -> list[str]:
        return [f"head.{name}" for name, _ in self.head.named_parameters()]

    def save(self, folder: Path, source: dict[str, Any]) -> None:
        with atomic_folder(folder) as partial:
            # It fills a folder of its own and puts that in the place of this one, still empty.
            save_backbone(partial, self.model, self.config, source, tokenizer=self.tokenizer)
            write_json(partial / SETTINGS, asdict(self.settings))
            save_tensors(partial / HEAD_WEIGHTS, self.head.state_dict())


class TightClip4Clip(Clip4ClipBackbone):
    """One whose head scores pairs; by its clips, which are means of frames, it is the image model."""

    @property
    def pair_head(self) -> torch.nn.Module:
        return self.head


class PoolingClip4Clip(Clip4ClipBackbone):
    """One whose head makes the vector of a clip."""

    clips_are_means = False

    def frame_embeddings(self, pixels: torch.Tensor) -> torch.Tensor:
        """Refused: by its frames alone, a clip would be scored, and trained, as if there were no head."""
        raise InputError(self._no_parts())

    def token_embeddings(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Refused, like the frames that they would be compared with."""
        raise InputError(self._no_parts())

    def _fuse(self, frames_BFD: torch.Tensor) -> torch.Tensor:
        """Frames of any length to the unit vectors (B, D) of their clips."""
        return self.head(frames_BFD, torch.ones_like(frames_BFD[..., 0], dtype=torch.bool)).float()

    def embed_clips(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels (B, F, 3, h, w) to unit vectors (B, D): what the head makes of the frames.

        Raises:
            InputError: F is more than the positions of `seq_transf`.
        """
        frames_ND = self.model.encode_image(pixels.flatten(0, 1)).float()
        return self._fuse(frames_ND.unflatten(0, pixels.shape[:2]))

    @torch.inference_mode()
    def embed_video(
        self, frames_THWC: np.ndarray, clips_NF: np.ndarray, *, frames_a_pass: int, single_frames: bool = True
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Every frame is embedded once; a clip is what the head makes of its frames."""
        frames_TD = torch.cat(
            [
                self.model.encode_image(self.pixels(frames_THWC[first : first + frames_a_pass])).float()
                for first in range(0, len(frames_THWC), frames_a_pass)
            ]
        )
        clips_a_pass = max(1, frames_a_pass // clips_NF.shape[1])
        places = torch.from_numpy(clips_NF).to(self.device).split(clips_a_pass) if len(clips_NF) else ()
        clips = [self._fuse(frames_TD[places_NF]) for places_NF in places]
        none = frames_TD[:0]
        return functional.normalize(frames_TD, dim=-1) if single_frames else none, torch.cat([none, *clips])


def wrap_clip4clip(clip: OpenClipBackbone, settings: Clip4ClipSettings) -> Clip4ClipBackbone:
    """Give a model a head.

    Raises:
        InputError: the head's layers can't be copied from the model's text tower.
    """
    return TightClip4Clip(clip, settings) if settings.head == TIGHT else PoolingClip4Clip(clip, settings)


def expand_clip4clip(backbone: OpenClipBackbone, settings: Clip4ClipSettings) -> Clip4ClipBackbone:
    """Build a CLIP4Clip around a copy of a model, which stays as it is.

    Raises:
        InputError: the head's layers can't be copied from the model's text tower.
    """
    clip = OpenClipBackbone(copy.deepcopy(backbone.model), backbone.tokenizer, backbone.config)
    return wrap_clip4clip(clip, settings).eval()
