"""What every video LLM is: hidden states of all layers, for videos and for texts.

It is an `Embeds` by one layer and one pooling, and can't be fine-tuned as a `Backbone`: it has no space that videos and
texts share by training, no temperature, and no layers to freeze. A member wraps one kind of model and gives
`video_states`, `text_states`, `truncated` and `save`; `VIDEO_LLMS` of registry.py names them.

Shapes: N videos or texts, K kept layers, P kept poolings, L layers, T tokens that count, F frames, D width.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from stillmotion.backbones.backbone import Embeds
from stillmotion.backbones.video_llm.layers import kept_layers, kept_row, layer_index
from stillmotion.backbones.video_llm.pooling import States as States
from stillmotion.backbones.video_llm.pooling import pool
from stillmotion.config.video_llms import VideoLLMSettings
from stillmotion.errors import InputError

COUNTS = "_counts"
"""Behind the name of rows that are joined: how many are of each video or text."""
LOGIT_SCALE = 1 / 0.07
"""What CLIP's training starts from: an aggregator learns its own from here."""


def at_last_tokens(states_NSD: torch.Tensor, rows: Sequence[torch.Tensor]) -> torch.Tensor:
    """The states (N, D) at the last tokens of rows that were padded on the right."""
    return torch.stack([states_SD[len(row) - 1] for states_SD, row in zip(states_NSD, rows, strict=True)])


