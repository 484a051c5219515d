"""Qwen3-VL: transformers' Qwen3VL."""

from transformers import Qwen3VLForConditionalGeneration, Qwen3VLProcessor

from stillmotion.backbones.video_llm.transformers_model import TransformersVideoLLM


class Qwen3VL(TransformersVideoLLM):
    """Qwen3-VL."""

    family = "qwen3_vl"
    model_class = Qwen3VLForConditionalGeneration
    processor_class = Qwen3VLProcessor
    is_asked = False
    least_frames = 2  # of a temporal patch


load = Qwen3VL.open
