"""Training of the built-in video LLM: to write the paragraph of a video after its visual tokens.

Source: Zhang, Li, Bing 2023 (Video-LLaMA), section 2.2: the image model stays as it is, the projector learns. Its
language model, which was trained before, stays too; this one has yet to learn the few words that there are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stillmotion.backbones.registry import load_embeds
from stillmotion.backbones.video_llm.builtin import BuiltinVideoLLM
from stillmotion.config.training import LoraRecipeParams, SeededRecipe
from stillmotion.errors import InputError
from stillmotion.training.finetuning import FineTuning
from stillmotion.training.pairs import Pair
from stillmotion.training.patch_dropout import PatchDropout

NEUTRAL: dict[str, Any] = {
    "branch_learning_rate_factor": 1.0,
    "gradient_checkpointing": False,
    "similarity": "cosine",
    "loss_temperature": "learned",
    "freeze_texts": False,
    "freeze_embeddings": False,
    "frozen_blocks": 0,
    "patch_keep_rate": 1.0,
}
"""What a recipe must say of all that plays no part here."""


@dataclass(frozen=True)
class Captioning(FineTuning):
    """A fine-tuning whose pairs are videos and what is to be written of them."""

    backbone: Any
    """A BuiltinVideoLLM, which is no `Backbone`."""

    @property
    def chooses_epoch(self) -> bool:
        """Whether there are validation pairs: a single one tells too."""
        return bool(self.validation)

    def prepare(self) -> tuple[PatchDropout, list[str]]:
        """Hold the recipe to what can be trained; see `FineTuning.prepare`.

        Raises:
            InputError: it asks for another thing than writing captions.
        """
        require_neutral(self.recipe)
        return PatchDropout(1.0, self.recipe.patch_sampling), []

    def draw(self, dropout: PatchDropout, epoch: int, step: int, first_clip: int) -> None:
        """Nothing: all patches are seen, by all layers."""

    def pixels(self, pair: Pair, rng: np.random.Generator | None) -> torch.Tensor:
        """The frames that stand for a pair as they are stored: (F, H, W, 3)."""
        frames = self.frames.span(pair.video_id, pair.start, pair.end, self.recipe.num_frames, rng=rng)
        return torch.from_numpy(np.array(frames))

    def embed(self, pixels: torch.Tensor, pairs: Sequence[Pair]) -> tuple[torch.Tensor, ...]:
        """The losses of the pairs, (S, 1)."""
        return (self.backbone.caption_losses(list(pixels.numpy()), [pair.text for pair in pairs])[:, None],)

    def loss_of(
        self, embedded: tuple[torch.Tensor, ...], pairs: Sequence[Pair], logit_scale: torch.Tensor
    ) -> torch.Tensor:
        """Their mean."""
        return embedded[0].mean()

    def score_of(self, embedded: tuple[torch.Tensor, ...], pairs: Sequence[Pair]) -> float:
        """The mean loss of the validation pairs, negated: more is better."""
        return -float(embedded[0].mean())


def load_writer(folder: Path, device: torch.device) -> BuiltinVideoLLM:
    """The built-in video LLM of a folder.

    Raises:
        InputError: it is damaged, or of another member, whose training would take more than this loop has.
    """
    model = load_embeds(folder, device)
    if not isinstance(model, BuiltinVideoLLM):
        raise InputError(
            f"{folder}: a published video LLM is not fine-tuned here; align it by a scorer that is trained on its "
            "hidden states, such as mlp_head"
        )
    return model


def require_neutral(recipe: SeededRecipe) -> None:
    """Raise InputError where a recipe asks for what the training of a video LLM has not."""
    wrong = [name for name, value in NEUTRAL.items() if getattr(recipe, name) != value]
    if recipe.captions == "class_names":
        raise InputError("params.yaml: a video LLM is trained to write captions; set captions: paragraph in its recipe")
    if isinstance(recipe, LoraRecipeParams):
        raise InputError("params.yaml: a video LLM that is trained to write captions is trained whole; leave out lora")
    if wrong:
        value = str(NEUTRAL[wrong[0]]).lower()
        raise InputError(
            f"params.yaml: {wrong[0]} of a recipe plays no part in training a video LLM to write captions; set it to "
            f"{value}"
        )
