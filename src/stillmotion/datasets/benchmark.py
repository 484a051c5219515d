"""A public benchmark in data/sources/<name>/: its annotation files under their public names, and videos/.

The annotations decide which videos there are and in which split. A video without a file is kept, as missing, with all
its captions, moments and actions, so that every metrics file can count what it lacks; where a video could not be
probed, its annotations are fitted to the duration that they state.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stillmotion.config.bounds import MAX_DURATION_S
from stillmotion.config.data import BenchmarksParams, FolderParams
from stillmotion.datasets.annotation_faults import Fault, Span, fault_notes, fit_spans, tidy, tidy_texts
from stillmotion.datasets.folder import split_by_hash
from stillmotion.datasets.source import Annotations, SourceVideo
from stillmotion.datasets.video_files import FoundVideos
from stillmotion.datasets.windows import covered_clips, merge_windows
from stillmotion.errors import InputError
from stillmotion.io.memo import Memo
from stillmotion.io.records import Action, Caption, Moment, Split, Video

VIDEOS = "videos"
"""The folder of the video files, beside the annotations."""
DIFFERENCE_S = 2.0
"""A file that is this much longer or shorter than the annotations state is noted: it may be another cut."""


@dataclass(frozen=True, slots=True)
class AnnotationFiles:
    """The annotation files of a benchmark."""

    title: str
    origins: Mapping[str, str]
    """Where each file comes from, by its public name."""

    def present(self, folder: Path) -> list[str]:
        """The names of those that lie in a folder."""
        return [name for name in self.origins if (folder / name).exists()]

    def require(self, folder: Path, names: Iterable[str], *, mend: str = "put it there") -> None:
        """Refuse to go on without one of `names`.

        Raises:
            InputError: names the file, where it comes from, and the mend.
        """
        for name in names:
            if not (folder / name).exists():
                raise InputError(
                    f"{folder / name}: no such file, and {self.title} needs it; "
                    f"it comes from {self.origins[name]}: {mend}"
                )


@dataclass(frozen=True, slots=True)
class Entry:
    """What the annotations say of one video, faults included."""

    split: Split
    duration: float | None = None
    """Seconds, as the annotations state it; None where they don't."""
    captions: Sequence[str] = ()
    """Of the whole video."""
    sentences: Sequence[Span] = ()
    """Dense captions, each of which is also a query for its moment."""
    actions: Sequence[Span] = ()
    labels: Sequence[str] = ()
    """Actions of the whole video."""


def train_or_validation(video_id: str, params: BenchmarksParams) -> Split:
    """The part of a train video; it depends on the id and the fraction alone."""
    return split_by_hash(video_id, FolderParams(validation_fraction=params.validation_fraction, test_fraction=0.0))


def source_videos(splits: Mapping[str, Split], found: FoundVideos) -> list[SourceVideo]:
    """The videos of a benchmark where they lie, with those that are missing.

    Args:
        splits: by video id.
        found: the files.
    """
    return [SourceVideo(video_id, split, found.files.get(video_id)) for video_id, split in splits.items()]


def known_durations(
    stated: Mapping[str, float | None], videos: Mapping[str, Video]
) -> tuple[dict[str, float], list[str]]:
    """Durations in seconds by video id: the file's, or the stated one where no file could be probed; 0 without either.

    Returns:
        The durations, and a note where files differ much from what is stated.

    Raises:
        InputError: a stated duration is beyond MAX_DURATION_S.
    """
    durations, different = {}, []
    for video_id, seconds in stated.items():
        if seconds is not None and seconds > MAX_DURATION_S:
            raise InputError(f"video {video_id!r}: stated to last {seconds:g} s; the most is {MAX_DURATION_S:,.0f} s")
        probed = videos[video_id].duration
        durations[video_id] = (seconds or 0.0) if probed is None else probed
        if probed is not None and seconds is not None and abs(probed - seconds) > DIFFERENCE_S:
            different.append(video_id)
    shown = ", ".join(different[:3]) + (", …" if len(different) > 3 else "")
    note = (
        f"{len(different)} files are more than {DIFFERENCE_S:g} s longer or shorter than the annotations state: {shown}"
    )
    return durations, [note] if different else []


@dataclass(frozen=True)
class CaptionedBenchmark:
    """A benchmark of captions, with or without times, and labelled spans."""

    entries: Mapping[str, Entry]
    """By video id, sorted."""
    found: FoundVideos
    notes: Sequence[str] = ()

    def collect(self, folder: Path, *, workers: int, memo: Memo) -> list[SourceVideo]:
        """The videos where they lie: nothing is copied."""
        return source_videos({video_id: entry.split for video_id, entry in self.entries.items()}, self.found)

    def annotate(self, videos: Mapping[str, Video], *, clip_length_s: float) -> Annotations:
        """Captions of whole videos, dense captions, a query for each distinct sentence of a video, and actions."""
        stated = {video_id: entry.duration for video_id, entry in self.entries.items()}
        durations, notes = known_durations(stated, videos)
        faults: dict[str, Counter[Fault]] = {name: Counter() for name in ("captions", "sentences", "actions")}
        captions: list[Caption] = []
        moments: list[Moment] = []
        actions: list[Action] = []
        first_qid = 0
        for video_id, entry in self.entries.items():
            duration = durations[video_id]
            texts, found = tidy_texts(entry.captions)
            faults["captions"] += found
            spans, found = fit_spans(entry.sentences, duration)
            faults["sentences"] += found
            labelled, found = fit_spans(entry.actions, duration)
            faults["actions"] += found
            labels, found = tidy_texts(entry.labels)
            faults["actions"] += found
            captions += caption_rows(video_id, texts, spans)
            actions += [Action(video_id, label, 0.0, duration) for label in labels]
            actions += [Action(video_id, span.text, span.start, span.end) for span in labelled]
            # Numbers are given before anything is left out: which files are there changes none.
            queries = dict.fromkeys(words for span in entry.sentences if (words := tidy(span.text)))
            for qid, query in enumerate(queries, start=first_qid):
                windows = merge_windows((span.start, span.end) for span in spans if span.text == query)
                if windows:
                    clips = covered_clips(windows, duration=duration, clip_length_s=clip_length_s)
                    moments.append(Moment(qid, query, video_id, duration, windows, clips, []))
            first_qid += len(queries)
        notes += fault_notes(faults)
        return Annotations(captions, moments, actions, [*self.found.notes, *self.notes, *notes])


def caption_rows(video_id: str, texts: Sequence[str], spans: Sequence[Span]) -> list[Caption]:
    """Captions of the whole video first, then the dense ones."""
    rows: list[tuple[str, float | None, float | None]] = [(text, None, None) for text in texts]
    rows += [(span.text, span.start, span.end) for span in spans]
    return [
        Caption(f"{video_id}#{number:03d}", video_id, text, start, end)
        for number, (text, start, end) in enumerate(rows)
    ]
