"""A dataset's folder in dvc and git, from where experiments take it."""

import json
import shutil
from pathlib import Path

from stillmotion.errors import InputError
from stillmotion.experiments.dvc_queue import _dvc, _git
from stillmotion.io.atomic import atomic_file


def only_here(folder: Path) -> list[str]:
    """Files of a dataset's folder, by their path there, that are nowhere else: no links, and not in dvc's cache."""
    if not folder.exists():
        return []
    if not Path(f"{folder}.dvc").exists():
        # git has links, and what else it tracks can be had again from it.
        changed = _git("ls-files", "-z", "--others", "--modified", "--", str(folder)) or ""
        paths = [Path(path) for path in changed.split("\0") if path]
        return sorted(path.relative_to(folder).as_posix() for path in paths if path.exists() and not path.is_symlink())
    status = json.loads(_dvc("data", "status", "--granular", "--json", str(folder))).get("uncommitted", {})
    changed_paths = [Path(path) for kind in ("added", "modified") for path in status.get(kind, [])]
    files = [path for path in changed_paths if path.is_relative_to(folder) and path != folder]
    return sorted(path.relative_to(folder).as_posix() for path in files if not path.is_symlink())


def is_in_git(folder: Path) -> bool:
    """Whether git tracks files of the folder itself."""
    return bool(_git("ls-files", "--", str(folder)))


def require_room(folder: Path, num_bytes: int, mend: str) -> None:
    """Raise InputError where dvc's cache can't take so many bytes more."""
    free = shutil.disk_usage(folder).free
    if num_bytes > free:
        raise InputError(
            f"dvc keeps a copy of each file in its cache: {num_bytes / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free; "
            f"{mend}"
        )


def track(folder: Path, *, in_dvc: bool) -> str:
    """Have dvc, or git alone, track a dataset's folder, and commit just that; return the subject of the commit.

    The captions.csv stays a file that can be edited, which dvc would protect.

    Raises:
        InputError: dvc or git refuses.
    """
    paths = [str(folder)]
    if in_dvc:
        _dvc("add", str(folder))
        paths = [f"{folder}.dvc", str(folder.parent / ".gitignore")]
        captions = folder / "captions.csv"
        if captions.exists():
            with atomic_file(captions) as partial:
                shutil.copyfile(captions, partial)
    message = f"Add the dataset {folder.name}"
    by_hand = f"git add {' '.join(paths)} && git commit"
    if _git("add", "--", *paths) is None:
        raise InputError(f"git does not take it; run: {by_hand}")
    if _git("diff", "--cached", "--quiet", "--", *paths) is not None:
        return ""
    if _git("commit", "--quiet", "--message", message, "--", *paths) is None:
        raise InputError(f"git does not commit it, which experiments start from; run: {by_hand}")
    return message
