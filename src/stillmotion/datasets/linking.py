"""A dataset's folder as links to files that lie elsewhere, so that adding them moves and copies nothing."""

import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from stillmotion.config.section import MAX_NAME, PathName
from stillmotion.datasets.captions_csv import FILE_NAME
from stillmotion.datasets.video_files import list_files
from stillmotion.errors import InputError


def dataset_name(wanted: str, origin: str, taken: Collection[str]) -> str:
    """The name that was asked for, or where none was, what is left of that of the file or folder.

    Raises:
        InputError: it is none, or a dataset that is drawn has it.
    """
    name = wanted or re.sub(r"[^A-Za-z0-9_.-]+", "_", origin).strip("_.-")[:MAX_NAME]
    try:
        TypeAdapter(PathName).validate_python(name)
    except ValidationError as error:
        if not wanted:
            raise InputError(
                f"{origin!r} makes no name for a dataset; say one with --name, such as my_videos"
            ) from None
        raise InputError(f"--name {error.errors()[0]['ctx']['error']}") from None
    if name in taken:
        raise InputError(f"--name {name}: is a dataset that is drawn; give another")
    return name


def require_no_links(folder: Path) -> None:
    """Refuse a dataset's folder that is a link, or has linked folders in it.

    dvc adds neither: of the first it says so, the others it leaves out without a word.

    Raises:
        InputError: names the link, and what adds the files behind it.
    """
    inside = (Path(root, name) for root, names, _ in os.walk(folder) for name in sorted(names))
    link = next((path for path in (folder, *inside) if path.is_symlink()), None)
    if link is not None:
        raise InputError(
            f"{link}: is a link to a folder, whose files dvc does not see; take the link away and add that folder "
            f"itself: stillmotion add {link.resolve()} --name {folder.name}"
        )


def require_same(folder: Path, files: Mapping[str, Path], origin: Path) -> None:
    """Refuse a dataset that holds other videos: adding a folder again finds half of them there, of the same size.

    Args:
        folder: of the dataset; need not be there.
        files: what is to be linked, by the path below `folder`.
        origin: what an error calls the place where they lie.

    Raises:
        InputError: says how many there are.
    """
    there = {name: file for name, file in _entries(folder).items() if name != FILE_NAME}
    same = [name for name, file in there.items() if name in files and _size(file) == _size(files[name])]
    if 2 * len(same) < len(there):
        raise InputError(
            f"{folder}: there is a dataset of this name, and of its {len(there)} files {len(same)} are in {origin}; "
            "give another --name, or take that folder away first"
        )


def holds_links(folder: Path) -> bool:
    """Whether all that a dataset's folder holds are links, but for a captions.csv."""
    return all(file.is_symlink() for name, file in _entries(folder).items() if name != FILE_NAME)


def link_files(folder: Path, files: Mapping[str, Path]) -> int:
    """Make `folder` hold links to the files and nothing else, but for a captions.csv that it has.

    What is there already goes: the caller has made sure that it is linked, or in dvc's cache.

    Args:
        folder: is made where it is not there.
        files: by the path below `folder`.

    Returns:
        How many files went that are not among these.
    """
    gone = [name for name in _entries(folder) if name not in files and name != FILE_NAME]
    for name in gone:
        (folder / name).unlink()
    for name, file in files.items():
        link = folder / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(file.resolve())
    return len(gone)


def _entries(folder: Path) -> dict[str, Path]:
    return list_files(folder) if folder.is_dir() else {}


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else -1
