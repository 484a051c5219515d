"""The built-in video LLM: a small causal language model that reads the frames of a CLIP of open_clip as visual tokens.

It is to published video LLMs what the built-in CLIP is to CLIP: transformers' own Llama of a small size, behind a
projector of the frames' embeddings, one visual token a frame. Stage finetune trains it to write the paragraph of a
video (training/captioning.py); the image model stays as it is, as in Video-LLaMA. A sequence is a token that begins
it, which counts as the first one of a text, the prompt with the video in its place, and what is written.

Shapes: B videos or texts, F frames, T tokens, L layers, D width.
"""

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence
from transformers import LlamaConfig, LlamaForCausalLM

from stillmotion.backbones.expansion_folder import load_weights, read_settings
from stillmotion.backbones.family_files import write_video_llm
from stillmotion.backbones.open_clip_backbone import OpenClipBackbone, load_open_clip, save_backbone
from stillmotion.backbones.video_llm.model import States, VideoLLM, at_last_tokens
from stillmotion.config.models import BuiltinVideoLLMParams
from stillmotion.config.video_llms import VideoLLMSettings
from stillmotion.datasets.toy_scene import BACKGROUNDS, COLORS, MOTIONS, SHAPES, SIZES
from stillmotion.io.atomic import atomic_folder
from stillmotion.io.tables import write_json
from stillmotion.io.weights import save_tensors

SIZES_FILE, WEIGHTS = "builtin_llm.json", "builtin_llm.safetensors"
BEGIN, END, FIRST_BYTE, FIRST_WORD = 0, 1, 2, 258
"""Token ids: a word of the vocabulary has one, another word those of its bytes."""
CONTEXT = 1024
"""Positions of the language model, which are rotations and no parameters."""


@dataclass(frozen=True)
class LanguageModelSizes:
    """What builtin_llm.json holds: the sizes and the words of the language model."""

    width: int
    blocks: int
    heads: int
    mlp_width: int
    words: list[str]

    def tokens(self, text: str) -> list[int]:
        """Ids of a text's words and marks, in lower case.

        With the words a and red, `A red fox.` is 258, 259, then the bytes f, o, x and the period, each plus 2.
        """
        ids: list[int] = []
        for word in re.findall(r"\w+|[^\w\s]", text.lower()):
            known = [FIRST_WORD + self.words.index(word)] if word in self.words else None
            ids += known or [FIRST_BYTE + byte for byte in word.encode()]
        return ids


def builtin_words() -> list[str]:
    """The words of the built-in dataset, and the mark between its sentences."""
    phrases = [*SIZES, *COLORS, *SHAPES, *BACKGROUNDS, *MOTIONS, "a on background", "."]
    return sorted({word for phrase in phrases for word in phrase.split()})


