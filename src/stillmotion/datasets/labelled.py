"""Benchmarks of action recognition: lists of videos that are of one class each."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from stillmotion.datasets.annotation_faults import tidy
from stillmotion.datasets.benchmark import VIDEOS, CaptionedBenchmark, Entry
from stillmotion.datasets.video_files import find_videos
from stillmotion.errors import InputError
from stillmotion.io.records import Split


@dataclass(frozen=True, slots=True)
class LabelledVideo:
    """A row of a list."""

    where: str
    """What an error calls the row."""
    video_id: str
    label: str
    """The class, in words."""
    split: Split
    duration: float | None = None
    """Seconds, where the list states it."""


def labelled_benchmark(folder: Path, rows: Iterable[LabelledVideo]) -> CaptionedBenchmark:
    """A benchmark whose videos have an action over their whole length, and no captions.

    A row that stands twice counts once; a video with rows of two classes has both.

    Raises:
        InputError: a row has no video or no class, a video is in two splits, or no video is there.
    """
    labels: dict[str, dict[str, None]] = {}
    known: dict[str, LabelledVideo] = {}
    num_repeated = 0
    for row in rows:
        label = tidy(row.label)
        if not row.video_id or not label:
            raise InputError(f"{row.where}: no video or no class; fill it in")
        first = known.setdefault(row.video_id, row)
        if first.split != row.split:
            raise InputError(f"{row.where}: video {row.video_id!r} is in the {first.split} split too; remove one")
        of_video = labels.setdefault(row.video_id, {})
        num_repeated += label in of_video
        of_video[label] = None
    entries = {
        name: Entry(known[name].split, known[name].duration, labels=list(labels[name])) for name in sorted(known)
    }
    notes = [f"{num_repeated} rows of the lists stand twice: once"] if num_repeated else []
    return CaptionedBenchmark(entries, find_videos(folder / VIDEOS, entries), notes)
