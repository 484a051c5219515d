"""The files below a folder, and the videos of a benchmark among them."""

import contextlib
import os
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stillmotion.errors import InputError

VIDEO_SUFFIXES = frozenset(
    {".3g2", ".3gp", ".asf", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts"}
    | {".ogv", ".ts", ".vob", ".webm", ".wmv"}
    # Of older programs, cameras and studios, and bare streams.
    | {".divx", ".dv", ".f4v", ".m2t", ".m2v", ".mpe", ".mxf", ".ogm", ".qt", ".rm", ".rmvb"}
    | {".h264", ".h265", ".hevc", ".ivf", ".mjpeg", ".y4m"}
)
_MAX_NAMED = 5


@dataclass(frozen=True, slots=True)
class FoundVideos:
    """The files of a benchmark's videos."""

    files: Mapping[str, Path]
    """By video id; a video that is not there has none."""
    notes: Sequence[str]


def list_files(folder: Path) -> dict[str, Path]:
    """Files below `folder` by their path there (slashes, NFC), sorted.

    Links to folders are followed; hidden files and folders are left out, and the `.dvc` files that `dvc add` leaves
    beside what it tracks.

    Raises:
        InputError: a name is not UTF-8, or two names differ in the spelling of an accent alone.
    """
    listed: dict[str, Path] = {}
    seen = set()
    for root, folders, names in os.walk(folder, followlinks=True):
        # A link that leads back up would be walked for ever.
        real = Path(root).resolve()
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            file = Path(root, name)
            relative = file.relative_to(folder).as_posix()
            try:
                relative.encode()
            except UnicodeEncodeError:
                raise InputError(f"{folder}: the file name {relative!r} is not UTF-8; rename it") from None
            composed = unicodedata.normalize("NFC", relative)
            if name.startswith(".") or name.endswith(".dvc"):
                continue
            if composed in listed:
                raise InputError(f"{folder}: {composed!r} is there twice, its accents spelt in two ways; rename one")
            listed[composed] = file
    return dict(sorted(listed.items()))


@contextlib.contextmanager
def untouched(folder: Path) -> Iterator[None]:
    """Hold the files below a folder to what they are when the block begins, until it ends.

    dvc writes down what they are at the end of the stage, and takes what came of the earlier ones for theirs, for good.

    Raises:
        InputError: one has come, changed or gone: it is still being copied, perhaps.
    """
    from stillmotion.video.unchanged import state_of  # which brings a decoder, that a list of files needs not

    before = {path: state_of(file) for path, file in list_files(folder).items()}
    yield
    after = {path: state_of(file) for path, file in list_files(folder).items()}
    changed = sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
    if changed:
        raise InputError(
            f"{folder / changed[0]}: came, changed or went while this folder was read; run this again once nothing "
            "writes there"
        )


def is_video(relative: str) -> bool:
    """Whether the extension is one of a video."""
    return Path(relative).suffix.lower() in VIDEO_SUFFIXES


def find_videos(
    folder: Path, known: Collection[str], *, prefix: str = "", spellings: Mapping[str, str] | None = None
) -> FoundVideos:
    """The video files of a benchmark, in any layout of subfolders.

    A file is known by its name without the extension, alone or after the folder that it is in. What a list calls a
    file is compared with what is below `folder`, and never opened.

    Args:
        folder: where the files are.
        known: the ids of the videos that the annotations name.
        prefix: with which an id begins, though the name of a file need not.
        spellings: ids by whole names of files, whatever the extension. They may name a video twice: its first file
            counts.

    Raises:
        InputError: none of them is there, or a video has two files.
    """
    names: dict[str, str] = {}
    files: dict[str, Path] = {}
    others, copies = [], []
    spellings = spellings or {}
    for relative, file in (list_files(folder) if folder.is_dir() else {}).items():
        path = Path(relative)
        spelt = [spellings.get(path.name)]
        if is_video(relative):
            spelt += [path.stem, prefix + path.stem, f"{path.parent.name}/{path.stem}", spellings.get(path.stem)]
        video_id = next((name for name in spelt if name in known), None)
        if video_id is None:
            others.append(relative)
            continue
        if video_id in files and spellings:
            copies.append(relative)
            continue
        if video_id in files:
            raise InputError(
                f"{folder}: {names[video_id]!r} and {relative!r} are both video {video_id!r}; remove one of them"
            )
        names[video_id], files[video_id] = relative, file
    if not files:
        raise InputError(
            f"{folder}: none of the {len(known)} videos that the annotations name is there; put them there, "
            f"in any layout of subfolders, each named by its id, such as {min(known)}.mp4"
        )
    notes = []
    for left_out, what in ((others, "no videos that the annotations name"), (copies, "further files of a video")):
        if left_out:
            shown = ", ".join(left_out[:_MAX_NAMED]) + (", …" if len(left_out) > _MAX_NAMED else "")
            notes.append(f"{len(left_out)} files are {what} and were left out: {shown}")
    return FoundVideos(files, notes)
