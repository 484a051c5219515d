"""QVHighlights (Lei et al. 2021), and the form of its files: JSON Lines, a query a row.

`highlight_train_release.jsonl` is the train split. With `highlight_test_with_gt.jsonl` in the folder that is the test
split and `highlight_val_release.jsonl` the validation split; without it, the latter is the test split, as in most
published tables, and there is no validation split, which moment retrieval does not need.

Numbers, windows, relevant clips and ratings are those of the files. Clips are 2 s long there: where
sample_frames.clip_length_s says otherwise they are worked out from the windows, and the ratings are left out.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillmotion.config.data import BenchmarksParams
from stillmotion.datasets.annotation_faults import Fault, Span, fault_notes, fit_spans, tidy_texts
from stillmotion.datasets.benchmark import VIDEOS, AnnotationFiles, known_durations, source_videos
from stillmotion.datasets.source import Annotations, SourceVideo
from stillmotion.datasets.video_files import FoundVideos, find_videos
from stillmotion.datasets.windows import covered_clips, merge_windows
from stillmotion.errors import InputError
from stillmotion.io.memo import Memo
from stillmotion.io.records import Moment, Split, Video
from stillmotion.io.tables import read_rows

TRAIN, VALIDATION, TEST = (
    "highlight_train_release.jsonl",
    "highlight_val_release.jsonl",
    "highlight_test_with_gt.jsonl",
)
FILES = AnnotationFiles(
    "QVHighlights", dict.fromkeys((TRAIN, VALIDATION, TEST), "github.com/jayleicn/moment_detr, data")
)
RATED_CLIP_S = 2.0
"""Length of the clips that `relevant_clip_ids` counts."""


@dataclass(frozen=True)
class QueriedBenchmark:
    """A benchmark of queries and their moments, without captions."""

    splits: Mapping[str, Split]
    """By video id, sorted."""
    stated: Mapping[str, float]
    """Durations in seconds by video id."""
    queries: Sequence[Moment]
    """As the files give them; no relevant clips where the files name none."""
    found: FoundVideos

    def collect(self, folder: Path, *, workers: int, memo: Memo) -> list[SourceVideo]:
        """The videos where they lie: nothing is copied."""
        return source_videos(self.splits, self.found)

    def annotate(self, videos: Mapping[str, Video], *, clip_length_s: float) -> Annotations:
        """The queries whose windows lie within their videos."""
        durations, notes = known_durations(self.stated, videos)
        texts: Counter[Fault] = Counter()
        windows: Counter[Fault] = Counter()
        moments = []
        for query in self.queries:
            duration = durations[query.vid]
            words, found = tidy_texts([query.query])
            texts += found
            spans, found = fit_spans([Span("window", *window) for window in query.relevant_windows], duration)
            windows += found
            if words and spans:
                merged = merge_windows((span.start, span.end) for span in spans)
                moments.append(_fitted(query, words[0], merged, duration, clip_length_s))
        lost = len(self.queries) - len(moments)
        notes += fault_notes({"queries": texts, "windows": windows})
        notes += [f"{lost} queries have no window left: left out"] if lost else []
        return Annotations([], moments, [], [*self.found.notes, *notes])


def read_qvhighlights(folder: Path, params: BenchmarksParams) -> QueriedBenchmark:
    """Read the annotations and find the videos.

    Raises:
        InputError: a file is missing or at fault, or no video is there.
    """
    FILES.require(folder, [TRAIN, VALIDATION])
    splits: dict[str, Split] = {TRAIN: "train", VALIDATION: "test"}
    if (folder / TEST).is_file():
        splits = {TRAIN: "train", VALIDATION: "validation", TEST: "test"}
    return read_queries(folder, splits)


def read_queries(folder: Path, split_of_file: Mapping[str, Split]) -> QueriedBenchmark:
    """Read files in the form of QVHighlights, where `relevant_clip_ids` and `saliency_scores` may be left out.

    Raises:
        InputError: a file is at fault, a video is in two splits, or no video is there.
    """
    queries: dict[int, Moment] = {}
    splits: dict[str, Split] = {}
    stated: dict[str, float] = {}
    for name, split in split_of_file.items():
        for number, row in enumerate(read_rows(folder / name), start=1):
            where = f"{folder / name} row {number}"
            query = _query(where, row)
            if query.qid in queries:
                raise InputError(f"{where}: qid {query.qid} is there twice; remove one")
            if splits.setdefault(query.vid, split) != split:
                raise InputError(f"{where}: video {query.vid!r} is in the {splits[query.vid]} split too; remove one")
            queries[query.qid] = query
            stated[query.vid] = query.duration
    found = find_videos(folder / VIDEOS, splits)
    return QueriedBenchmark(dict(sorted(splits.items())), stated, list(queries.values()), found)


def _query(where: str, row: dict[str, Any]) -> Moment:
    try:
        query = Moment(
            qid=int(row["qid"]),
            query=str(row["query"]),
            vid=str(row["vid"]),
            duration=float(row["duration"]),
            relevant_windows=[[float(start), float(end)] for start, end in row["relevant_windows"]],
            relevant_clip_ids=[int(clip) for clip in row.get("relevant_clip_ids", [])],
            saliency_scores=[[int(score) for score in scores] for scores in row.get("saliency_scores", [])],
        )
    except (KeyError, TypeError, ValueError):
        raise InputError(
            f"{where}: needs qid, query, vid, duration and relevant_windows ([start, end] in seconds); "
            "take the file that has the truth"
        ) from None
    times = [query.duration, *(time for window in query.relevant_windows for time in window)]
    if not all(math.isfinite(time) and time >= 0 for time in times) or not query.duration > 0:
        raise InputError(f"{where}: its times must be seconds from 0 on, and its duration above 0; mend it")
    if query.saliency_scores and len(query.saliency_scores) != len(query.relevant_clip_ids):
        raise InputError(f"{where}: saliency_scores must hold a row for each of relevant_clip_ids; mend it")
    return query


def _fitted(query: Moment, text: str, windows: list[list[float]], duration: float, clip_length_s: float) -> Moment:
    clips, scores = query.relevant_clip_ids, query.saliency_scores
    kept = [place for place, clip in enumerate(clips) if clip * clip_length_s < duration]
    if kept and clip_length_s == RATED_CLIP_S:
        clips, scores = [clips[place] for place in kept], [scores[place] for place in kept] if scores else []
    else:
        clips, scores = covered_clips(windows, duration=duration, clip_length_s=clip_length_s), []
    return Moment(query.qid, text, query.vid, duration, windows, clips, scores)
