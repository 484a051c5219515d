"""Decode each video once and keep the frames that any later stage asks for.

    python src/sample_frames.py --raw data/raw/toy/tables --output data/frames/toy

Reads videos.jsonl of the raw dataset and the video files it names, relative to the root of the repository, each as
../digests.jsonl knows it.
Writes a frames store (stillmotion/video/packed.py): the frames, frames.jsonl, videos.jsonl with the final
status of each video, and skipped.jsonl. A video that can't be decoded is listed there with the reason; the
run fails when more than max_skip_fraction of the videos that were there are lost, or all of a split.
"""

import stillmotion.config.capped

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from stillmotion.config.environment import read_environment
from stillmotion.config.loading import load_params
from stillmotion.errors import InputError
from stillmotion.io.atomic import atomic_folder
from stillmotion.io.memo import open_memo
from stillmotion.io.records import MISSING, SPLITS, Video, load_records
from stillmotion.provenance import code_version
from stillmotion.stage import Progress, run_stage
from stillmotion.video import packing
from stillmotion.video.packed import PackedVideo, write_tables
from stillmotion.video.probe import VideoError
from stillmotion.video.shards import PARTS, Shards, part_file, shard_file
from stillmotion.video.unchanged import stated_digests
from stillmotion.video.workers import run_in_workers

NUM_REASONS = 3  # lost videos that an error names


def check_losses(videos: Sequence[Video], max_skip_fraction: float) -> None:
    """Raise an InputError with counts, reasons and mend when too many of the videos are lost, or all of a split.

    Files that belong to no split (junk beside the videos of a folder) are listed but count for none, nor do videos
    that a benchmark names but that were never there: every metrics file counts them.
    """
    there = [video for video in videos if video.split in SPLITS and video.status != MISSING]
    for split in SPLITS:
        of_split = [video for video in there if video.split == split]
        if of_split and not any(video.ok for video in of_split):
            raise InputError(
                f"{len(of_split)} of {len(of_split)} {split} videos are lost ({_reasons(of_split)}), and no split may "
                f"be left empty; mend these files, or put others into {split}"
            )
    lost = [video for video in there if not video.ok]
    if len(lost) > max_skip_fraction * len(there):
        raise InputError(
            f"{len(lost)} of {len(there)} videos are lost ({_reasons(lost)}): more than "
            f"sample_frames.max_skip_fraction {max_skip_fraction:g} allows; mend or remove these files, or raise it"
        )


def _reasons(lost: Sequence[Video]) -> str:
    rest = [f"and {len(lost) - NUM_REASONS} more"] if len(lost) > NUM_REASONS else []
    return "; ".join([f"{video.path}: {video.status}" for video in lost[:NUM_REASONS]] + rest)


def main(
    raw: Annotated[Path, typer.Option(help="folder of the raw dataset")],
    output: Annotated[Path, typer.Option(help="folder for the frames store")],
) -> None:
    """Decode each video of RAW once and keep the frames that later stages ask for in OUTPUT."""
    params = load_params()
    environment = read_environment()
    videos = load_records(raw, Video)
    plan = packing.SamplingPlan(**params.sample_frames.model_dump(exclude={"max_skip_fraction"}))
    memo, code = open_memo(environment.memo), code_version(packing.__file__)
    stated = stated_digests(raw)
    packed: dict[str, PackedVideo] = {}
    reasons: dict[str, str] = {}
    with atomic_folder(output) as partial:
        tasks = [
            packing.PackingTask(
                video_id=video.video_id,
                path=Path(video.path),
                target=partial / part_file(video.video_id),
                plan=plan,
                memo=memo,
                code=code,
                duration=video.duration,
                sha256=stated.get(video.video_id),
            )
            for video in sorted(videos, key=lambda video: (shard_file(video.video_id), video.video_id))
            if video.ok
        ]
        shards = Shards(partial, [task.video_id for task in tasks])
        with Progress("sampling frames", len(tasks)) as progress:
            outcomes = run_in_workers(
                packing.pack_video, tasks, workers=environment.workers, timeout_s=environment.video_timeout_s
            )
            for task, outcome in outcomes:
                if isinstance(outcome, VideoError):
                    reasons[task.video_id] = outcome.reason
                else:
                    packed[task.video_id] = outcome
                shards.settle(task.video_id, decoded=task.video_id in packed)
                if isinstance(outcome, PackedVideo) and outcome.from_memo:
                    progress.skip(1)
                else:
                    progress.advance()
        shutil.rmtree(partial / PARTS, ignore_errors=True)  # what lost videos have left
        final = write_tables(partial, videos, packed, reasons)
        check_losses(final, params.sample_frames.max_skip_fraction)
    remembered = sum(video.from_memo for video in packed.values())
    decoded, skipped = len(packed) - remembered, len(videos) - len(packed)
    logging.getLogger("stillmotion").info("%d decoded, %d from the memo, %d skipped", decoded, remembered, skipped)


if __name__ == "__main__":
    run_stage(main)
