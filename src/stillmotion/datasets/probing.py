"""Rows of videos.jsonl from the files of a dataset."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from stillmotion.datasets.source import SourceVideo
from stillmotion.io.records import Video
from stillmotion.stage import Progress
from stillmotion.video.probe import VideoError, probe_video, video_digest
from stillmotion.video.workers import run_in_workers

_MAX_NAMED = 10

_log = logging.getLogger("stillmotion")

PROBED = ("duration", "fps", "num_frames", "width", "height", "codec")


def probe_videos(
    found: Sequence[SourceVideo], *, workers: int, timeout_s: float, path_of: Callable[[Path], str]
) -> list[Video]:
    """A row for each video, in no particular order.

    Args:
        found: the videos, some of which may be missing.
        workers: processes that look into files.
        timeout_s: seconds that one file may take.
        path_of: what a row calls a file.
    """
    by_file = {video.file: video for video in found if video.file is not None}
    videos = [_row(video, "", video.reason) for video in found if video.file is None]
    mended: list[str] = []
    answers = run_in_workers(probe_video, by_file, workers=workers, timeout_s=timeout_s)
    with Progress("videos probed", len(by_file)) as progress:
        for file, probe in answers:
            path = path_of(file)
            if isinstance(probe, VideoError):
                videos.append(_row(by_file[file], path, probe.reason))
            else:
                values = {name: getattr(probe, name) for name in PROBED}
                values["duration"] = min(probe.duration, by_file[file].used_s or probe.duration)
                videos.append(replace(_row(by_file[file], path, "ok"), **values))
                mended += [by_file[file].video_id] if probe.num_mends else []
            progress.advance()
    if mended:
        _log.info("time stamps start again or jump in %s: taken as going on", ", ".join(sorted(mended)[:_MAX_NAMED]))
    return videos


def digest_videos(files: Sequence[Path], *, workers: int, timeout_s: float) -> dict[Path, str | None]:
    """SHA-256 of each file, in hex; None for one that can no longer be read.

    Args:
        files: the videos.
        workers: processes that read them.
        timeout_s: seconds that one file may take.
    """
    answers = run_in_workers(video_digest, files, workers=workers, timeout_s=timeout_s)
    return {file: None if isinstance(digest, VideoError) else digest for file, digest in answers}


def _row(video: SourceVideo, path: str, status: str) -> Video:
    return Video(video.video_id, path, video.split, None, None, None, None, None, None, status)
