"""The frames store: what is left of the videos once they are decoded.

A folder with

- `videos.jsonl`: the records, with the final status of each video;
- `skipped.jsonl`: video_id, path, split and reason of each that is not ok;
- `frames.jsonl`: for each ok video its id, its file and which rows of it are its, the timestamps of its stored
  frames (seconds from the start of the video file), and which of them are the uniform ones and which stand for the
  clips, as lists of indices (a short video repeats some); a frame that both ask for is stored once;
- `frames/<two digits>.npy`: the frames of the videos of a shard (`video/shards.py`) in order of their ids, (stored
  frames of all, size, size, 3) uint8 RGB, or as JPEG the bytes of all, (bytes,) uint8 (`video/jpeg.py`).

Shapes: F stored frames, U uniform frames, L clips, S size.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from stillmotion.errors import InputError
from stillmotion.io.arrays import load_array
from stillmotion.io.checked import STRICT, read_checked_rows
from stillmotion.io.records import Video, load_records, save_records
from stillmotion.io.tables import write_rows
from stillmotion.video.jpeg import codec_version, decode_jpegs
from stillmotion.video.sampling import span_indices
from stillmotion.video.shards import shard_file


@dataclass(frozen=True, slots=True, eq=False)
class PackedVideo:
    """What the store keeps of a video beside its pixels."""

    probed: dict[str, Any]
    """The columns of Video that a probe fills."""
    timestamps: NDArray[np.float64]
    """(F,) seconds from the start of the video file, ascending."""
    uniform: NDArray[np.int64]
    """(U,) which of the F are the uniform frames."""
    clips: NDArray[np.int64]
    """(L,) which of the F stand for the clips."""
    from_memo: bool
    """An earlier run had decoded it."""
    num_bytes: int | None = None
    """Of its frames as JPEGs; None: they are raw."""


def write_tables(
    folder: Path, videos: Iterable[Video], packed: Mapping[str, PackedVideo], reasons: Mapping[str, str]
) -> list[Video]:
    """Write the three tables of a store whose shards are in place.

    Args:
        folder: The store.
        videos: Every video of the dataset, ok or not.
        packed: What is stored, by video id.
        reasons: Why others could not be, by video id; the rest keep the status that they have.

    Returns:
        The videos with their final status, sorted by id.
    """
    final = []
    for video in sorted(videos, key=lambda video: video.video_id):
        if video.video_id in packed:
            final.append(replace(video, **packed[video.video_id].probed, status="ok"))
        else:
            final.append(replace(video, status=reasons.get(video.video_id, video.status)))
    save_records(folder, Video, final)
    write_rows(
        folder / "skipped.jsonl",
        (
            {"video_id": video.video_id, "path": video.path, "split": video.split, "reason": video.status}
            for video in final
            if not video.ok
        ),
    )
    rows, lengths = [], defaultdict[str, int](int)
    for video in final:
        if video.ok:
            stored, shard = packed[video.video_id], shard_file(video.video_id)
            length = stored.num_bytes or len(stored.timestamps)
            row = {"video_id": video.video_id, "file": shard, "first": lengths[shard], "length": length}
            frames = {"timestamps": stored.timestamps, "uniform": stored.uniform, "clips": stored.clips}
            rows.append(row | frames)
            lengths[shard] += length
    write_rows(folder / "frames.jsonl", rows)
    return final


class SkippedRow(BaseModel):
    """What is read of a row of skipped.jsonl."""

    model_config = STRICT

    video_id: str
    reason: str


class _StoredRow(BaseModel):
    model_config = STRICT

    video_id: str
    file: str
    first: int
    length: int
    timestamps: list[float]
    uniform: list[int]
    clips: list[int]


@dataclass(frozen=True, slots=True)
class _Row:
    file: str
    first: int
    length: int
    timestamps: NDArray[np.float64]
    uniform: NDArray[np.int64]
    clips: NDArray[np.int64]


class PackedFrames:
    """Reads a frames store. Opening it reads the tables; pixels are mapped from disk when asked for."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._records = load_records(folder, Video)

    @property
    def videos(self) -> list[Video]:
        """The videos that have frames, sorted by id."""
        return [video for video in self._records if video.ok]

    @property
    def skipped(self) -> list[Video]:
        """The others; `status` says why."""
        return [video for video in self._records if not video.ok]

    @cached_property
    def _rows(self) -> dict[str, _Row]:
        return {
            row["video_id"]: _Row(
                row["file"],
                row["first"],
                row["length"],
                np.array(row["timestamps"], dtype=np.float64),
                np.array(row["uniform"], dtype=np.int64),
                np.array(row["clips"], dtype=np.int64),
            )
            for row in read_checked_rows(self.folder / "frames.jsonl", _StoredRow)
        }

    def _row(self, video_id: str) -> _Row:
        row = self._rows.get(video_id)
        if row is None:
            raise InputError(f"{self.folder / 'frames.jsonl'}: no frames of video {video_id!r}; see skipped.jsonl")
        return row

    def __contains__(self, video_id: str) -> bool:
        return video_id in self._rows

    def _part(self, video_id: str) -> NDArray[np.uint8]:
        row = self._row(video_id)
        part: NDArray[np.uint8] = load_array(self.folder / row.file)[row.first : row.first + row.length]
        if len(part) != row.length:
            raise InputError(f"{self.folder / row.file}: lacks frames of {video_id!r}; make it anew with `dvc repro`")
        return part

    def all(self, video_id: str) -> NDArray[np.uint8]:
        """(F, S, S, 3) every stored frame in display order, read-only; mapped from disk where they are raw."""
        part = self._part(video_id)
        return part if part.ndim == 4 else self.at(video_id, np.arange(len(self.timestamps(video_id))))

    def at(self, video_id: str, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """(len(indices), S, S, 3) some of the stored frames; no other is read."""
        part, row = self._part(video_id), self._row(video_id)
        if part.ndim == 4:
            return np.asarray(part[indices])
        return decode_jpegs(part, len(row.timestamps), indices, self.folder / row.file)

    def digest(self, video_id: str) -> str:
        """SHA-256 of what decides the stored frames of a video, in hex."""
        part = self._part(video_id)
        digest = hashlib.sha256(str(part.shape if part.ndim == 4 else codec_version()).encode())
        digest.update(part.data)
        return digest.hexdigest()

    def timestamps(self, video_id: str) -> NDArray[np.float64]:
        """(F,) seconds from the start of the video file at which each stored frame appears."""
        return self._row(video_id).timestamps

    def uniform_indices(self, video_id: str) -> NDArray[np.int64]:
        """(U,) which of the stored frames are the uniform ones."""
        return self._row(video_id).uniform

    def clip_indices(self, video_id: str) -> NDArray[np.int64]:
        """(L,) which of the stored frames stand for the clips."""
        return self._row(video_id).clips

    def uniform(self, video_id: str) -> NDArray[np.uint8]:
        """(U, S, S, 3) the middle frames of U equal segments; U is the same for all videos."""
        return self.at(video_id, self.uniform_indices(video_id))

    def clips(self, video_id: str) -> NDArray[np.uint8]:
        """(L, S, S, 3) one frame for each clip of clip_length_s, the last of which may be short."""
        return self.at(video_id, self.clip_indices(video_id))

    def span(
        self, video_id: str, start: float, end: float, num: int, *, rng: np.random.Generator | None = None
    ) -> NDArray[np.uint8]:
        """(num, S, S, 3) the stored frames nearest to a time in each of `num` segments of [start, end] s.

        The time is the middle of the segment, or a random one with `rng`, for training.
        """
        found = span_indices(self.timestamps(video_id), start, end, num, rng=rng)
        return self.at(video_id, found)
