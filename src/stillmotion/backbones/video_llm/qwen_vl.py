"""What video LLMs of Qwen have in common: patches of two frames, and places in time, height and width."""

from typing import Any

import torch

from stillmotion.backbones.video_llm.transformers_model import TransformersVideoLLM


def empty_patches(model: Any, num_frames: int, size_px: int, frames_a_patch: int) -> tuple[torch.Tensor, torch.Tensor]:
    """An empty video as rows of patches, and its grid in time, height and width."""
    side = model.config.vision_config.patch_size
    grid = torch.tensor([[num_frames // frames_a_patch, *[size_px // side] * 2]])
    return torch.ones(int(grid.prod()), 3 * frames_a_patch * side**2, device=model.device), grid


class QwenVL(TransformersVideoLLM):
    """A Qwen-VL of any generation."""

    is_asked = False
    least_frames = 2  # of a temporal patch

    @classmethod
    def empty_video(cls, model: Any, num_frames: int, size_px: int, num_words: int) -> Any:
        patches, grid = empty_patches(model, num_frames, size_px, model.config.vision_config.temporal_patch_size)
        return model.model.get_video_features(patches, video_grid_thw=grid).pooler_output
