"""Which file is a video of a dataset, and may leave this machine.

A path comes from the dataset's own table and lies below data/sources/NAME or data/raw/NAME; a request names an id, and
never a path. A link on the way may lead

- to another place in the dataset;
- into dvc's cache, from which dvc links what it tracks;
- anywhere, where git records just this link with just this target, as `stillmotion add --no-copy` has it commit. What
  stands there must be no link again.

A link that anybody has put in the place of a video is none of these.
"""

import configparser
import hashlib
import os
import stat
import subprocess
from pathlib import Path, PurePosixPath

import platformdirs

from stillmotion.io.records import Video

KINDS = ("raw", "sources")


def playable(root: Path, dataset: str, video: Video) -> Path | None:
    """The file of a video, with all links followed; None where it may not be read, or is none."""
    parts = PurePosixPath(video.path).parts
    if not video.ok or len(parts) < 4 or parts[0] != "data" or parts[1] not in KINDS or parts[2] != dataset:
        return None
    if ".." in parts or "\0" in video.path:
        return None
    try:
        real = _followed(root, parts)
        return real if real is not None and stat.S_ISREG(real.lstat().st_mode) else None
    except (OSError, RuntimeError):  # it is not there, or a link leads round in a circle
        return None


def _followed(root: Path, parts: tuple[str, ...]) -> Path | None:
    real = (root / parts[0] / parts[1]).resolve(strict=True)
    home = real / parts[2]  # what links may lead to without more ado
    in_git: Path | None = root.joinpath(*parts[:2])
    for part in parts[2:]:
        in_git = None if in_git is None else in_git / part
        link, real = real / part, (real / part).resolve(strict=True)
        if not link.is_symlink() or real.is_relative_to(home.resolve()) and link != home:
            continue
        if any(real.is_relative_to(cache) for cache in _caches(root)):
            continue
        target = Path(os.path.normpath(link.parent / link.readlink()))
        if in_git is None or target != real or not _is_recorded(root, in_git, link):
            return None
        home, in_git = real, None
    return real


def _is_recorded(root: Path, path: Path, link: Path) -> bool:
    """Whether git's index has this link with this target."""
    command = ["git", "--literal-pathspecs", "ls-files", "--stage", "-z", "--", str(path.relative_to(root))]
    done = subprocess.run(command, cwd=root, capture_output=True, check=False)
    mode, _, rest = done.stdout.partition(b" ")
    recorded = rest.partition(b" ")[0].decode()
    target = os.fsencode(link.readlink())
    blob = b"blob %d\0" % len(target) + target
    digest = hashlib.sha256(blob) if len(recorded) == 64 else hashlib.sha1(blob, usedforsecurity=False)
    return mode == b"120000" and recorded == digest.hexdigest()


def _caches(root: Path) -> list[Path]:
    """The folder of dvc's cache: that of its configuration, where the nearer one counts."""
    repo = root / ".dvc"
    for file in (repo / "config.local", repo / "config", platformdirs.user_config_path("dvc", "iterative") / "config"):
        config = configparser.ConfigParser(interpolation=None, strict=False, allow_no_value=True)
        try:
            config.read(file, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError):
            continue
        if folder := config.get("cache", "dir", fallback=None):
            return [(file.parent / folder).resolve()]
    return [(repo / "cache").resolve()]
