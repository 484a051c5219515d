"""Qwen2-VL, which VLM2Vec-V2 and LamRA are made of: transformers' Qwen2VL."""

from transformers import Qwen2VLForConditionalGeneration, Qwen2VLProcessor

from stillmotion.backbones.video_llm.transformers_model import TransformersVideoLLM


class Qwen2VL(TransformersVideoLLM):
    """Qwen2-VL."""

    family = "qwen2_vl"
    model_class = Qwen2VLForConditionalGeneration
    processor_class = Qwen2VLProcessor
    is_asked = False
    least_frames = 2  # of a temporal patch


load = Qwen2VL.open
