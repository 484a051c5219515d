"""ActivityNet Captions (Krishna et al. 2017) and ActivityNet200 (Heilbron et al. 2015), together or alone.

- ActivityNet Captions: the paragraph of a video is its sentences in the order of the file, joined by a space; each
  sentence is also a dense caption and a query. `train.json` gives the train split, less the share that is validation;
  `val_1.json` or `val_2.json` (param download.benchmarks.activitynet_test) the test split. The other file is not read.
- ActivityNet200: the rows `Action` are the actions. A video that the captions name too has the split that it has
  there; of the others, those of the train file are split likewise, those of the valid file are test.

Ids are those of ActivityNet Captions: `v_` and the id at YouTube. The names of files may lack the `v_`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stillmotion.config.data import BenchmarksParams
from stillmotion.datasets.annotation_faults import Span, tidy_texts
from stillmotion.datasets.benchmark import VIDEOS, AnnotationFiles, CaptionedBenchmark, Entry, train_or_validation
from stillmotion.datasets.lists import read_csv
from stillmotion.datasets.video_files import find_videos
from stillmotion.errors import InputError
from stillmotion.io.tables import read_json

PREFIX = "v_"
TRAIN, TESTS = "train.json", ("val_1.json", "val_2.json")
CAPTIONS = AnnotationFiles(
    "ActivityNet Captions",
    dict.fromkeys((TRAIN, *TESTS), "github.com/nautilus-ai/VideoLights, data/activitynet/offical"),
)
TRAIN_ACTIONS, TEST_ACTIONS = (f"activitynet_v1-3_{part}_tsp_groundtruth.csv" for part in ("train", "valid"))
ACTIONS = AnnotationFiles(
    "ActivityNet200",
    dict.fromkeys((TRAIN_ACTIONS, TEST_ACTIONS), "github.com/ttengwang/PDVC, video_backbone/TSP/data/activitynet"),
)
_COLUMNS = ("video-name", "t-start", "t-end", "action-label", "video-duration", "temporal-region-label")


@dataclass(frozen=True, slots=True)
class _Described:
    """A video of ActivityNet Captions."""

    duration: float
    sentences: list[Span]


@dataclass(frozen=True, slots=True)
class _Labelled:
    """A video of ActivityNet200."""

    duration: float
    actions: list[Span]


def read_activitynet(folder: Path, params: BenchmarksParams) -> CaptionedBenchmark:
    """Read what is there of the two benchmarks, and find the videos.

    Raises:
        InputError: a file is missing or at fault, or no video is there.
    """
    entries: dict[str, Entry] = {}
    if CAPTIONS.present(folder):
        test = f"{params.activitynet_test}.json"
        CAPTIONS.require(folder, [TRAIN])
        CAPTIONS.require(folder, [test], mend="put it there, or set download.benchmarks.activitynet_test to the other")
        for video_id, described in _read_captions(folder / test).items():
            entries[video_id] = _described_entry(described, Entry("test", described.duration))
        for video_id, described in _read_captions(folder / TRAIN).items():
            if video_id in entries:
                raise InputError(f"{folder}: video {video_id!r} is in {TRAIN} and in {test}; remove it from one")
            split = train_or_validation(video_id, params)
            entries[video_id] = _described_entry(described, Entry(split, described.duration))
    if ACTIONS.present(folder):
        ACTIONS.require(folder, [TRAIN_ACTIONS, TEST_ACTIONS])
        for video_id, labelled in _read_actions(folder / TRAIN_ACTIONS).items():
            known = entries.get(video_id) or Entry(train_or_validation(video_id, params), labelled.duration)
            entries[video_id] = replace(known, actions=labelled.actions)
        for video_id, labelled in _read_actions(folder / TEST_ACTIONS).items():
            known = entries.get(video_id) or Entry("test", labelled.duration)
            if known.actions:
                raise InputError(
                    f"{folder}: video {video_id!r} is in {TRAIN_ACTIONS} and in {TEST_ACTIONS}; remove it from one"
                )
            entries[video_id] = replace(known, actions=labelled.actions)
    found = find_videos(folder / VIDEOS, entries, prefix=PREFIX)
    return CaptionedBenchmark(dict(sorted(entries.items())), found)


def _described_entry(described: _Described, entry: Entry) -> Entry:
    sentences, _ = tidy_texts(span.text for span in described.sentences)
    paragraph = " ".join(sentences)
    return replace(entry, captions=[paragraph] if paragraph else [], sentences=described.sentences)


def _read_captions(path: Path) -> dict[str, _Described]:
    content = read_json(path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: no object of videos by their ids; get the file again")
    return {video_id: _described(f"{path} video {video_id!r}", row) for video_id, row in content.items()}


def _described(where: str, row: Any) -> _Described:
    try:
        duration, times, sentences = float(row["duration"]), row["timestamps"], row["sentences"]
        spans = [Span(str(text), float(start), float(end)) for (start, end), text in zip(times, sentences, strict=True)]
    except (KeyError, TypeError, ValueError):
        raise InputError(
            f"{where}: needs duration, timestamps ([start, end] in seconds) and as many sentences; mend it"
        ) from None
    _check_times(where, duration, spans)
    return _Described(duration, spans)


def _read_actions(path: Path) -> dict[str, _Labelled]:
    labelled: dict[str, _Labelled] = {}
    for where, row in read_csv(path, _COLUMNS):
        video_id, duration, span = _row(where, row)
        video = labelled.setdefault(video_id, _Labelled(duration, []))
        if row["temporal-region-label"] == "Action":
            video.actions.append(span)
    return labelled


def _row(where: str, row: Mapping[str, str]) -> tuple[str, float, Span]:
    """The id, the duration and the span of a row."""
    try:
        start, end, duration = (float(row[name]) for name in ("t-start", "t-end", "video-duration"))
    except ValueError:
        raise InputError(f"{where}: t-start, t-end and video-duration must be seconds; mend it") from None
    span = Span(row["action-label"], start, end)
    _check_times(where, duration, [span])
    # The file names videos without the prefix, which an id at YouTube may begin with by chance.
    return PREFIX + row["video-name"], duration, span


def _check_times(where: str, duration: float, spans: list[Span]) -> None:
    times = [duration, *(time for span in spans for time in (span.start, span.end))]
    if not all(math.isfinite(time) and time >= 0 for time in times) or not duration > 0:
        raise InputError(f"{where}: its times must be seconds from 0 on, and its duration above 0; mend it")
