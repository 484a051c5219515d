"""What video LLMs of Qwen have in common: patches of two frames, and places in time, height and width.

Shapes: N questions, S tokens with padding, T visual tokens, D width.
"""

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from stillmotion.backbones.video_llm.model import at_last_tokens
from stillmotion.backbones.video_llm.transformers_model import TransformersVideoLLM, shown_at
from stillmotion.errors import InputError


def empty_patches(model: Any, num_frames: int, size_px: int, frames_a_patch: int) -> tuple[torch.Tensor, torch.Tensor]:
    """An empty video as rows of patches, and its grid in time, height and width."""
    side = model.config.vision_config.patch_size
    grid = torch.tensor([[num_frames // frames_a_patch, *[size_px // side] * 2]])
    return torch.ones(int(grid.prod()), 3 * frames_a_patch * side**2, device=model.device), grid


class QwenVL(TransformersVideoLLM):
    """A Qwen-VL of any generation."""

    least_frames = 2  # of a temporal patch
    beside: ClassVar[tuple[str, ...]] = ("grid",)
    shown_as = "as its processor writes them into a prompt, with marks of time where it writes those"

    @classmethod
    def empty_video(cls, model: Any, num_frames: int, size_px: int, num_words: int) -> Any:
        patches, grid = empty_patches(model, num_frames, size_px, model.config.vision_config.temporal_patch_size)
        return model.model.get_video_features(patches, video_grid_thw=grid).pooler_output

    def see(self, inputs: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, torch.Tensor]]]:
        """Beside visual tokens is their `grid` in time, height and width (1, 3)."""
        if "video_grid_thw" not in inputs:
            return super().see(inputs)
        return inputs, [{"grid": grid[None]} for grid in inputs["video_grid_thw"]]

    def seen(self, visual: Sequence[Mapping[str, torch.Tensor]]) -> Any:
        """What the model's vision pass gave of videos."""
        return SimpleNamespace(pooler_output=[shown["tokens"] for shown in visual])

    def times(self, shown: Mapping[str, torch.Tensor]) -> np.ndarray:
        """When a video's frames are shown, in seconds, where its processor writes that."""
        return np.zeros(1)

    def asked(self, visual: Sequence[Mapping[str, torch.Tensor]], around: Sequence[tuple[str, str]]) -> torch.Tensor:
        """The whole input of the model, but for what its vision pass has made already."""
        ids, visual_id = [], self.model.config.video_token_id
        for shown, (before, after) in zip(visual, around, strict=True):
            told = {"video_grid_thw": shown["grid"], "video_metadata": [shown_at(self.times(shown))]}
            prompt = before + self.processor.replace_video_token(told, 0) + after
            found = self.tokenizer(prompt, add_special_tokens=self.adds_special(prompt))["input_ids"]
            if found.count(visual_id) != len(shown["tokens"]):
                raise InputError(
                    f"captions: a text holds {self.processor.video_token}, which stands for a video; take it out"
                )
            ids.append(torch.tensor(found, device=self.device))
        mask_NS, ids_NS = self.mask_of(ids), pad_sequence(ids, batch_first=True)
        states_NSD = self.model.model(
            input_ids=ids_NS,
            attention_mask=mask_NS,
            mm_token_type_ids=2 * (ids_NS == visual_id).int(),
            video_grid_thw=torch.cat([shown["grid"] for shown in visual]).to(self.device),
            mm_encoder_outputs={"video": self.seen(visual)},
            use_cache=False,
        ).last_hidden_state
        return at_last_tokens(states_NSD, ids)
