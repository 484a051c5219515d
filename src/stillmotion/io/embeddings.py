"""The embeddings of a dataset by one model: a folder of memory-mapped arrays.

| file | rows | shape |
|---|---|---|
| frames.npy | stored frames, video after video | (all frames, D) |
| clips.npy | videos × clips of the uniform frames | (V, C, D) |
| actions.npy, actions.jsonl | labelled spans | (A, D) |
| captions.npy | rows of captions.jsonl in data/raw | (T, D) |
| queries.npy | rows of moments.jsonl in data/raw | (Q, D) |
| classes.npy, classes.json | labels, sorted | (K, D) |
| index.jsonl | videos: id, split, duration, and where their frames lie | |
| model.json | dimensions, logit scale, cut texts, digest of the weights | |

All vectors are float32 of length 1. Videos that could not be decoded have no rows.
"""

from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from stillmotion.errors import InputError
from stillmotion.io.arrays import load_array
from stillmotion.io.tables import read_json, read_rows
from stillmotion.records import Action, load_records


@dataclass(frozen=True, slots=True)
class EmbeddedVideo:
    """A row of index.jsonl."""

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


class Embeddings:
    """Reader of an embeddings folder; arrays are opened when they are asked for."""

    def __init__(self, folder: Path):
        if not (folder / "model.json").is_file():
            raise InputError(f"{folder}: no embeddings there; run `dvc repro`")
        self.folder = folder
        self.videos = [EmbeddedVideo(**row) for row in read_rows(folder / "index.jsonl")]
        self.model: dict[str, Any] = read_json(folder / "model.json")
        self.row_of = {video.video_id: row for row, video in enumerate(self.videos)}

    @cached_property
    def frames(self) -> np.ndarray:
        return load_array(self.folder / "frames.npy")

    @cached_property
    def clips(self) -> np.ndarray:
        return load_array(self.folder / "clips.npy")

    @cached_property
    def action_spans(self) -> np.ndarray:
        return load_array(self.folder / "actions.npy")

    @cached_property
    def captions(self) -> np.ndarray:
        return load_array(self.folder / "captions.npy")

    @cached_property
    def queries(self) -> np.ndarray:
        return load_array(self.folder / "queries.npy")

    @cached_property
    def classes(self) -> np.ndarray:
        return load_array(self.folder / "classes.npy")

    @cached_property
    def class_names(self) -> list[str]:
        return read_json(self.folder / "classes.json")

    @cached_property
    def actions(self) -> list[Action]:
        return load_records(self.folder, Action)

    def video_frames(self, video: EmbeddedVideo) -> np.ndarray:
        """All stored frames of a video: (count, D)."""
        return self.frames[video.offset : video.offset + video.count]

    def labelled_spans(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Embeddings (N, D) of a split's labelled spans, and their labels (N,) as rows of `class_names`."""
        rows = [
            row for row, action in enumerate(self.actions) if self.videos[self.row_of[action.video_id]].split == split
        ]
        labels = [self.class_names.index(self.actions[row].label) for row in rows]
        return np.asarray(self.action_spans[rows], dtype=np.float64), np.array(labels, dtype=np.int64)
