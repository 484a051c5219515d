"""LLaVA-NeXT: transformers' LlavaNext, which knows no videos: each frame is an image of the prompt, in turn.

E5-V is one. Of an image it sees the whole and, by its size, tiles of it: some 2,000 tokens, so that one frame a clip is
what a context holds with room, and a video is the mean of such clips.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import LlavaNextForConditionalGeneration, LlavaNextProcessor

from stillmotion.backbones.video_llm.transformers_model import TransformersVideoLLM


class LlavaNext(TransformersVideoLLM):
    """LLaVA-NeXT."""

    family = "llava_next"
    model_class = LlavaNextForConditionalGeneration
    processor_class = LlavaNextProcessor
    visual_token = "image_token_id"
    part_type = "image"
    shown_as = "in one run, the images of frames one behind the other"

    @classmethod
    def empty_video(cls, model: Any, num_frames: int, size_px: int, num_words: int) -> Any:
        tile = model.config.vision_config.image_size
        most = 1 + max(height * width for height, width in model.config.image_grid_pinpoints) // tile**2
        pixels = torch.ones(num_frames, most, 3, tile, tile, device=model.device)
        sizes = torch.tensor([[size_px, size_px]] * num_frames)
        return model.model.get_image_features(pixels, sizes).pooler_output

    def video_inputs(self, videos: Sequence[np.ndarray], times: Sequence[np.ndarray]) -> dict[str, Any]:
        token = self.processor.image_token
        found = self.processor(
            text=[self.video_prompt.replace(token, token * len(video)) for video in videos],
            images=[torch.from_numpy(np.array(frame)).permute(2, 0, 1) for video in videos for frame in video],
            padding=True,
            return_tensors="pt",
            add_special_tokens=self.adds_special(self.video_prompt),
        )
        return {name: value for name, value in found.items() if isinstance(value, torch.Tensor)}


load = LlavaNext.open
