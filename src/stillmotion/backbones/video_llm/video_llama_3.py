"""VideoLLaMA3: transformers' VideoLlama3."""

from typing import Any

import torch
from transformers import VideoLlama3ForConditionalGeneration, VideoLlama3Processor

from stillmotion.backbones.video_llm.qwen_vl import empty_patches
from stillmotion.backbones.video_llm.transformers_model import TransformersVideoLLM


class VideoLlama3(TransformersVideoLLM):
    """VideoLLaMA3."""

    family = "video_llama_3"
    model_class = VideoLlama3ForConditionalGeneration
    processor_class = VideoLlama3Processor

    @classmethod
    def empty_video(cls, model: Any, num_frames: int, size_px: int, num_words: int) -> Any:
        patches, grid = empty_patches(model, num_frames, size_px, 1)
        merged = torch.tensor([2])
        return model.model.get_video_features(patches, video_grid_thw=grid, video_merge_sizes=merged).pooler_output


load = VideoLlama3.open