class VideoLLM(Embeds):
    """A language model that reads videos."""

    family: str
    """Its key in VIDEO_LLMS of registry.py."""
    num_layers: int
    """L."""
    width: int
    """D."""
    context: int
    """Tokens that the language model takes at most."""
    beside: ClassVar[tuple[str, ...]] = ()
    """Names of what `answers` needs of a video beside its visual tokens."""
    shown_as: ClassVar[str] = "in one run, without the marks of time that processors write between frames"
    """How `answers` shows visual tokens."""

    def __init__(self, settings: VideoLLMSettings, *, num_layers: int, width: int):
        """Hold a member's settings to its number of layers.

        Raises:
            InputError: a layer of the settings is none of the model's.
        """
        super().__init__()
        self.settings = settings
        self.num_layers, self.width = num_layers, width
        self.dim, self.clip_frames = width, settings.num_frames
        self.kept_layers = kept_layers(settings.layers, num_layers)
        self._rows = [layer_index(name, num_layers) for name in self.kept_layers]
        self._choice = (
            kept_row(settings.layer, self.kept_layers, num_layers),
            settings.poolings.index(settings.pooling),
        )
        layer = settings.keep_tokens_of
        self.tokens_layer = None if layer is None else layer_index(layer, num_layers)

    @abstractmethod
    def video_states(self, videos: Sequence[np.ndarray], times: Sequence[np.ndarray] | None = None) -> list[States]:
        """Hidden states of videos, as one padded batch.

        Args:
            videos: each uint8 (F, H, W, 3) RGB, of any F and size.
            times: when each of their frames is shown, (F,) in seconds; without them one a second.
        """

    @abstractmethod
    def text_states(self, texts: Sequence[str]) -> list[States]:
        """Hidden states of texts, as one padded batch."""

    @torch.no_grad()
    def answers(
        self,
        visual: Sequence[Mapping[str, torch.Tensor]],
        texts: Sequence[str],
        prompt: str,
        *,
        yes: Sequence[str],
        no: Sequence[str],
    ) -> torch.Tensor:
        """How sure the model is to begin its answer by `yes`, of videos with texts, as one padded batch.

        Args:
            visual: of each video `tokens`, the visual ones as they enter the language model (T, D), and what
                `beside` names of its `States`.
            texts: one for each of them.
            prompt: with {video} and {text}.
            yes: words of one token each.
            no: likewise, or none.

        Returns:
            (N,): the logarithm of the probability of `yes` against that of `no`, or of all tokens where that is empty.

        Raises:
            InputError: a word is no token of the model, or the prompt is too long.
        """
        logits_NV = self.next_tokens(visual, texts, prompt).float()
        sure, unsure = (logits_NV[:, [self._only_token(word) for word in words]] for words in (yes, no))
        return sure.logsumexp(1) - (unsure if no else logits_NV).logsumexp(1)

    @abstractmethod
    def next_tokens(
        self, visual: Sequence[Mapping[str, torch.Tensor]], texts: Sequence[str], prompt: str
    ) -> torch.Tensor:
        """Logits of the token that follows each question (N, V), of all V there are; arguments as of `answers`."""

    @abstractmethod
    def token_ids(self, word: str) -> list[int]:
        """The tokens of a word by itself; none where the model lacks one of them."""

    def _only_token(self, word: str) -> int:
        ids = self.token_ids(word)
        if len(ids) != 1:
            bare = word.strip()
            single: dict[int, str] = {}
            for form in (bare, bare.capitalize(), bare.lower(), bare[:1]):
                for spelled in (form, f" {form}"):
                    if len(near := self.token_ids(spelled)) == 1:
                        single.setdefault(near[0], repr(spelled))
            raise InputError(
                f"params.yaml: an answer of scorer rerank is {word!r}, which is no single token of the model; take "
                f"{' or '.join(single.values()) or 'another word'}"
            )
        return ids[0]

    def require_context(self, length: int) -> None:
        """Refuse a question of more tokens than the language model takes."""
        if length > self.context:
            raise InputError(
                f"params.yaml: a question of {length} tokens, and the model's context is {self.context}; lower "
                "num_frames, or shorten the scorer's prompt"
            )

    @property
    def logit_scale(self) -> torch.Tensor:
        return torch.tensor(LOGIT_SCALE)

    def nothing(self) -> torch.Tensor:
        """What is kept of no video or text: (0, K, P, D)."""
        return torch.zeros(0, len(self._rows), len(self.settings.poolings), self.width)

    def chosen(self, pooled_NKPD: torch.Tensor) -> torch.Tensor:
        """Unit vectors (N, D): the layer and the pooling that are the embedding."""
        return functional.normalize(pooled_NKPD[:, *self._choice], dim=-1)

    def keep(self, states: Sequence[States]) -> list[dict[str, torch.Tensor]]:
        """What is kept of each video or text: `pooled` (K, P, D), and with keep_tokens_of its `tokens` (T, D).

        Beside tokens that enter the language model is what that needs to be asked of them again.
        """
        kept = []
        for each in states:
            kept.append({"pooled": pool(each, self.settings.poolings, self._rows).cpu()})
            if self.tokens_layer is not None:
                kept[-1]["tokens"] = each.layers_LTD[self.tokens_layer].float().cpu()
            if self.tokens_layer == 0:
                kept[-1] |= {name: rows.cpu() for name, rows in each.beside.items()}
        return kept

    def _join(self, kept: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        joined = {"pooled": torch.stack([each["pooled"] for each in kept]) if kept else self.nothing()}
        for name in [name for name in kept[0] if name != "pooled"] if kept else []:
            joined[name] = torch.cat([each[name] for each in kept])
            joined[f"{name}{COUNTS}"] = torch.tensor([len(each[name]) for each in kept], dtype=torch.int64)
        return joined

    @torch.no_grad()
    def keep_clips(
        self, frames_THWC: np.ndarray, clips_NF: np.ndarray, frames_a_pass: int, times_T: np.ndarray | None = None
    ) -> dict[str, torch.Tensor]:
        """What is kept of clips of a video, with at most `frames_a_pass` frames in a batch of clips.

        Returns:
            `pooled` (N, K, P, D), of their own length; with keep_tokens_of `tokens` (all, D) and `tokens_counts`
            (N,), and likewise what is `beside` them.
        """
        clips_a_pass = max(1, frames_a_pass // max(1, clips_NF.shape[1]))
        times_T = np.arange(len(frames_THWC), dtype=np.float64) if times_T is None else times_T
        kept = []
        for first in range(0, len(clips_NF), clips_a_pass):
            clips = clips_NF[first : first + clips_a_pass]
            states = self.video_states([frames_THWC[clip_F] for clip_F in clips], [times_T[clip_F] for clip_F in clips])
            kept += self.keep(states)
        return self._join(kept)

    @torch.no_grad()
    def keep_texts(self, texts: Sequence[str], texts_a_pass: int) -> dict[str, torch.Tensor]:
        """What is kept of texts, as of clips; those of like length share a pass."""
        kept: list[dict[str, torch.Tensor]] = [{} for _ in texts]
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        for first in range(0, len(order), texts_a_pass):
            places = order[first : first + texts_a_pass]
            for place, each in zip(places, self.keep(self.text_states([texts[p] for p in places])), strict=True):
                kept[place] = each
        return self._join(kept)

    @torch.no_grad()
    def embed_video(
        self, frames_THWC: np.ndarray, clips_NF: np.ndarray, *, frames_a_pass: int, single_frames: bool = True
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """A frame is a video of one."""
        singles_T1 = np.arange(len(frames_THWC) * single_frames)[:, None]
        frames, clips = (self.keep_clips(frames_THWC, which, frames_a_pass) for which in (singles_T1, clips_NF))
        return self.chosen(frames["pooled"]), self.chosen(clips["pooled"])

    def text_vectors(self, texts: list[str]) -> torch.Tensor:
        return self.chosen(self.keep_texts(texts, len(texts))["pooled"])

    def image_frame(self, image: Image.Image) -> np.ndarray:
        """The image as it is: a video LLM's own processor resizes it."""
        return np.array(image.convert("RGB"))
