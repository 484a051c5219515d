"""DiDeMo (Hendricks et al. 2017): sentences about moments of the first 30 s of a video, in steps of 5 s.

A video's paragraph is its sentences in the order of the file. Each sentence is also a dense caption and a query; four
to seven annotators marked its moment, and all of them are kept. Its window is the one that agrees best with all.

A name is one of a file: with an extension, or with a dot alone. 62 videos of the validation and test files stand there
under two names that differ in the extension alone: the published 1,065 and 1,004 videos count them once, and so does
an id, which is the name without it. The official downloads are called `<name>.mp4`, with the extension in the name.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillmotion.config.data import BenchmarksParams
from stillmotion.datasets.annotation_faults import Fault, Span, fault_notes, tidy, tidy_texts
from stillmotion.datasets.benchmark import VIDEOS, AnnotationFiles, caption_rows, known_durations
from stillmotion.datasets.source import Annotations, SourceVideo
from stillmotion.datasets.video_files import FoundVideos, find_videos
from stillmotion.datasets.windows import covered_clips
from stillmotion.errors import InputError
from stillmotion.io.memo import Memo
from stillmotion.io.records import Caption, Moment, Split, Video
from stillmotion.io.tables import read_json
from stillmotion.metrics.annotators import NUM_STEPS, STEP_S, Step, step_iou

SPLITS: dict[str, Split] = {"train_data.json": "train", "val_data.json": "validation", "test_data.json": "test"}
FILES = AnnotationFiles("DiDeMo", dict.fromkeys(SPLITS, "github.com/LisaAnne/LocalizingMoments, data"))
USED_S = NUM_STEPS * STEP_S


@dataclass(frozen=True, slots=True)
class Description:
    """A row of a file."""

    qid: int
    text: str
    moments: list[Step]
    """One an annotator."""


@dataclass(frozen=True)
class DidemoSource:
    """The three files, read."""

    splits: Mapping[str, Split]
    """By video id, sorted."""
    rows: Mapping[str, Sequence[Description]]
    """By video id, in the order of the file."""
    found: FoundVideos

    def collect(self, folder: Path, *, workers: int, memo: Memo) -> list[SourceVideo]:
        """The videos where they lie, of which the first 30 s are used."""
        return [SourceVideo(name, split, self.found.files.get(name), USED_S) for name, split in self.splits.items()]

    def annotate(self, videos: Mapping[str, Video], *, clip_length_s: float) -> Annotations:
        """Paragraphs, dense captions, and a query for each sentence."""
        durations, _ = known_durations(dict.fromkeys(self.splits, USED_S), videos)
        faults: dict[str, Counter[Fault]] = {"sentences": Counter(), "annotators' moments": Counter()}
        captions: list[Caption] = []
        moments: list[Moment] = []
        for video_id in self.splits:
            duration = durations[video_id]
            texts, found = tidy_texts(row.text for row in self.rows[video_id])
            faults["sentences"] += found
            dense = []
            for row in self.rows[video_id]:
                inside = [moment for moment in row.moments if moment[0] * STEP_S < duration]
                faults["annotators' moments"]["late"] += len(row.moments) - len(inside)
                words = tidy(row.text)
                if inside and words:
                    window = _window(_agreed(inside), duration)
                    dense.append(Span(words, *window))
                    clips = covered_clips([window], duration=duration, clip_length_s=clip_length_s)
                    marked = [_window(moment, duration) for moment in inside]
                    moments.append(Moment(row.qid, words, video_id, duration, [window], clips, [], marked))
            captions += caption_rows(video_id, [" ".join(texts)] if texts else [], dense)
        return Annotations(captions, moments, [], [*self.found.notes, *fault_notes(faults)])


def read_didemo(folder: Path, params: BenchmarksParams) -> DidemoSource:
    """Read the annotations and find the videos.

    Raises:
        InputError: a file is missing or at fault, a video is in two splits, or no video is there.
    """
    FILES.require(folder, SPLITS)
    splits: dict[str, Split] = {}
    rows: dict[str, list[Description]] = {}
    names: dict[str, str] = {}
    qids: set[int] = set()
    for file, split in SPLITS.items():
        for where, name, row in _read(folder / file):
            video_id = name.rpartition(".")[0] or name
            if splits.setdefault(video_id, split) != split:
                raise InputError(f"{where}: video {video_id!r} is in the {splits[video_id]} split too; remove one")
            if row.qid in qids:
                raise InputError(f"{where}: annotation_id {row.qid} is there twice; remove one")
            qids.add(row.qid)
            rows.setdefault(video_id, []).append(row)
            names |= {name: video_id, video_id: video_id}
    found = find_videos(folder / VIDEOS, splits, spellings=names)
    return DidemoSource(dict(sorted(splits.items())), rows, found)


def _read(path: Path) -> Iterator[tuple[str, str, Description]]:
    """Where each row is, the name of its video, and the rest."""
    content = read_json(path)
    if not isinstance(content, list):
        raise InputError(f"{path}: no list of descriptions; get the file again")
    for number, row in enumerate(content, start=1):
        where = f"{path} row {number}"
        yield (where, *_description(where, row))


def _description(where: str, row: Any) -> tuple[str, Description]:
    try:
        name, moments = str(row["video"]), [(int(first), int(last)) for first, last in row["times"]]
        description = Description(int(row["annotation_id"]), str(row["description"]), moments)
    except (KeyError, TypeError, ValueError, OverflowError):
        raise InputError(
            f"{where}: needs annotation_id, description, video and times ([first, last] step by annotator); mend it"
        ) from None
    if not name or not moments or not all(0 <= first <= last < NUM_STEPS for first, last in moments):
        raise InputError(f"{where}: its times must be pairs of steps from 0 to {NUM_STEPS - 1}, at least one; mend it")
    return name, description


def _agreed(moments: Sequence[Step]) -> Step:
    """The moment with the largest sum of IoUs with all; of equals the earliest, then the shortest."""
    return max(sorted(set(moments)), key=lambda moment: sum(step_iou(moment, other) for other in moments))


def _window(moment: Step, duration: float) -> list[float]:
    """The seconds of a moment; the last step ends with the video."""
    return [moment[0] * STEP_S, min((moment[1] + 1) * STEP_S, duration)]
