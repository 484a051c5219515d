"""Qwen2-VL, which VLM2Vec-V2 and LamRA are made of: transformers' Qwen2VL."""

from transformers import Qwen2VLForConditionalGeneration, Qwen2VLProcessor

from stillmotion.backbones.video_llm.qwen_vl import QwenVL


class Qwen2VL(QwenVL):
    """Qwen2-VL."""

    family = "qwen2_vl"
    model_class = Qwen2VLForConditionalGeneration
    processor_class = Qwen2VLProcessor


load = Qwen2VL.open
