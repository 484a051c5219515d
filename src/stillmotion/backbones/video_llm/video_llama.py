"""Video-LLaMA: a member composed of parts, opened from our folder or from what its authors released."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, InstructBlipVideoVideoProcessor, ProcessorMixin

from stillmotion.backbones.family_files import write_video_llm
from stillmotion.backbones.video_llm.q_former import QFormerVideoLLM
from stillmotion.backbones.video_llm.transformers_model import TransformersVideoLLM
from stillmotion.backbones.video_llm.video_llama_checkpoint import is_released, read_released
from stillmotion.backbones.video_llm.video_llama_model import VideoLlama
from stillmotion.config.video_llms import VideoLLMSettings
from stillmotion.errors import InputError
from stillmotion.io.atomic import atomic_folder
from stillmotion.io.tables import write_json

SIZE_PX = 224
VIDEO_TOKEN = "<ImageHere>"


class VideoLlamaProcessor(ProcessorMixin):
    """LLaMA's tokenizer, and pictures as BLIP-2 takes them."""

    video_token = VIDEO_TOKEN

    def __init__(self, video_processor: Any = None, tokenizer: Any = None):
        """Hold both."""
        super().__init__(video_processor, tokenizer)


class VideoLlamaMember(QFormerVideoLLM):
    """Video-LLaMA: 32 tokens of at most 32 frames."""

    family = "video_llama"
    model_class = VideoLlama
    processor_class = VideoLlamaProcessor
    unused: list[str] | None = None
    """Of a released checkpoint: tensors that the vision branch has no place for."""

    @classmethod
    def decoder(cls, model: Any) -> Any:
        return model.language_model

    @classmethod
    def empty_video(cls, model: Any, num_frames: int, size_px: int, num_words: int) -> Any:
        return model.video_tokens(torch.ones(1, num_frames, 3, size_px, size_px, device=model.device))

    def num_visual(self, num_frames: int) -> int:
        most = self.model.config.max_frames
        if num_frames > most:
            raise InputError(
                f"params.yaml: num_frames is {num_frames}, and Video-LLaMA knows the positions of {most}; set at most "
                "that many"
            )
        return int(self.model.config.num_video_query_tokens)

    def visual_tokens(self, inputs: dict[str, Any]) -> torch.Tensor:
        tokens: torch.Tensor = self.model.video_tokens(inputs["pixel_values"])
        return tokens

    def save(self, folder: Path, source: dict[str, Any]) -> None:
        if self.unused is None:
            super().save(folder, source)
            return
        with atomic_folder(folder) as partial:
            self.processor.save_pretrained(partial)
            self.model.save_pretrained(partial)
            write_video_llm(partial, self.family, self.num_layers, self.settings)
            write_json(partial / "source.json", source | {"unused_tensors": self.unused})

    @classmethod
    def open(
        cls, folder: Path, settings: VideoLLMSettings, device: torch.device, seed: int | None = None
    ) -> TransformersVideoLLM:
        """Load a folder of ours, or convert a released one; see `read_released`.

        Raises:
            InputError: a file is missing or does not fit the others; one line that names it.
        """
        if seed is not None or not is_released(folder):
            return super().open(folder, settings, device, seed)
        released = read_released(folder)
        pictures = InstructBlipVideoVideoProcessor(size={"height": SIZE_PX, "width": SIZE_PX})
        try:
            tokenizer = AutoTokenizer.from_pretrained(released.language_folder, local_files_only=True)
        except (OSError, ValueError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise InputError(
                f"{released.language_folder}: no tokenizer of LLaMA ({reason:.120}); add its tokenizer files"
            ) from None
        processor = VideoLlamaProcessor(pictures, tokenizer)
        model: Any = released.model
        member = cls(model.to(device), processor, settings, folder)
        member.unused = released.unused
        return member


load = VideoLlamaMember.open
