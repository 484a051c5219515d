"""A dataset whose files are named in source.yaml: they are fetched, and then seen as if they lay in its folder."""

import contextlib
import logging
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from stillmotion.config.environment import Environment
from stillmotion.datasets.source import SourceVideo
from stillmotion.datasets.source_list import FILE_NAME, Place, placed, read_source_list
from stillmotion.datasets.video_files import is_video, list_files
from stillmotion.errors import InputError
from stillmotion.io.addresses import FetchError, shown
from stillmotion.io.archives import unpack
from stillmotion.io.atomic import atomic_folder, link_or_copy
from stillmotion.io.fetch import fetch_all
from stillmotion.io.fetch_store import Fetched
from stillmotion.io.memo import folder_digest
from stillmotion.io.records import MISSING
from stillmotion.io.tables import read_json, write_json, write_rows
from stillmotion.io.transport import Transport

TABLE = "fetched.jsonl"
FILES = "fetched"
"""The folder of the videos that were fetched, in the raw dataset."""
_DIGEST = "digest.json"
_MAX_NAMED = 3

log = logging.getLogger("stillmotion")


@dataclass(frozen=True)
class Layout:
    """A dataset's folder with everything in its place."""

    folder: Path
    own: Mapping[str, Path] = field(default_factory=dict)
    """What lies in the folder itself, by its path there."""
    fetched: Mapping[str, Path] = field(default_factory=dict)
    lost: Mapping[str, str] = field(default_factory=dict)
    """Why a file can't be had."""
    needed: Mapping[str, str] = field(default_factory=dict)
    """What to say of those among them whose name is no video's."""
    rows: Sequence[Mapping[str, Any]] | None = None
    """What came of each address; None: there is no source.yaml."""

    def settle(self, found: Sequence[SourceVideo], raw: Path, *, max_skip_fraction: float) -> list[SourceVideo]:
        """The videos where they stay: one's own in the source's folder, fetched ones in the raw dataset.

        Writes fetched.jsonl there too, which has the digest of each file: a change of content is a change of it.

        Raises:
            InputError: more videos can't be had than `max_skip_fraction` allows, or something else that is needed.
        """
        if self.rows is None:
            return list(found)
        write_rows(raw / TABLE, self.rows)
        self.check_needed({path for video in found if (path := self._path(video)) is not None})
        settled = [self._settle(video, raw) for video in found]
        lost = [video for video in settled if video.reason != MISSING]
        there = sum(video.file is not None for video in settled)
        if len(lost) > max_skip_fraction * (len(lost) + there):
            named = "; ".join(f"{video.video_id}: {video.reason}" for video in lost[:_MAX_NAMED])
            more = f"; and {len(lost) - _MAX_NAMED} more" if len(lost) > _MAX_NAMED else ""
            raise InputError(
                f"{len(lost)} of {len(lost) + there} videos can't be had ({named}{more}): more than "
                f"sample_frames.max_skip_fraction {max_skip_fraction:g} allows; run it again, which goes on from here, "
                f"mend {FILE_NAME}, or raise the fraction"
            )
        return settled

    def check_needed(self, videos: Collection[str] = ()) -> None:
        """Refuse to go on without what can't be had and is none of the videos: a list, perhaps.

        Raises:
            InputError: names it with its reason.
        """
        needed = [told for path, told in self.needed.items() if path not in videos]
        if needed:
            raise _needed(needed)

    def _path(self, video: SourceVideo) -> str | None:
        """Below the folder; None for one that is missing, or drawn."""
        if video.file is None or not video.file.is_relative_to(self.folder):
            return None
        return video.file.relative_to(self.folder).as_posix()

    def _settle(self, video: SourceVideo, raw: Path) -> SourceVideo:
        path = self._path(video)
        if path is None:
            return video
        if path in self.lost:
            return replace(video, file=None, reason=f"{MISSING}: {self.lost[path]}")
        if path in self.own:
            return replace(video, file=self.own[path])
        link_or_copy(self.fetched[path], raw / FILES / path)
        return replace(video, file=raw / FILES / path)


