"""InstructBLIP on videos: transformers' InstructBlipVideo, whose Q-Former reads the prompt too, on any frame count."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import InstructBlipVideoForConditionalGeneration, InstructBlipVideoProcessor

from stillmotion.backbones.video_llm.q_former import QFormerVideoLLM
from stillmotion.errors import InputError


class InstructBlipVideo(QFormerVideoLLM):
    """InstructBLIP on videos: 32 tokens a frame."""

    family = "instructblipvideo"
    model_class = InstructBlipVideoForConditionalGeneration
    processor_class = InstructBlipVideoProcessor
    shown_as = "in one run, as the Q-Former made them with the prompt that videos were embedded by"

    def __init__(self, model: Any, processor: Any, *others: Any):
        """Wrap a model and its processor, both of a folder.

        Raises:
            InputError: as others; or its language model reads texts by an encoder, so that no layer is a causal one.
        """
        if not model.config.use_decoder_only_language_model:
            raise InputError(
                f"{others[-1]}: its language model is a {model.config.text_config.model_type}, with an encoder; take "
                "a checkpoint with a Vicuna"
            )
        processor.video_token = str(processor.video_token)  # some versions hold an AddedToken
        super().__init__(model, processor, *others)

    @classmethod
    def decoder(cls, model: Any) -> Any:
        return model.language_model.model

    @classmethod
    def empty_video(cls, model: Any, num_frames: int, size_px: int, num_words: int) -> Any:
        pixels = torch.ones(1, num_frames, 3, size_px, size_px, device=model.device)
        words = torch.ones(1, num_words, dtype=torch.int64, device=model.device)
        return model.get_video_features(pixels, qformer_input_ids=words).pooler_output

    def num_visual(self, num_frames: int) -> int:
        return int(self.model.config.num_query_tokens) * num_frames

    def video_inputs(self, videos: Sequence[np.ndarray], times: Sequence[np.ndarray]) -> dict[str, Any]:
        words = self.processor.qformer_tokenizer("".join(self.prompt_parts()), return_tensors="pt")
        told = {f"qformer_{name}": words[name].expand(len(videos), -1) for name in ("input_ids", "attention_mask")}
        return super().video_inputs(videos, times) | told

    def visual_tokens(self, inputs: dict[str, Any]) -> torch.Tensor:
        names = ("pixel_values", "qformer_input_ids", "qformer_attention_mask")
        found = self.model.get_video_features(**{name: inputs[name] for name in names})
        tokens: torch.Tensor = found.pooler_output
        return tokens


load = InstructBlipVideo.open
