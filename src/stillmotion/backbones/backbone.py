"""What every model is to the stages: frames, clips and texts in, unit vectors out.

`Embeds` is what the stages embed with and search by, `Backbone` what can be fine-tuned too. A subclass wraps a model of
one family; `stillmotion.backbones.registry` opens a model folder as the right one.

Shapes: N frames or texts, B clips, F frames of a clip, T stored frames of a video, H and W pixels, D embedding
dimensions, L tokens, P patches.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from PIL import Image
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

from stillmotion.backbones.compute import inverse_temperature
from stillmotion.errors import InputError


@dataclass(frozen=True)
class Layers:
    """The parameters of a model by how soon its input meets them, for freezing."""

    embeddings: list[torch.nn.Parameter]
    """Patch, class, position and token embeddings, and the norm between them and the first block."""
    towers: list[list[list[torch.nn.Parameter]]]
    """For the vision and the text tower: the parameters of each of its blocks, the first one first."""


def mean_clips(frames_TD: torch.Tensor, clips_NF: np.ndarray) -> torch.Tensor:
    """Unit vectors (N, D) along the means of frames' unit vectors; `clips_NF` says which of the frames."""
    clips_NFD = frames_TD[torch.from_numpy(clips_NF).to(frames_TD.device)]
    return functional.normalize(clips_NFD.mean(1), dim=-1)


