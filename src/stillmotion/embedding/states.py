"""Hidden states of videos and captions by a video LLM, of several layers and poolings: memory-mapped arrays.

| file of states/ | what it holds | shape |
|---|---|---|
| states.json | names of the layers and poolings, the model's number of layers, its width D | |
| videos.npy | the one clip that spans a video, as in index.jsonl | (layers, poolings, V, D) |
| captions.npy | rows of captions.jsonl in data/raw; NaN where they are of another split | (layers, poolings, T, D) |
| video_tokens.npy, caption_tokens.npy | with keep_tokens_of: the tokens of that layer, one after the other | (all, D) |
| video_token_offsets.npy, caption_token_offsets.npy | where those of each begin, and the last end | (rows + 1,) |
| video_grid.npy, … | with keep_tokens_of: before_llm what the model's `beside` names, and offsets | (all, columns) |

All are float32, of their own length: norms are part of what alignment heads read.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from stillmotion.backbones.video_llm.layers import kept_row
from stillmotion.backbones.video_llm.model import COUNTS
from stillmotion.embedding.state_embedder import Kept, StateEmbedder
from stillmotion.errors import InputError
from stillmotion.io.arrays import growing_array, load_array, save_array, writable_map
from stillmotion.io.checked import STRICT, read_checked
from stillmotion.io.records import Video
from stillmotion.io.tables import write_json
from stillmotion.stage import Progress
from stillmotion.video.packed import PackedFrames
from stillmotion.video.sampling import clip_layout

FOLDER = "states"


class _Described(BaseModel):
    model_config = STRICT

    layers: list[str]
    poolings: list[str]
    num_layers: int
    width: int


class StoredStates:
    """Reader of the states in an embeddings folder; arrays are opened when they are asked for."""

    def __init__(self, folder: Path):
        """Open `folder`, which holds states/.

        Raises:
            InputError: there are none.
        """
        self.folder = folder / FOLDER
        if not (self.folder / "states.json").is_file():
            raise InputError(f"{folder}: no hidden states; embed a model of family video_llm, and run `dvc repro`")
        described: dict[str, Any] = read_checked(self.folder / "states.json", _Described)
        self.layers: list[str] = described["layers"]
        self.poolings: list[str] = described["poolings"]
        self.num_layers: int = described["num_layers"]
        self.width: int = described["width"]

    def _row(self, layer: str, pooling: str) -> tuple[int, int]:
        row = kept_row(layer, self.layers, self.num_layers)
        if pooling not in self.poolings:
            kept = ", ".join(self.poolings)
            raise InputError(
                f"params.yaml: pooling {pooling!r} is not kept; add it to poolings, or take one of: {kept}"
            )
        return row, self.poolings.index(pooling)

    def videos(self, layer: str, pooling: str) -> np.ndarray:
        """(V, D) of a layer by a pooling; InputError where they are not kept."""
        return load_array(self.folder / "videos.npy")[self._row(layer, pooling)]

    def captions(self, layer: str, pooling: str) -> np.ndarray:
        """(T, D) of a layer by a pooling; InputError where they are not kept."""
        return load_array(self.folder / "captions.npy")[self._row(layer, pooling)]

    @cached_property
    def video_tokens(self) -> tuple[np.ndarray, np.ndarray]:
        """All tokens of the videos (all, D), and where those of each begin and the last ones end (V + 1,)."""
        return self._rows("video", "tokens")

    @cached_property
    def caption_tokens(self) -> tuple[np.ndarray, np.ndarray]:
        """All tokens of the captions (all, D), and where those of each begin and the last ones end (T + 1,)."""
        return self._rows("caption", "tokens")

    def visual(self, row: int, beside: Sequence[str]) -> dict[str, np.ndarray]:
        """The `tokens` of a video, and what the model needs beside them by its name."""
        found = {}
        for name in ("tokens", *beside):
            rows, offsets = self._rows("video", name)
            found[name] = rows[offsets[row] : offsets[row + 1]]
        return found

    def _rows(self, noun: str, name: str) -> tuple[np.ndarray, np.ndarray]:
        path, offsets = _row_files(self.folder, noun, name)
        if not path.is_file():
            raise InputError(f"{path}: no such file; set keep_tokens_of to a layer, and embed again")
        return load_array(path), load_array(offsets)


def _row_files(folder: Path, noun: str, name: str) -> tuple[Path, Path]:
    return folder / f"{noun}_{name}.npy", folder / f"{noun}_{name.removesuffix('s')}_offsets.npy"


def write_states(
    folder: Path,
    embedder: StateEmbedder,
    packed: PackedFrames,
    videos: Sequence[Video],
    captions: Sequence[str | None],
) -> dict[str, Any]:
    """Write states/; one video, or a batch of captions, is in memory at a time.

    Args:
        folder: of the embeddings.
        embedder: of a video LLM, whose memo holds what is written here.
        packed: the stored frames.
        videos: which of the stored ones to embed.
        captions: in the order of captions.npy; one that is None has rows of NaN and no tokens.

    Returns:
        What model.json says of the model: its member and its settings.

    Raises:
        InputError: a video has fewer frames than the model is asked to look at.
    """
    states, model = folder / FOLDER, embedder.backbone
    states.mkdir()
    num_frames = model.settings.num_frames
    clips = [_spanning(packed, video, num_frames) for video in videos]
    short = [video.video_id for video, clip_F in zip(videos, clips, strict=True) if len(set(clip_F)) < num_frames]
    if short:
        raise InputError(
            f"{packed.folder}: {len(short)} videos have fewer frames than num_frames of the model, {num_frames} "
            f"({short[0]} first); set fewer, or take them out of the dataset"
        )

    def of_videos() -> Iterator[Kept]:
        with Progress("hidden states of videos", len(videos)) as progress:
            for video, clip_F in zip(videos, clips, strict=True):
                name = video.video_id
                frames, times = packed.all(name), packed.timestamps(name)
                yield embedder.clip_states(frames, packed.digest(name), clip_F[None], times)[0]
                progress.advance()

    described = {"num_layers": model.num_layers, "width": model.width}
    kept = {"layers": model.kept_layers, "poolings": model.settings.poolings}
    write_json(states / "states.json", described | kept)
    wanted = [text for text in captions if text is not None]
    rows_T = [row for row, text in enumerate(captions) if text is not None]
    _write(states, "video", of_videos(), list(range(len(videos))), len(videos), model.nothing().shape[1:])
    texts = embedder.text_states(wanted, "captions")
    _write(states, "caption", texts, rows_T, len(captions), model.nothing().shape[1:])
    return {"video_llm": {"family": model.family} | model.settings.model_dump()}


def _spanning(packed: PackedFrames, video: Video, num_frames: int) -> np.ndarray:
    """The stored frames of the one clip that spans a video, as in clips.npy: (F,)."""
    uniform = packed.uniform_indices(video.video_id)
    return uniform[clip_layout(len(uniform), num_clips=1, clip_frames=num_frames)[0]]


def _write(
    folder: Path, noun: str, batches: Iterator[Kept], rows: Sequence[int], num_rows: int, shape: tuple[int, ...]
) -> None:
    pooled_KPND = writable_map(folder / f"{noun}s.npy", np.float32, (*shape[:2], num_rows, shape[2]))
    pooled_KPND[:, :, sorted(set(range(num_rows)).difference(rows))] = np.nan
    counts: dict[str, np.ndarray] = {}
    puts: dict[str, Callable[[np.ndarray], None]] = {}
    done = 0
    with ExitStack() as files:
        for kept in batches:
            places = rows[done : done + len(kept["pooled"])]
            done += len(places)
            pooled_KPND[:, :, places] = kept["pooled"].movedim(0, 2).numpy()
            for name in [name.removesuffix(COUNTS) for name in kept if name.endswith(COUNTS)]:
                found = kept[name].numpy()
                if name not in puts:
                    file = growing_array(_row_files(folder, noun, name)[0], found.dtype, found.shape[1])
                    puts[name], counts[name] = files.enter_context(file), np.zeros(num_rows + 1, np.int64)
                puts[name](found)
                counts[name][1:][places] = kept[name + COUNTS].numpy()
    for name, counts_N in counts.items():
        save_array(_row_files(folder, noun, name)[1], counts_N.cumsum())
    pooled_KPND.flush()
