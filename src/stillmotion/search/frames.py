"""The frames of found moments as image files."""

import re
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from stillmotion.errors import InputError
from stillmotion.io.atomic import atomic_file, writable_place
from stillmotion.search.ranking import FoundMoment
from stillmotion.video.packed import PackedFrames

LONGEST_ID = 40
"""Characters of a video's id that a file name keeps; a name has 255 bytes, and a character up to four."""


def check_folder(folder: Path) -> None:
    """Raise InputError where frames would mix with other files, or could not be written."""
    if not folder.exists():
        writable_place(folder, folder=True)
    elif not folder.is_dir() or any(folder.iterdir()):
        raise InputError(f"--frames {folder}: is there and not an empty folder; name a new one")


def write_frames(folder: Path, moments: Sequence[FoundMoment], packed: PackedFrames) -> int:
    """Write the frame of each clip of each moment as PNG, as the pipeline stored it.

    Names are `<rank>_<video>_<time>s.png`: ranks from 1, time in seconds from the start of its file; what
    is no letter, digit, dot or hyphen is `_`.

    Args:
        folder: is made where it is not there.
        moments: best first.
        packed: the stored frames.

    Returns:
        How many files there are.

    Raises:
        InputError: the store lacks a video or a frame of it.
    """
    digits = max(2, len(str(len(moments))))
    written = set()
    for rank, moment in enumerate(moments, start=1):
        clips = packed.clip_indices(moment.video_id)[moment.first_clip : moment.end_clip]
        if len(clips) != moment.end_clip - moment.first_clip:
            raise InputError(f"{packed.folder}: fewer frames of {moment.video_id} than are embedded; run `dvc repro`")
        frames, timestamps = packed.at(moment.video_id, clips), packed.timestamps(moment.video_id)[clips]
        name = re.sub(r"[^\w.-]", "_", moment.video_id)[:LONGEST_ID]
        for frame, timestamp in zip(frames, timestamps, strict=True):
            path = folder / f"{rank:0{digits}d}_{name}_{timestamp:08.2f}s.png"
            with atomic_file(path) as partial:
                Image.fromarray(frame).save(partial, format="PNG")
            written.add(path)
    return len(written)