class Embeds(torch.nn.Module, ABC):
    """A model that embeds frames, clips and texts as unit vectors."""

    dim: int
    """D."""
    clip_frames: int | None
    """Frames that a clip must have; None where any number will do."""
    clips_are_means: bool = False
    """Whether a frame is embedded by itself, and a clip is the mean of its frames: `mean_clips`."""
    has_contexts: bool = False
    """Whether its texts can depend on a video: an X-CLIP's `contexts`."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where its inputs go."""

    @property
    @abstractmethod
    def logit_scale(self) -> torch.Tensor:
        """The inverse temperature, a scalar, that a softmax over its cosines starts from."""

    @abstractmethod
    def embed_video(
        self, frames_THWC: np.ndarray, clips_NF: np.ndarray, *, frames_a_pass: int, single_frames: bool = True
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """A video's stored frames, and clips made of them, without gradients.

        Args:
            frames_THWC: uint8 RGB, all stored frames in display order.
            clips_NF: which of the stored frames make each clip, ascending; N may be 0.
            frames_a_pass: how many frames go through the model at once, at most.
            single_frames: without them the first result is (0, D), and costs nothing.

        Returns:
            Unit vectors (T, D) of the frames and (N, D) of the clips.
        """

    @abstractmethod
    def text_vectors(self, texts: list[str]) -> torch.Tensor:
        """Unit vectors (N, D) of texts; one longer than the model reads is cut."""

    @abstractmethod
    def truncated(self, texts: list[str]) -> np.ndarray:
        """Whether each text is cut: (N,) bool."""

    @abstractmethod
    def image_frame(self, image: Image.Image) -> np.ndarray:
        """A whole image as a stored frame, (H, W, 3) uint8, by the model's own transform."""

    def tokens(self, texts: list[str]) -> torch.Tensor:
        """Token ids (N, L); a text longer than the model's context is cut.

        Raises:
            InputError: the model's texts are more than tokens.
        """
        raise InputError(self._no_parts())

    def frame_embeddings(self, pixels: torch.Tensor) -> torch.Tensor:
        """Clips (B, F, 3, h, w) to unit vectors of their frames (B, F, D).

        Raises:
            InputError: the model has none, or F is more than it takes.
        """
        raise InputError(self._no_parts())

    def token_embeddings(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Token ids (N, context) to unit vectors of the tokens (N, L, D), and which are no padding: (N, L) bool.

        L is the length of the longest text, start and end included.

        Raises:
            InputError: the model has none.
        """
        raise InputError(self._no_parts())

    def _no_parts(self) -> str:
        return (
            f"params.yaml: Mug needs the embeddings of single frames and tokens, which {type(self).__name__} has not; "
            "set similarity: cosine (of the recipe) or embed.tokens: false, or take a CLIP, a CoCa or a STAN"
        )

    @property
    def pair_head(self) -> torch.nn.Module | None:
        """What scores the frames of a video with a text, where that is no cosine; most models have none."""
        return None

    @abstractmethod
    def save(self, folder: Path, source: dict[str, Any]) -> None:
        """Write the model folder, whole or not at all; `source` goes to source.json."""


class Backbone(Embeds):
    """A model that embeds frames, clips and texts as unit vectors in one space, and can be trained to."""

    model: Any
    """What is wrapped: its parameter logit_scale is the logarithm of the inverse temperature."""
    mean: torch.Tensor
    std: torch.Tensor
    image_size_px: int
    image_transform: Callable[[Image.Image], torch.Tensor]
    """The model's own transform of a whole image, for image queries."""

    def train(self, mode: bool = True) -> Self:
        """As of any module, but that batch norms go on with the statistics that they have.

        Those of a batch would depend on what is embedded at once and in which process; and the running ones, which are
        no parameters, belong to no epoch and to no checkpoint.
        """
        super().train(mode)
        for module in self.modules():
            if isinstance(module, BatchNorm):
                module.eval()
        return self

    @property
    def device(self) -> torch.device:
        return self.mean.device

    @property
    def logit_scale(self) -> torch.Tensor:
        """The learned inverse temperature, at most 100 as in CLIP."""
        return inverse_temperature(self.model.logit_scale)

    def fix_temperature(self, temperature: float) -> None:
        """Set the temperature, of 0.01 or more, and learn it no further."""
        with torch.no_grad():
            self.model.logit_scale.fill_(-math.log(temperature))
        self.model.logit_scale.requires_grad_(False)

    def pixels(self, frames: np.ndarray) -> torch.Tensor:
        """Stored frames as the model's input.

        Args:
            frames: (N, H, W, 3) uint8, RGB, square.

        Returns:
            (N, 3, h, w) float32, normalised with the checkpoint's mean and standard deviation.

        Raises:
            InputError: the stored frames are smaller than the model's input.
        """
        stored, wanted = frames.shape[1], self.image_size_px
        if stored < wanted:
            raise InputError(
                f"params.yaml: sample_frames.size_px is {stored} and this model takes {wanted} px; "
                f"set it to {wanted} or more"
            )
        # A copy: stored frames are mapped read-only, and torch wants to be able to write.
        stored_NCHW = torch.from_numpy(np.array(frames)).to(self.device).permute(0, 3, 1, 2)
        values = stored_NCHW.to(torch.float32, memory_format=torch.contiguous_format)
        if stored > wanted:
            values = functional.interpolate(
                values, size=(wanted, wanted), mode="bicubic", antialias=True, align_corners=False
            ).clamp(0, 255)
        # In place, as a multiply and an add: beside a small model, four passes over new memory cost a tenth.
        return values.mul_(1 / (255 * self.std)).add_(-self.mean / self.std)

    @abstractmethod
    def embed_clips(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels (B, F, 3, h, w) to unit vectors (B, D).

        Raises:
            InputError: F is not the model's number.
        """

    @abstractmethod
    def tokens(self, texts: list[str]) -> torch.Tensor: ...

    @abstractmethod
    def embed_texts(self, tokens: torch.Tensor) -> torch.Tensor:
        """Token ids (N, L) to unit vectors (N, D)."""

    def text_vectors(self, texts: list[str]) -> torch.Tensor:
        return self.embed_texts(self.tokens(texts))

    def image_frame(self, image: Image.Image) -> np.ndarray:
        transformed_CHW = self.image_transform(image)
        # back to the 8 bits that the transform normalised, which is what a stored frame is
        values_CHW = (transformed_CHW * self.std[0].cpu() + self.mean[0].cpu()) * 255
        return values_CHW.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()

    @abstractmethod
    def layers(self) -> Layers:
        """What can be frozen.

        Raises:
            InputError: the model is built in a way that freezing does not know.
        """

    def text_parameters(self) -> list[torch.nn.Parameter]:
        """Parameters of the whole text tower, from its embeddings to its projection.

        Raises:
            InputError: which they are is not known.
        """
        raise InputError(
            f"params.yaml: freeze_texts does not know the text tower of {type(self).__name__}; set freeze_texts: "
            "false, or choose another backbone"
        )

    def branch_parameter_names(self) -> list[str]:
        """Names, as of `named_parameters`, of what a branch or a head adds to an image model; most models have none."""
        return []

    def set_gradient_checkpointing(self, on: bool) -> None:
        """Whether training computes layers again for their gradients: less memory, more time.

        Raises:
            InputError: it is on, and the model has no branch.
        """
        if on:
            raise InputError(
                f"params.yaml: gradient_checkpointing is true and {type(self).__name__} has no STAN branch; set "
                "gradient_checkpointing: false, or fine-tune a STAN"
            )

    @abstractmethod
    def set_patch_dropout(self, dropout: torch.nn.Module) -> None:
        """Put `dropout` where patch tokens (N, 1 + P, W) have their positions and no norm yet.

        Raises:
            InputError: the model has no patches, and the rate at which `dropout` keeps them is below 1.
        """

    def draw_paths(self, seed: list[int], *, first_clip: int) -> None:
        """Draw which layers the clips of the next training pass skip; most models skip none.

        Args:
            seed: what the draw is a function of, beside the place of a clip in its batch.
            first_clip: place of the pass' first clip.
        """
