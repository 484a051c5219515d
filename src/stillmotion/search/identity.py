"""What decides the answer to a question, as one digest: two processes of the same one answer alike."""

import contextlib
import functools
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

READ = (
    "params.yaml",
    "data/embeddings",
    "data/raw/*/tables",
    "data/frames/*/*.jsonl",
    "metrics/moments",
    "metrics/retrieval",
    "models/aggregators",
    "models/backbones",
    "models/thresholds",
)
"""Below the root of a project, what a search may read."""
SETTINGS = ("STILLMOTION_DEVICE", "STILLMOTION_INSTRUCTIONS")


def identity(root: Path) -> str:
    """Digest of the project's place, of the files that a search reads, of this code and of the settings of the process.

    Of a file count its name, size, inode and time of change, and not its bytes: that takes a millisecond, and what was
    written anew is told from what was there.
    """
    places = [place for pattern in READ for place in sorted(root.glob(pattern))]
    told = [str(root.resolve()), *(os.environ.get(name, "") for name in SETTINGS), _code()]
    return hashlib.sha256(json.dumps([told, *map(list, map(_states, places))]).encode()).hexdigest()


@functools.cache
def _code() -> str:
    """Of the modules as they are when this process first asks, which are those that it has imported, or nearly so."""
    return json.dumps(list(_states(Path(__file__).parents[1])))


def _states(place: Path) -> Iterator[tuple[str, int, int, int]]:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):  # a stage has just removed it, to write it anew
        if place.is_dir():
            for entry in sorted(place.iterdir()):
                if entry.name != "__pycache__":
                    yield from _states(entry)
        else:
            state = place.stat()
            yield place.name, state.st_size, state.st_ino, state.st_mtime_ns
