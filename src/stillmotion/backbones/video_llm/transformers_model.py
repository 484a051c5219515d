"""A video LLM of transformers: its processor makes the inputs, its model one vision and one language pass of them.

The folder has the hub's layout, so transformers loads it too; beside its files are video_llm.json and source.json.

Shapes: B videos or texts, S tokens with padding, T that count, L layers, D width.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from transformers.utils.logging import disable_progress_bar
from transformers.video_utils import VideoMetadata

from stillmotion.backbones.family_files import VIDEO_LLM, write_video_llm
from stillmotion.backbones.video_llm.hub_layout import initial_model, read_model, read_processor
from stillmotion.backbones.video_llm.model import VideoLLM, at_last_tokens
from stillmotion.backbones.video_llm.pooling import States
from stillmotion.backbones.video_llm.prompts import TEXT, text_prompt, video_prompt
from stillmotion.config.video_llms import VideoLLMSettings
from stillmotion.errors import InputError
from stillmotion.io.atomic import atomic_folder
from stillmotion.io.tables import write_json

TICKS_A_SECOND = 1000
"""Processors are told the times of frames as numbers of frames at a rate."""
disable_progress_bar()  # stages tell of their own
WEIGHTS = (".safetensors", ".safetensors.index.json")


class TransformersVideoLLM(VideoLLM):
    """A model `…ForConditionalGeneration`, whose `model` gives hidden states."""

    model_class: ClassVar[Any]
    """Of transformers."""
    processor_class: ClassVar[Any]
    visual_token: ClassVar[str] = "video_token_id"
    """Name in the configuration of the token that stands for each visual one."""
    language_model: ClassVar[str] = "language_model"
    """Its name in the model."""
    part_type: ClassVar[str] = "video"
    """What its processor has a token for: a `video`, or an `image`, which each frame is then."""
    least_frames: ClassVar[int] = 1
    """Of fewer, the last is repeated."""

    def __init__(self, model: Any, processor: Any, settings: VideoLLMSettings, folder: Path):
        """Wrap a model and its processor, both of a folder.

        Raises:
            InputError: the settings do not fit the model, or the prompts not the chat template.
        """
        text = model.config.get_text_config()
        super().__init__(settings, num_layers=text.num_hidden_layers, width=text.hidden_size)
        self.model, self.processor, self.folder = model.eval(), processor, folder
        self.context = text.max_position_embeddings
        self.tokenizer = processor.tokenizer
        self.tokenizer.padding_side = "right"
        self.norm = self.decoder(model).norm
        self.video_prompt = video_prompt(settings, processor, self.part_type)
        self.text_prompt = text_prompt(settings, processor)

    @classmethod
    def decoder(cls, model: Any) -> Any:
        """The language model of a model of the class, whose `norm` is behind its last block."""
        return getattr(model.model, cls.language_model)

    @classmethod
    def empty_video(cls, model: Any, num_frames: int, size_px: int, num_words: int) -> Any:
        """Visual tokens of an empty video by a model of the class, as they enter the language model.

        Args:
            model: on the meta device, or another.
            num_frames: F.
            size_px: side of a frame, as the processor makes it.
            num_words: tokens of the prompt, where the vision pass reads them.
        """
        pixels = torch.ones(1, num_frames, 3, size_px, size_px, device=model.device)
        return model.model.get_video_features(pixels).pooler_output

    def see(self, inputs: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, torch.Tensor]]]:
        """The inputs, or in place of pixels what the vision pass makes of them; and what is `beside`, of each row."""
        return inputs, [{} for _ in inputs["input_ids"]]

    def hidden_states(self, inputs: dict[str, Any]) -> Sequence[torch.Tensor]:
        """As the model gives them: (B, S, D) of each layer, those in between before its final norm."""
        hidden: Sequence[torch.Tensor] = self.model.model(
            **inputs, output_hidden_states=True, use_cache=False
        ).hidden_states
        return hidden

    @property
    def device(self) -> torch.device:
        return self.model.get_input_embeddings().weight.device

    def video_inputs(self, videos: Sequence[np.ndarray], times: Sequence[np.ndarray]) -> dict[str, Any]:
        """The inputs of the model, padded on the right, for videos of one number of frames and their times."""
        found = self.processor(
            text=[self.video_prompt] * len(videos),
            videos=[torch.from_numpy(np.array(video)).permute(0, 3, 1, 2) for video in videos],
            video_metadata=[shown_at(seconds) for seconds in times],
            do_sample_frames=False,
            padding=True,
            return_tensors="pt",
            add_special_tokens=self.adds_special(self.video_prompt),
        )
        return {name: value for name, value in found.items() if isinstance(value, torch.Tensor)}

    def adds_special(self, prompt: str) -> bool:
        """Whether the tokenizer puts its own beginning before a prompt: not where that has one."""
        bos = self.tokenizer.bos_token
        return bos is None or not prompt.startswith(bos)

    def video_states(self, videos: Sequence[np.ndarray], times: Sequence[np.ndarray] | None = None) -> list[States]:
        """Those of one number of frames share a batch: LLaVA stacks their pixels, SmolVLM's prompt tells the number."""
        times = [np.arange(len(video), dtype=np.float64) for video in videos] if times is None else times
        short = [max(0, self.least_frames - len(video)) for video in videos]
        videos = [np.concatenate([video, *([video[-1:]] * few)]) for video, few in zip(videos, short, strict=True)]
        times = [np.concatenate([shown, *([shown[-1:]] * few)]) for shown, few in zip(times, short, strict=True)]
        states: dict[int, States] = {}
        for num_frames in sorted({len(video) for video in videos}):
            places = [place for place, video in enumerate(videos) if len(video) == num_frames]
            inputs = self.video_inputs([videos[place] for place in places], [times[place] for place in places])
            counted_BS = inputs["input_ids"] == getattr(self.model.config, self.visual_token)
            found = self.states_of(inputs, counted_BS, "num_frames, or the size in its processor's file")
            states |= dict(zip(places, found, strict=True))
        return [states[place] for place in range(len(videos))]

    def _text_tokens(self, text: str) -> tuple[list[int], list[bool]]:
        """Ids of a whole prompt, uncut, and which of them are the text's."""
        before, after = self.text_prompt
        prompt = before + text + after
        found = self.tokenizer(
            prompt, add_special_tokens=self.adds_special(prompt), return_offsets_mapping=True, verbose=False
        )
        first, end = len(before), len(before) + len(text)
        bare = not before and not after  # then what the tokenizer puts around it counts too
        counted = [bare or (start < end and stop > first) for start, stop in found["offset_mapping"]]
        return found["input_ids"], counted

    def text_states(self, texts: Sequence[str]) -> list[States]:
        if not texts:
            return []
        rows, masks = [], []
        for text in texts:
            ids, counted = self._text_tokens(text)
            within = np.cumsum(counted) <= self.settings.max_tokens
            kept = [place for place, is_text in enumerate(counted) if within[place] or not is_text]
            rows.append(torch.tensor([ids[place] for place in kept], dtype=torch.int64))
            masks.append(torch.tensor([counted[place] for place in kept]))
        pad = self.tokenizer.pad_token_id or 0
        inputs = {
            "input_ids": pad_sequence(rows, batch_first=True, padding_value=pad),
            "attention_mask": pad_sequence([torch.ones_like(row) for row in rows], batch_first=True),
        }
        counted_BS = pad_sequence(masks, batch_first=True, padding_value=False)
        return self.states_of(inputs, counted_BS, "max_tokens, or shorten text_prompt")

    def truncated(self, texts: Sequence[str]) -> np.ndarray:
        counts = [sum(self._text_tokens(text)[1]) for text in texts]
        return np.array(counts, dtype=np.int64) > self.settings.max_tokens

    @torch.no_grad()
    def states_of(self, inputs: dict[str, Any], counted_BS: torch.Tensor, mend: str) -> list[States]:
        """Hidden states of a padded batch, of one vision and one language pass.

        Args:
            inputs: of the model, padded on the right.
            counted_BS: the positions that count.
            mend: what to lower where there are more tokens than the model's context.
        """
        length = inputs["input_ids"].shape[1]
        if length > self.context:
            raise InputError(
                f"params.yaml: a prompt of {length} tokens, and the model's context is {self.context}; lower {mend}"
            )
        on_device = {
            name: value.to(self.device, self.model.dtype if value.is_floating_point() else None)
            for name, value in inputs.items()
        }
        seen, beside = self.see(on_device)
        hidden = self.hidden_states(seen)
        states = []
        for row, counted_S in enumerate(counted_BS):
            last = int(inputs["attention_mask"][row].sum()) - 1
            places = torch.cat([counted_S.nonzero()[:, 0], torch.tensor([last])])
            layers_LTD = torch.stack([layer[row, places.to(layer.device)].to(self.device) for layer in hidden])
            layers_LTD[1:-1] = self.norm(layers_LTD[1:-1].to(self.norm.weight.device)).to(self.device)
            states.append(States(layers_LTD[:, :-1], layers_LTD[:, -1], beside[row]))
        return states

    def next_tokens(
        self, visual: Sequence[Mapping[str, torch.Tensor]], texts: Sequence[str], prompt: str
    ) -> torch.Tensor:
        settings = self.settings.model_copy(update={"prompt": prompt.replace("{text}", TEXT)})
        whole = video_prompt(settings, self.processor, self.part_type)
        before, after = whole.split(getattr(self.processor, f"{self.part_type}_token"))
        around = [(before.replace(TEXT, text), after.replace(TEXT, text)) for text in texts]
        logits: torch.Tensor = self.model.get_output_embeddings()(self.asked(visual, around))
        return logits

    def asked(self, visual: Sequence[Mapping[str, torch.Tensor]], around: Sequence[tuple[str, str]]) -> torch.Tensor:
        """The model's state at the last token of each question (N, D).

        Args:
            visual: as of `answers`.
            around: what stands before and behind each of them.
        """
        embed = self.model.get_input_embeddings()
        rows = []
        for shown, (before, after) in zip(visual, around, strict=True):
            words = self.words_around(before, after)
            told = [embed(torch.tensor(ids, dtype=torch.int64, device=self.device)) for ids in words]
            rows.append(torch.cat([told[0], shown["tokens"].to(told[0]), told[1]]))
        states_NSD = self.decoder(self.model)(
            inputs_embeds=pad_sequence(rows, batch_first=True), attention_mask=self.mask_of(rows), use_cache=False
        ).last_hidden_state
        return at_last_tokens(states_NSD, rows)

    def words_around(self, before: str, after: str) -> tuple[list[int], list[int]]:
        """Token ids of a prompt before and behind its video."""
        first = self.tokenizer(before, add_special_tokens=self.adds_special(before))["input_ids"]
        return first, self.tokenizer(after, add_special_tokens=False)["input_ids"]

    def mask_of(self, rows: Sequence[torch.Tensor]) -> torch.Tensor:
        """Which of the padded tokens of questions are theirs (N, S); InputError where one is too long."""
        self.require_context(max(map(len, rows)))
        masks = [torch.ones(len(row), dtype=torch.int64, device=self.device) for row in rows]
        return pad_sequence(masks, batch_first=True)

    def token_ids(self, word: str) -> list[int]:
        ids: list[int] = self.tokenizer(word, add_special_tokens=False)["input_ids"]
        return [] if self.tokenizer.unk_token_id in ids else ids

    def save(self, folder: Path, source: dict[str, Any]) -> None:
        with atomic_folder(folder) as partial:
            for path in sorted(self.folder.iterdir()):
                if path.is_file() and path.name not in (VIDEO_LLM, "source.json"):
                    shutil.copyfile(path, partial / path.name)
            if not any(path.name.endswith(WEIGHTS) for path in partial.iterdir()):
                self.model.save_pretrained(partial)
            write_video_llm(partial, self.family, self.num_layers, self.settings)
            write_json(partial / "source.json", source)

    @classmethod
    def open(
        cls, folder: Path, settings: VideoLLMSettings, device: torch.device, seed: int | None = None
    ) -> "TransformersVideoLLM":
        """Load a folder in the hub's layout, ready for inference; with `seed` its weights are initial ones.

        Raises:
            InputError: a file is missing or does not fit the others; one line that names it.
        """
        processor = read_processor(cls.processor_class, folder)
        model = (
            initial_model(cls.model_class, folder, seed)
            if seed is not None
            else read_model(cls.model_class, folder, settings.precision, device)
        )
        is_spread = hasattr(model, "hf_device_map")
        return cls(model if is_spread else model.to(device), processor, settings, folder)


def shown_at(seconds: np.ndarray) -> VideoMetadata:
    """What a processor is told of frames that are shown at these times (F,)."""
    return VideoMetadata(
        total_num_frames=len(seconds),
        fps=TICKS_A_SECOND,
        duration=float(seconds[-1]),
        frames_indices=np.round(seconds * TICKS_A_SECOND).astype(int).tolist(),
    )
