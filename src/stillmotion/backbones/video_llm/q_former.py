"""A video LLM whose visual tokens are queries of a Q-Former: their places are put around the prompt's tokens here.

Their processors make four frames' places alone, or there is none. So the tokenizer, and what prepares pictures, are
asked each by itself, and any number of frames goes through.

Shapes: B videos, F frames, S tokens.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from stillmotion.backbones.video_llm.transformers_model import TransformersVideoLLM


class QFormerVideoLLM(TransformersVideoLLM):
    """Prompts are made of the tokens before the video, its places, and the tokens behind it."""

    @abstractmethod
    def num_visual(self, num_frames: int) -> int:
        """Visual tokens of a video of F frames."""

    @abstractmethod
    def visual_tokens(self, inputs: dict[str, Any]) -> torch.Tensor:
        """As they enter the language model: (B, tokens, D)."""

    def prompt_parts(self) -> tuple[str, str]:
        """The prompt of a video before and behind its place."""
        before, after = self.video_prompt.split(self.processor.video_token)
        return before, after

    def words_around(self, before: str, after: str) -> tuple[list[int], list[int]]:
        # What the tokenizer puts before a text goes before the first words, as both models were trained.
        head = self.tokenizer(before, add_special_tokens=self.adds_special(before))["input_ids"] if before else []
        tail = self.tokenizer(after, add_special_tokens=not before and self.adds_special(after))["input_ids"]
        return head, tail

    def video_inputs(self, videos: Sequence[np.ndarray], times: Sequence[np.ndarray]) -> dict[str, Any]:
        head, tail = self.words_around(*self.prompt_parts())
        count = self.num_visual(len(videos[0]))
        ids_S = torch.tensor([*head, *[self.model.config.video_token_id] * count, *tail])
        frames = [torch.from_numpy(np.array(video)).permute(0, 3, 1, 2) for video in videos]
        ids_BS = ids_S.expand(len(videos), -1)
        pixels = self.processor.video_processor(frames, return_tensors="pt")["pixel_values"]
        return {"input_ids": ids_BS, "attention_mask": torch.ones_like(ids_BS), "pixel_values": pixels}

    def hidden_states(self, inputs: dict[str, Any]) -> Sequence[torch.Tensor]:
        ids_BS = inputs["input_ids"]
        is_visual_BS = ids_BS == self.model.config.video_token_id
        embed = self.model.get_input_embeddings()
        # The token of a place may be none of the vocabulary.
        embedded = embed(ids_BS.masked_fill(is_visual_BS, 0))
        if "pixel_values" in inputs:
            visual = self.visual_tokens(inputs).to(embedded.dtype)
            embedded = embedded.masked_scatter(is_visual_BS[..., None], visual)
        out = self.decoder(self.model)(
            inputs_embeds=embedded,
            attention_mask=inputs["attention_mask"],
            output_hidden_states=True,
            use_cache=False,
        )
        hidden: Sequence[torch.Tensor] = out.hidden_states
        return hidden
