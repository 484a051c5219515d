"""Video-LLaMA, composed of transformers' parts, as a model of transformers: it is saved and opened as those are.

EVA's ViT-g and a Q-Former look at each frame by itself; a learned position of the frame is added to its queries; a
second Q-Former makes the queries of all frames 32 tokens, which a linear map takes into LLaMA.

Source: Zhang et al. 2023 (arXiv 2306.02858), section 2.1, and what its authors released; METHODS.md section 5.

Shapes: B videos, F frames, Q queries, D width.
"""

from typing import Any, ClassVar

import torch
from torch import nn
from transformers import (
    Blip2QFormerConfig,
    Blip2QFormerModel,
    Blip2VisionConfig,
    Blip2VisionModel,
    LlamaConfig,
    LlamaModel,
    PreTrainedConfig,
    PreTrainedModel,
)


class VideoLlamaConfig(PreTrainedConfig):
    """Of the released model, but for the language model's size."""

    model_type = "video_llama"
    sub_configs_defaults: ClassVar[dict[str, Any]] = {
        "vision_config": Blip2VisionConfig,
        "qformer_config": Blip2QFormerConfig,
        "video_qformer_config": Blip2QFormerConfig,
        "text_config": LlamaConfig,
    }
    vision_config: dict[str, Any] | PreTrainedConfig | None = None
    qformer_config: dict[str, Any] | PreTrainedConfig | None = None
    video_qformer_config: dict[str, Any] | PreTrainedConfig | None = None
    text_config: dict[str, Any] | PreTrainedConfig | None = None
    num_query_tokens: int = 32
    num_video_query_tokens: int = 32
    max_frames: int = 32
    """Rows of the table of frame positions."""

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        tower: Any = self.vision_config
        frames: Any = self.qformer_config
        over_frames: Any = self.video_qformer_config
        frames.encoder_hidden_size = tower.hidden_size
        over_frames.encoder_hidden_size = frames.hidden_size
        over_frames.cross_attention_frequency = 1

    @property
    def video_token_id(self) -> int:
        """Stands for a visual token; no word has it."""
        words: Any = self.text_config
        return int(words.vocab_size)


class VideoLlama(PreTrainedModel):
    """Visual tokens of videos, and the language model that reads them."""

    config_class = VideoLlamaConfig
    base_model_prefix = "video_llama"
    _supports_sdpa = True
    _supports_attention_backend = True
    _no_split_modules = ["LlamaDecoderLayer", "Blip2EncoderLayer", "Blip2QFormerLayer"]

    def __init__(self, config: VideoLlamaConfig):
        """Make all parts with initial weights."""
        super().__init__(config)
        frames: Any = config.qformer_config
        over_frames: Any = config.video_qformer_config
        text: Any = config.text_config
        self.vision_model = Blip2VisionModel._from_config(config.vision_config)
        # Its authors' norm behind the tower is torch's own, those inside are not.
        self.vision_model.post_layernorm.eps = nn.LayerNorm(1).eps
        self.query_tokens = nn.Parameter(torch.zeros(1, config.num_query_tokens, frames.hidden_size))
        self.qformer = Blip2QFormerModel._from_config(frames)
        self.frame_positions = nn.Embedding(config.max_frames, frames.hidden_size)
        self.video_query_tokens = nn.Parameter(torch.zeros(1, config.num_video_query_tokens, over_frames.hidden_size))
        self.video_qformer = Blip2QFormerModel._from_config(over_frames)
        self.language_projection = nn.Linear(over_frames.hidden_size, text.hidden_size)
        self.language_model = LlamaModel._from_config(text)
        self.lm_head = nn.Linear(text.hidden_size, text.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self) -> Any:
        """LLaMA's."""
        return self.language_model.embed_tokens

    def get_output_embeddings(self) -> Any:
        """The head that writes words, of its own tensor where LLaMA's is that of its embeddings."""
        return self.lm_head

    def video_tokens(self, pixels_BFCHW: torch.Tensor) -> torch.Tensor:
        """Visual tokens as they enter the language model: (B, 32, D), of however many frames."""
        num_videos, num_frames = pixels_BFCHW.shape[:2]
        seen = self.vision_model(pixels_BFCHW.flatten(0, 1)).last_hidden_state
        queries = self.query_tokens.expand(num_videos * num_frames, -1, -1)
        asked = self.qformer(query_embeds=queries, encoder_hidden_states=seen).last_hidden_state
        asked_BFQD = asked.unflatten(0, (num_videos, num_frames)) + self.frame_positions.weight[:num_frames, None]
        joined = self.video_qformer(
            query_embeds=self.video_query_tokens.expand(num_videos, -1, -1),
            encoder_hidden_states=asked_BFQD.flatten(1, 2),
        ).last_hidden_state
        tokens: torch.Tensor = self.language_projection(joined.to(self.language_projection.weight.dtype))
        return tokens
