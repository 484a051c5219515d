"""Stage download: from a dataset's name to its video files and canonical tables.

    python src/download.py --source data/sources/toy --output data/raw/toy

The dataset is named like the folder of `--source`: one of `download.generated`, as `toy` is, is drawn into
data/raw/toy/videos; any other is a folder of videos, perhaps with a captions.csv (stillmotion/datasets/folder.py), or
with the annotation files of a public benchmark (data/sources/README.md), whose files stay where they are. Files that
its source.yaml names are fetched, and seen as if they lay there: the videos among them go to fetched/, and what came of
each address to fetched.jsonl. Writes tables/ with videos.jsonl, captions.jsonl, moments.jsonl and actions.jsonl, and
digests.jsonl: what decodes videos depends on that, as DVC would look at each of them again for every stage that names
their folder. A video that can't be read, or that a benchmark names but that is not there, keeps its row, with the
reason as its status.
"""

import stillmotion.config.capped

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from stillmotion.config.environment import read_environment
from stillmotion.config.loading import load_params
from stillmotion.datasets.fetched import laid_out
from stillmotion.datasets.probing import digest_videos, probe_videos
from stillmotion.datasets.registry import open_source
from stillmotion.datasets.source import Annotations
from stillmotion.datasets.video_files import untouched
from stillmotion.io.atomic import atomic_folder
from stillmotion.io.memo import open_memo
from stillmotion.io.records import MISSING, SPLITS, TABLES, Action, Caption, Moment, Video, save_records
from stillmotion.io.tables import write_rows
from stillmotion.stage import run_stage

MAX_LISTED = 10

log = logging.getLogger("stillmotion")


def main(
    source: Annotated[Path, typer.Option(help="data/sources/NAME; the dataset is called NAME")],
    output: Annotated[Path, typer.Option(help="folder of the tables, and of videos that are generated")],
) -> None:
    """Turn a dataset's source into video files and canonical tables."""
    params = load_params()
    environment = read_environment()
    with (
        atomic_folder(output) as folder,
        untouched(source),
        laid_out(source, folder / ".source", environment) as layout,
    ):
        dataset = open_source(layout.folder, params.download)
        found = dataset.collect(folder, workers=environment.workers, memo=open_memo(environment.memo))
        found = layout.settle(found, folder, max_skip_fraction=params.sample_frames.max_skip_fraction)
        videos = probe_videos(
            found,
            workers=environment.workers,
            timeout_s=environment.video_timeout_s,
            # What was made is in the temporary folder that becomes `output`.
            path_of=lambda file: _from_here(output / file.relative_to(folder) if file.is_relative_to(folder) else file),
        )
        annotations = dataset.annotate(
            {video.video_id: video for video in videos}, clip_length_s=params.sample_frames.clip_length_s
        )
        tables = folder / "tables"  # apart, as most stages depend on them alone
        save_records(tables, Video, videos)
        save_records(tables, Caption, annotations.captions)
        save_records(tables, Moment, annotations.moments)
        save_records(tables, Action, annotations.actions)
        readable = {video.video_id for video in videos if video.ok}
        files = {video.video_id: video.file for video in found if video.file is not None and video.video_id in readable}
        digests = digest_videos(
            list(files.values()), workers=environment.workers, timeout_s=environment.video_timeout_s
        )
        rows = [{"video_id": video_id, "sha256": digests[files[video_id]]} for video_id in sorted(files)]
        write_rows(folder / "digests.jsonl", rows)
    _tell(videos, annotations)


def _from_here(path: Path) -> str:
    """The path relative to the root of the repository, which is the working folder of every stage."""
    here = Path.cwd()
    return (path.relative_to(here) if path.is_relative_to(here) else path).as_posix()


def _tell(videos: Sequence[Video], annotations: Annotations) -> None:
    counts = Counter(video.split for video in videos)
    missing = Counter(video.split for video in videos if video.status == MISSING)
    lacking = {split: f" ({missing[split]} missing)" if missing[split] else "" for split in SPLITS}
    log.info("videos: %s", ", ".join(f"{counts[split]} {split}{lacking[split]}" for split in SPLITS))
    _list("are missing", [video for video in videos if video.status == MISSING], len(videos))
    _list("can't be read", [video for video in videos if not video.ok and video.status != MISSING], len(videos))
    for note in annotations.notes:
        log.info("%s", note)
    lengths = {Caption: len(annotations.captions), Moment: len(annotations.moments), Action: len(annotations.actions)}
    for kind, length in lengths.items():
        log.info("%s: %s", TABLES[kind], f"{length} rows" if length else "empty, which is allowed")


def _list(fate: str, lost: Sequence[Video], total: int) -> None:
    if lost:
        log.warning("%d of %d videos %s:", len(lost), total, fate)
    for video in sorted(lost, key=lambda video: video.video_id)[:MAX_LISTED]:
        log.warning("  %s: %s", video.video_id, video.status)
    if len(lost) > MAX_LISTED:
        log.warning("  … all of them are in %s", TABLES[Video])


if __name__ == "__main__":
    run_stage(main)
