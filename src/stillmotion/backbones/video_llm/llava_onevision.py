"""LLaVA-OneVision: transformers' LlavaOnevision."""

from transformers import LlavaOnevisionForConditionalGeneration, LlavaOnevisionProcessor

from stillmotion.backbones.video_llm.transformers_model import TransformersVideoLLM


class LlavaOnevision(TransformersVideoLLM):
    """LLaVA-OneVision."""

    family = "llava_onevision"
    model_class = LlavaOnevisionForConditionalGeneration
    processor_class = LlavaOnevisionProcessor


load = LlavaOnevision.open
