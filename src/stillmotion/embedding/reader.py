"""The embeddings of a dataset by one model: a folder of memory-mapped arrays.

| file | rows | shape |
|---|---|---|
| frames.npy | with embed.single_frames, or by an image model: stored frames, video after video | (all frames, D) |
| clips.npy | videos × clips: those of the first clip count, of the second … | (V, C, D) |
| actions.npy, actions.jsonl | with embed.spans, labelled spans | (A, D) |
| captions.npy | rows of captions.jsonl in data/raw | (T, D) |
| queries.npy | rows of moments.jsonl in data/raw | (Q, D) |
| classes.npy, classes.json | labels, sorted | (K, D) |
| index.jsonl | videos: id, split, duration, and where their frames lie | |
| contexts.npy | with embed.contexts, X-CLIP's patches of each video as one clip | (V, P, D) |
| caption_lengths.npy | likewise: lengths of the captions' vectors before they were made unit vectors | (T,) |
| prompts.safetensors | likewise: the module that makes a text depend on a video | |
| clip_frames.npy | with embed.tokens, the frames of the one clip that spans a video, beside one another | (V, F, D) |
| caption_tokens.npy | likewise: tokens of the captions that are no padding, caption after caption | (all tokens, D) |
| caption_token_offsets.npy | likewise: where the tokens of each caption begin, and the last ones end | (T + 1,) |
| states/ | of a video LLM: hidden states of several layers and poolings, see states.py | |
| model.json | dimensions, clip counts, frames a clip, views of a span, logit scale, cut texts, digest of the model | |

All vectors but the contexts are float32 of length 1. Videos that could not be decoded, or whose split is not in
embed.splits, have no rows. Captions and queries have, but hold NaN and no tokens where they are of another split.
"""

from collections.abc import Collection
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from stillmotion.errors import InputError
from stillmotion.io.arrays import load_array
from stillmotion.io.checked import MEND, STRICT, Told, read_checked, read_checked_rows
from stillmotion.io.records import Action, load_records


@dataclass(frozen=True, slots=True)
class EmbeddedVideo:
    """A row of index.jsonl."""

    __pydantic_config__ = STRICT | ConfigDict(extra="forbid")

    video_id: str
    split: str
    duration: float
    offset: int
    """First row in frames.npy."""
    count: int
    uniform: list[int]
    """The uniform frames, as positions among this video's rows."""
    clips: list[int]
    """One frame for each clip of sample_frames.clip_length_s, likewise."""

    def row(self) -> dict[str, Any]:
        return asdict(self)


class _System(BaseModel):
    model_config = STRICT

    model: str


class _Description(BaseModel):
    model_config = STRICT

    dim: int = 0
    logit_scale: float = 0.0
    model: str = ""
    system: _System = _System(model="")
    clip_counts: list[int] = []
    clip_frames: int = 0
    span_views: int = 0
    truncated: dict[str, int] = {}
    video_llm: dict[str, Any] = {}


def read_description(path: Path) -> Told:
    """The content of a model.json; a key that is not there is told when it is asked for.

    Raises:
        InputError: see `read_checked`.
    """
    return Told(path, read_checked(path, _Description))