@contextlib.contextmanager
def laid_out(source: Path, scratch: Path, environment: Environment) -> Iterator[Layout]:
    """The folder of a dataset; with a source.yaml, a folder of links to what is there and what was fetched.

    Args:
        source: data/sources/<name>
        scratch: a folder that is made for the time being; files are fetched into it where there is no memo.
        environment: where fetched files are kept, how many at once, and how long a server may be silent.

    Raises:
        InputError: source.yaml is at fault, or what is no video can't be had: an annotation file, an archive.
    """
    file = source / FILE_NAME
    if not file.is_file():
        yield Layout(source)
        return
    view = scratch / "view" / source.name
    layout = None
    try:
        layout = _lay_out(source, view, _cache(environment.memo, scratch), environment)
        yield layout
    except InputError as error:
        if layout is not None:
            layout.check_needed()  # the error may be that a list is not there
        raise InputError(str(error).replace(str(view), str(source))) from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _cache(memo: Path | None, scratch: Path) -> Path:
    """Where fetched files are kept: in the memo, if there is one that can be written."""
    if memo is None:
        return scratch
    try:
        (memo / FILES).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=memo / FILES):
            return memo
    except OSError as error:
        log.warning("%s: can't be written (%s); what is fetched is not kept", memo, error.strerror)
        return scratch


def _lay_out(source: Path, view: Path, cache: Path, environment: Environment) -> Layout:
    file, root = source / FILE_NAME, cache / FILES
    listed = read_source_list(file)
    transport = Transport(timeout_s=environment.fetch_timeout_s)
    places = placed(listed, transport, file=file)
    answers = fetch_all(
        [place.wanted for place in places],
        root,
        transport,
        parallel=environment.fetches,
        timeout_s=environment.fetch_timeout_s,
        max_bytes=listed.max_bytes,
    )
    own = {path: here for path, here in list_files(source).items() if path != FILE_NAME}
    fetched: dict[str, Path] = {}
    lost: dict[str, str] = {}
    needed: dict[str, str] = {}
    archives: list[str] = []
    for place in places:
        answer = answers[place.wanted]
        if isinstance(answer, FetchError):
            told = f"{shown(place.wanted.url)}: {answer.reason}"
            if place.unpack:
                archives.append(told)
                continue
            lost[place.path] = answer.reason
            if not is_video(place.path):
                needed[place.path] = told
            continue
        for path, there in _files(place, answer, root, max_bytes=listed.max_bytes).items():
            if path in fetched:
                raise InputError(f"{file}: {path!r} comes from two addresses; give one another path")
            fetched[path] = there
    if archives:
        raise _needed([*archives, *needed.values()])
    for path in (*fetched, *lost):
        if path in own:
            raise InputError(f"{file}: {path!r} lies in {source} too; remove it, or its entry")
    for path, there in (own | fetched | {path: view / ".nowhere" for path in lost}).items():
        link = view / path
        link.parent.mkdir(parents=True, exist_ok=True)
        # Of what is lost the link leads nowhere: it is listed, and no file.
        link.symlink_to(there.absolute())
    return Layout(view, own, fetched, lost, needed, [_row(place, answers[place.wanted]) for place in _sorted(places)])


def _needed(told: Sequence[str]) -> InputError:
    more = f"; and {len(told) - _MAX_NAMED} more" if len(told) > _MAX_NAMED else ""
    return InputError(
        f"{FILE_NAME}: without these nobody knows what the dataset holds: {'; '.join(told[:_MAX_NAMED])}{more}; "
        "run it again, which goes on from here, or get them by hand"
    )


def _files(place: Place, answer: Fetched, root: Path, *, max_bytes: int) -> dict[str, Path]:
    """The files that came of an address, by their place."""
    if not place.unpack:
        return {place.path: answer.file}
    folder = root / "unpacked" / answer.sha256[:2] / answer.sha256
    if not _is_whole(folder):
        with atomic_folder(folder) as partial:
            unpack(answer.file, partial / FILES, title=shown(place.wanted.url), max_bytes=max_bytes)
            write_json(partial / _DIGEST, {"sha256": folder_digest(partial / FILES)})
    prefix = f"{place.path}/" if place.path else ""
    return {prefix + path: there for path, there in list_files(folder / FILES).items()}


def _is_whole(folder: Path) -> bool:
    """Whether an archive's files are those that were unpacked there: read whole before they are believed."""
    if not (folder / _DIGEST).is_file():
        return False
    with contextlib.suppress(OSError, InputError, KeyError, TypeError):
        if read_json(folder / _DIGEST)["sha256"] == folder_digest(folder / FILES):
            return True
    log.warning("%s: not the files that were unpacked there; unpacked again", folder)
    return False


def _sorted(places: Sequence[Place]) -> list[Place]:
    return sorted(places, key=lambda place: (place.path, place.wanted.url))


def _row(place: Place, answer: Fetched | FetchError) -> dict[str, Any]:
    row: dict[str, Any] = {"path": place.path, "url": shown(place.wanted.url), "unpack": place.unpack}
    if isinstance(answer, FetchError):
        return row | {"sha256": None, "bytes": None, "status": f"{MISSING}: {answer.reason}"}
    return row | {"sha256": answer.sha256, "bytes": answer.file.stat().st_size, "status": "ok"}
