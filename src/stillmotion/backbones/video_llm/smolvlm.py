"""SmolVLM2: transformers' SmolVLM, whose videos are images with the time of each told."""

from typing import Any

import torch
from transformers import SmolVLMForConditionalGeneration, SmolVLMProcessor
from transformers.models.smolvlm import processing_smolvlm

from stillmotion.backbones.video_llm.transformers_model import TransformersVideoLLM

_ONES = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]


def in_words(number: int) -> str:
    """A number below 1000 in English, as the package num2words has it. 121 is "one hundred and twenty-one"."""
    if number < 20:
        return _ONES[number]
    if number < 100:
        tens, ones = divmod(number, 10)
        return _TENS[tens - 2] + (f"-{_ONES[ones]}" if ones else "")
    hundreds, rest = divmod(number, 100)
    return f"{_ONES[hundreds]} hundred" + (f" and {in_words(rest)}" if rest else "")


# The processor writes the number of frames in words, and needs a package for that alone.
processing_smolvlm.num2words = processing_smolvlm.num2words or in_words


class SmolVLM(TransformersVideoLLM):
    """SmolVLM2."""

    family = "smolvlm"
    model_class = SmolVLMForConditionalGeneration
    processor_class = SmolVLMProcessor
    visual_token = "image_token_id"
    language_model = "text_model"

    @classmethod
    def empty_video(cls, model: Any, num_frames: int, size_px: int, num_words: int) -> Any:
        pixels = torch.ones(1, num_frames, 3, size_px, size_px, device=model.device)
        return model.model.get_image_features(pixels).pooler_output


load = SmolVLM.open