class Embeddings:
    """Reader of an embeddings folder; arrays are opened when they are asked for."""

    def __init__(self, folder: Path):
        if not (folder / "model.json").is_file():
            raise InputError(f"{folder}: no embeddings there; run `dvc repro`")
        self.folder = folder
        self.videos = [EmbeddedVideo(**row) for row in read_checked_rows(folder / "index.jsonl", EmbeddedVideo)]
        self.model = read_description(folder / "model.json")
        self.row_of = {video.video_id: row for row, video in enumerate(self.videos)}

    @cached_property
    def frames(self) -> np.ndarray:
        path = self._optional("frames.npy", "set embed.single_frames: true and embed again")
        num_rows = 0
        for number, video in enumerate(self.videos, start=1):
            places = [*video.uniform, *video.clips]
            if video.offset != num_rows or not video.clips or min(places) < 0 or max(places) >= video.count:
                where = f"{self.folder / 'index.jsonl'} row {number}"
                raise InputError(
                    f"{where}: its frames begin elsewhere than the row before ends, or lack a clip's; {MEND}"
                )
            num_rows += video.count
        return self._vectors(path, num_rows)

    @property
    def system(self) -> dict[str, Any]:
        """The model that made them, as metrics files tell it: what it is made of, and no scorer."""
        return self.model["system"] | {"scorer": None}

    @property
    def told(self) -> dict[str, Any]:
        """What the protocol of metrics files says of the model: of a video LLM, what it was told and what was kept."""
        return {"video_llm": self.model["video_llm"]} if "video_llm" in self.model else {}

    @property
    def has_frames(self) -> bool:
        """Whether stored frames were embedded by themselves."""
        return (self.folder / "frames.npy").is_file()

    @cached_property
    def _clips(self) -> np.ndarray:
        path = self.folder / "clips.npy"
        array, num_clips = self._vectors(path, len(self.videos)), sum(self.clip_counts)
        if array.shape[1:-1] != (num_clips,):
            told = f"but model.json beside it tells of {num_clips} clips a video"
            raise InputError(f"{path}: {array.dtype} of shape {array.shape}, {told}; {MEND}")
        return array

    def _vectors(self, path: Path, num_rows: int | None = None) -> np.ndarray:
        """Rows of vectors as this model makes them; InputError where another table stands there."""
        array, dim = load_array(path), self.model["dim"]
        if array.dtype != np.float32 or array.ndim < 2 or array.shape[-1] != dim:
            told = f"but model.json beside it tells of float32 vectors of {dim}"
            raise InputError(f"{path}: {array.dtype} of shape {array.shape}, {told}; {MEND}")
        if num_rows is not None and len(array) != num_rows:
            raise InputError(f"{path}: {len(array)} rows, but index.jsonl beside it tells of {num_rows}; {MEND}")
        return array

    @property
    def clip_counts(self) -> list[int]:
        """How many clips may stand for a video, rising."""
        return self.model["clip_counts"]

    def clips(self, num_clips: int) -> np.ndarray:
        """The clips (V, num_clips, D) of a video that together span it.

        Raises:
            InputError: num_clips is not one of `clip_counts`.
        """
        if num_clips not in self.clip_counts:
            raise InputError(f"{self.folder}: not embedded as {num_clips} clips; add {num_clips} to embed.clip_counts")
        first = sum(number for number in self.clip_counts if number < num_clips)
        return self._clips[:, first : first + num_clips]

    @cached_property
    def action_spans(self) -> np.ndarray:
        return self._vectors(self._optional("actions.npy", "set embed.spans: true and embed again"))

    @cached_property
    def captions(self) -> np.ndarray:
        return self._vectors(self.folder / "captions.npy")

    @cached_property
    def clip_frames(self) -> np.ndarray:
        return self._vectors(self._tokens("clip_frames.npy"))

    @cached_property
    def caption_tokens(self) -> np.ndarray:
        return self._vectors(self._tokens("caption_tokens.npy"))

    @cached_property
    def caption_token_offsets(self) -> np.ndarray:
        return load_array(self._tokens("caption_token_offsets.npy"))

    @cached_property
    def contexts(self) -> np.ndarray:
        return load_array(self._conditional("contexts.npy"))

    @cached_property
    def caption_lengths(self) -> np.ndarray:
        return load_array(self._conditional("caption_lengths.npy"))

    @property
    def prompts_file(self) -> Path:
        """The prompts generator as `stillmotion.backbones.xclip_prompts.build_prompts` takes it."""
        return self._conditional("prompts.safetensors")

    def _conditional(self, name: str) -> Path:
        return self._optional(name, "set embed.contexts: true and embed with an X-CLIP")

    def _tokens(self, name: str) -> Path:
        return self._optional(name, "set embed.tokens: true and embed again, with a CLIP, a CoCa or a STAN")

    def _optional(self, name: str, mend: str) -> Path:
        path = self.folder / name
        if not path.is_file():
            raise InputError(f"{path}: no such file; {mend}")
        return path

    def require_dataset(
        self, video_ids: Collection[str], num_captions: int, raw: Path, *, num_queries: int | None = None
    ) -> None:
        """Raise InputError where these are no embeddings of the dataset with those videos and texts in `raw`."""
        unknown = [video.video_id for video in self.videos if video.video_id not in video_ids]
        if unknown:
            found = f"its video {unknown[0]!r} is not in {raw / 'videos.jsonl'}"
        elif len(self.captions) != num_captions:
            found = f"it has {len(self.captions)} captions and {raw / 'captions.jsonl'} {num_captions}"
        elif num_queries is not None and len(self.queries) != num_queries:
            found = f"it has {len(self.queries)} queries and {raw / 'moments.jsonl'} {num_queries}"
        else:
            return
        raise InputError(f"{self.folder}: {found}; these embeddings are of another dataset: run the embed stage again")

    def require_model(self, digest: str, trained: Path) -> None:
        """Raise InputError where `trained` was trained on embeddings of another model than the one of this digest."""
        if digest != self.model["model"]:
            raise InputError(
                f"{trained}: trained on the embeddings of another model than {self.folder} holds; train it again"
            )

    @cached_property
    def queries(self) -> np.ndarray:
        return self._vectors(self.folder / "queries.npy")

    @cached_property
    def classes(self) -> np.ndarray:
        return self._vectors(self.folder / "classes.npy")

    @cached_property
    def class_names(self) -> list[str]:
        names: list[str] = read_checked(self.folder / "classes.json", list[str])
        return names

    @cached_property
    def actions(self) -> list[Action]:
        return load_records(self.folder, Action)

    def video_frames(self, video: EmbeddedVideo) -> np.ndarray:
        """All stored frames of a video: (count, D)."""
        return self.frames[video.offset : video.offset + video.count]

    def labelled_spans(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Embeddings (N, D) of a split's labelled spans, and their labels (N,) as rows of `class_names`.

        Raises:
            InputError: the spans, their table, the classes and the videos are not of one another.
        """
        spans, names = self.action_spans, set(self.class_names)
        known = (action.video_id in self.row_of and action.label in names for action in self.actions)
        if len(spans) != len(self.actions) or not all(known):
            raise InputError(
                f"{self.folder / 'actions.jsonl'}: not the table of actions.npy, classes.json and index.jsonl beside "
                f"it; {MEND}"
            )
        rows = [
            row for row, action in enumerate(self.actions) if self.videos[self.row_of[action.video_id]].split == split
        ]
        labels = [self.class_names.index(self.actions[row].label) for row in rows]
        return np.asarray(spans[rows], dtype=np.float64), np.array(labels, dtype=np.int64)
