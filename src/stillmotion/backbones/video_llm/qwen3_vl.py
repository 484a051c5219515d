"""Qwen3-VL: transformers' Qwen3VL, whose first blocks are given features of the vision tower beside its tokens."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from transformers import Qwen3VLForConditionalGeneration, Qwen3VLProcessor

from stillmotion.backbones.video_llm.qwen_vl import QwenVL
from stillmotion.backbones.video_llm.transformers_model import TICKS_A_SECOND


class Qwen3VL(QwenVL):
    """Qwen3-VL."""

    family = "qwen3_vl"
    model_class = Qwen3VLForConditionalGeneration
    processor_class = Qwen3VLProcessor
    beside = ("grid", "ticks", "deepstack")

    def video_inputs(self, videos: Sequence[np.ndarray], times: Sequence[np.ndarray]) -> dict[str, Any]:
        ticks = torch.from_numpy(np.round(np.stack(times) * TICKS_A_SECOND).astype(np.int64))
        return super().video_inputs(videos, times) | {"ticks": ticks}

    def see(self, inputs: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, torch.Tensor]]]:
        """Beside the grid are `ticks` (1, F), the times of the frames, and `deepstack` (T, blocks · D)."""
        if "ticks" not in inputs:
            return super().see(inputs)
        others = {name: value for name, value in inputs.items() if name not in ("ticks", "pixel_values_videos")}
        found = self.model.model.get_video_features(inputs["pixel_values_videos"], inputs["video_grid_thw"])
        beside = [
            {"grid": grid[None], "ticks": ticks[None], "deepstack": torch.cat(features, dim=1).float()}
            for grid, ticks, *features in zip(
                inputs["video_grid_thw"], inputs["ticks"], *found.deepstack_features, strict=True
            )
        ]
        return others | {"mm_encoder_outputs": {"video": found}}, beside

    def seen(self, visual: Sequence[Mapping[str, torch.Tensor]]) -> Any:
        found = super().seen(visual)
        by_video = [shown["deepstack"].split(self.width, dim=1) for shown in visual]
        found.deepstack_features = list(zip(*by_video, strict=True))
        return found

    def times(self, shown: Mapping[str, torch.Tensor]) -> np.ndarray:
        return shown["ticks"][0].numpy() / TICKS_A_SECOND


load = Qwen3VL.open
