"""Qwen3-VL: transformers' Qwen3VL."""

from transformers import Qwen3VLForConditionalGeneration, Qwen3VLProcessor

from stillmotion.backbones.video_llm.qwen_vl import QwenVL


class Qwen3VL(QwenVL):
    """Qwen3-VL."""

    family = "qwen3_vl"
    model_class = Qwen3VLForConditionalGeneration
    processor_class = Qwen3VLProcessor


load = Qwen3VL.open
