"""Where the frames of a video lie in a store, and how they come there.

However many videos there are, their frames are in NUM_SHARDS files at most, so that DVC and file systems look at few,
and one more video changes one of them. A video is decoded to a part, a file of its own; as soon as the last video of a
shard is done, its parts are joined and removed, so that a store in the making needs the room of one more shard.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from stillmotion.io.arrays import join_arrays

NUM_SHARDS = 256
PARTS = "parts"
"""The folder of the parts, in that of the store."""


def _digest(video_id: str) -> str:
    # Ids may hold anything, slashes and letters that differ in case alone included; a hash is a safe name everywhere.
    return hashlib.sha256(video_id.encode("utf-8", "surrogatepass")).hexdigest()


def shard_file(video_id: str) -> str:
    """The file that holds a video's frames, relative to the store."""
    return f"frames/{int(_digest(video_id)[:8], 16) % NUM_SHARDS:02x}.npy"


def part_file(video_id: str) -> str:
    """The file that a video's frames are decoded to, relative to the store."""
    return f"{PARTS}/{_digest(video_id)[:32]}.npy"


def join_parts(folder: Path, video_ids: Iterable[str]) -> None:
    """Make the shards of a store from the parts of these videos, all of each shard, in order of their ids."""
    shards = defaultdict(list)
    for video_id in sorted(video_ids):
        shards[shard_file(video_id)].append(folder / part_file(video_id))
    for shard, parts in shards.items():
        join_arrays(folder / shard, parts)
        for part in parts:
            part.unlink()


class Shards:
    """Joins parts as soon as their shard is complete."""

    def __init__(self, folder: Path, video_ids: Iterable[str]):
        """Begin with videos of which none is decoded or lost."""
        self._folder = folder
        self._waiting: dict[str, int] = defaultdict(int)
        self._decoded: dict[str, list[str]] = defaultdict(list)
        for video_id in video_ids:
            self._waiting[shard_file(video_id)] += 1

    def settle(self, video_id: str, *, decoded: bool) -> None:
        """Count a video as done; what a lost one has left of a part is not joined."""
        shard = shard_file(video_id)
        self._waiting[shard] -= 1
        if decoded:
            self._decoded[shard].append(video_id)
        if not self._waiting[shard]:
            join_parts(self._folder, self._decoded.pop(shard, []))
