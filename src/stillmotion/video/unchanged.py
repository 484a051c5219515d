"""That a video is the file that stage download saw, from the first look at it to the last.

What is made of a video stands for the digest that download wrote down, in dvc.lock, in dvc's cache and in the memo: of
a file that is replaced, still being copied or taken away meanwhile it would stand for another one, for good.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from stillmotion.errors import InputError
from stillmotion.io.tables import read_rows
from stillmotion.video.probe import VideoError, video_digest


def stated_digests(raw: Path) -> dict[str, str | None]:
    """SHA-256 by id of the videos whose tables `raw` holds, as stage download saw them; empty where none are stated."""
    stated = raw.parent / "digests.jsonl"
    return {row["video_id"]: row["sha256"] for row in read_rows(stated)} if stated.is_file() else {}


@contextlib.contextmanager
def unchanged(path: Path, sha256: str | None) -> Iterator[Callable[[], None]]:
    """Hold a video to its digest, where one is stated, and until the block ends to what it is when that begins.

    Yields:
        What looks before the end too: to be called before anything is kept.

    Raises:
        InputError: it is another file, or gone; in the place of a VideoError too, which would be of that one.
    """
    before = state_of(path)

    def look() -> None:
        if state_of(path) != before:
            raise _another(path)

    if sha256 is not None and _digest(path) != sha256:
        raise _another(path)
    try:
        yield look
    finally:
        look()


def _another(path: Path) -> InputError:
    return InputError(
        f"{path}: is gone, or another file than stage download saw; once nothing writes to it, have that look again "
        "(dvc repro --force download), then go on with dvc repro"
    )


def state_of(path: Path) -> tuple[int, int, int] | None:
    """Inode, size and time of change, by which a file that was written is told; None where there is none."""
    with contextlib.suppress(OSError, ValueError):
        state = path.stat()
        return state.st_ino, state.st_size, state.st_mtime_ns
    return None


def _digest(path: Path) -> str | None:
    with contextlib.suppress(VideoError):
        return video_digest(path)
    return None