class BuiltinVideoLLM(VideoLLM):
    """A Llama of a few layers behind the frames of a CLIP."""

    family = "builtin"

    def __init__(self, clip: OpenClipBackbone, settings: VideoLLMSettings, sizes: LanguageModelSizes):
        """Make the model, with initial weights of torch's generator but for the CLIP."""
        super().__init__(settings, num_layers=sizes.blocks, width=sizes.width)
        self.sizes, self.context = sizes, CONTEXT
        self.clip = clip.requires_grad_(False)
        config = LlamaConfig(
            vocab_size=FIRST_WORD + len(sizes.words),
            hidden_size=sizes.width,
            intermediate_size=sizes.mlp_width,
            num_hidden_layers=sizes.blocks,
            num_attention_heads=sizes.heads,
            max_position_embeddings=CONTEXT,
            tie_word_embeddings=True,
            bos_token_id=BEGIN,
            eos_token_id=END,
            pad_token_id=None,
        )
        self.own = nn.ModuleDict(
            {
                "projector": nn.Sequential(
                    nn.LayerNorm(clip.dim),
                    nn.Linear(clip.dim, sizes.width),
                    nn.GELU(),
                    nn.Linear(sizes.width, sizes.width),
                ),
                "llm": LlamaForCausalLM(config),
            }
        )
        before, after = settings.prompt.split("{video}")
        self._around_video = sizes.tokens(before), sizes.tokens(after)
        before, after = settings.text_prompt.split("{text}")
        self._around_text = sizes.tokens(before), sizes.tokens(after)

    @property
    def llm(self) -> Any:
        """The language model."""
        return self.own["llm"]

    @property
    def device(self) -> torch.device:
        return self.clip.device

    def visual_tokens(self, frames_NHWC: np.ndarray) -> torch.Tensor:
        """Frames (N, H, W, 3) to visual tokens (N, D); gradients reach the projector and end there."""
        with torch.no_grad():
            frames_ND = self.clip.embed_frames(self.clip.pixels(frames_NHWC))
        visual: torch.Tensor = self.own["projector"](frames_ND)
        return visual

    def _embed_ids(self, ids: Sequence[int]) -> torch.Tensor:
        embedded: torch.Tensor = self.llm.get_input_embeddings()(torch.tensor(ids, dtype=torch.long).to(self.device))
        return embedded

    def _video_prompts(self, videos: Sequence[np.ndarray]) -> list[torch.Tensor]:
        """Of each video the prompt around its visual tokens, as it enters the language model: (T, D)."""
        before, after = (self._embed_ids(ids) for ids in ([BEGIN, *self._around_video[0]], self._around_video[1]))
        visual = self.visual_tokens(np.concatenate(list(videos))).split([len(video) for video in videos])
        return [torch.cat([before, tokens_FD, after]) for tokens_FD in visual]

    def _states(self, inputs: Sequence[torch.Tensor], counted: Sequence[range]) -> list[States]:
        """Behind a causal mask, padding at the end changes nothing before it."""
        padded_BTD = pad_sequence(list(inputs), batch_first=True)
        found = self.llm.model(inputs_embeds=padded_BTD, output_hidden_states=True, use_cache=False)
        *before, last = found.hidden_states
        normed = [before[0], *(self.llm.model.norm(layer) for layer in before[1:]), last]
        layers_BLTD = torch.stack(normed, dim=1)
        return [
            States(layers_LTD[:, where.start : where.stop], layers_LTD[:, len(given) - 1])
            for layers_LTD, given, where in zip(layers_BLTD, inputs, counted, strict=True)
        ]

    def video_states(self, videos: Sequence[np.ndarray], times: Sequence[np.ndarray] | None = None) -> list[States]:
        """Hidden states at the visual tokens; when a frame is shown is told by its place alone."""
        start = 1 + len(self._around_video[0])
        return self._states(self._video_prompts(videos), [range(start, start + len(video)) for video in videos])

    def text_states(self, texts: Sequence[str]) -> list[States]:
        """Hidden states at the token that begins each text and at its own."""
        before, after = self._around_text
        own = [self.sizes.tokens(text)[: self.settings.max_tokens] for text in texts]
        inputs = [self._embed_ids([BEGIN, *before, *ids, *after]) for ids in own]
        return self._states(inputs, [range(len(before), len(before) + 1 + len(ids)) for ids in own])

    def caption_losses(self, videos: Sequence[np.ndarray], texts: Sequence[str]) -> torch.Tensor:
        """Cross entropy of each text after the prompt of its video, the mean over its tokens and its end: (B,)."""
        prompts = self._video_prompts(videos)
        targets = [torch.tensor([*self.sizes.tokens(text)[: self.settings.max_tokens], END]) for text in texts]
        written_of = [self._embed_ids(ids[:-1].tolist()) for ids in targets]
        inputs = [torch.cat(parts) for parts in zip(prompts, written_of, strict=True)]
        states_BTD = self.llm.model(inputs_embeds=pad_sequence(inputs, batch_first=True), use_cache=False)[0]
        written = [
            states[len(prompt) - 1 : len(given)]
            for states, prompt, given in zip(states_BTD, prompts, inputs, strict=True)
        ]
        lengths = [len(ids) for ids in targets]
        logits = self.llm.lm_head(torch.cat(written))
        losses = functional.cross_entropy(logits.float(), torch.cat(targets).to(self.device), reduction="none")
        return torch.stack([part.mean() for part in losses.split(lengths)])

    def next_tokens(
        self, visual: Sequence[Mapping[str, torch.Tensor]], texts: Sequence[str], prompt: str
    ) -> torch.Tensor:
        """Logits behind questions; it was trained to write captions, and never to say yes or no."""
        inputs = []
        for shown, text in zip(visual, texts, strict=True):
            before, after = (self.sizes.tokens(part.replace("{text}", text)) for part in prompt.split("{video}"))
            told = self._embed_ids([BEGIN, *before]), self._embed_ids(after)
            inputs.append(torch.cat([told[0], shown["tokens"].to(told[0]), told[1]]))
        self.require_context(max(map(len, inputs)))
        states_BTD = self.llm.model(inputs_embeds=pad_sequence(inputs, batch_first=True), use_cache=False)[0]
        logits: torch.Tensor = self.llm.lm_head(at_last_tokens(states_BTD, inputs))
        return logits

    def token_ids(self, word: str) -> list[int]:
        return self.sizes.tokens(word)

    def truncated(self, texts: list[str]) -> np.ndarray:
        return np.array([len(self.sizes.tokens(text)) > self.settings.max_tokens for text in texts], dtype=bool)

    def save(self, folder: Path, source: dict[str, Any]) -> None:
        """Write the files of the CLIP, of the language model and video_llm.json."""
        with atomic_folder(folder) as partial:
            # It fills a folder of its own and puts that in the place of this one, still empty.
            save_backbone(partial, self.clip.model, self.clip.config, source, tokenizer=self.clip.tokenizer)
            write_json(partial / SIZES_FILE, asdict(self.sizes))
            save_tensors(partial / WEIGHTS, self.own.state_dict())
            write_video_llm(partial, self.family, self.num_layers, self.settings)


def expand_video_llm(clip: OpenClipBackbone, params: BuiltinVideoLLMParams) -> BuiltinVideoLLM:
    """A video LLM on a copy of a CLIP, with initial weights from the seed of its params."""
    sizes = LanguageModelSizes(params.width, params.blocks, params.heads, params.mlp_width, builtin_words())
    settings = VideoLLMSettings(**params.model_dump(include=set(VideoLLMSettings.model_fields)))
    own = OpenClipBackbone(copy.deepcopy(clip.model), clip.tokenizer, clip.config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(params.seed)
        return BuiltinVideoLLM(own, settings, sizes).eval()


def load(folder: Path, settings: VideoLLMSettings, device: torch.device, *, seed: int | None = None) -> BuiltinVideoLLM:
    """Load a model folder, ready for inference.

    Raises:
        InputError: a file is missing or does not fit the others; one line that names it.
    """
    sizes = read_settings(folder / SIZES_FILE, LanguageModelSizes, "built-in video LLM")
    with torch.random.fork_rng(devices=[]):
        model = BuiltinVideoLLM(load_open_clip(folder, torch.device("cpu")), settings, sizes)
    load_weights(model.own, folder / WEIGHTS, SIZES_FILE)
    return model.to(device).eval()
