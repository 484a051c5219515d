"""A folder of the user's own: data/sources/<name>/ with video files in any layout, and perhaps a captions.csv.

- A video's id is its path below the folder without the extension, in Unicode's composed form (NFC). Where two
  files differ in the extension alone, both keep it.
- Every video file counts, also one that captions.csv does not name; without a captions.csv no video has a text. Files
  that are neither videos by their extension nor named in captions.csv are left out and noted; hidden files and folders
  are not even that.
- Rows without times are captions of the whole video. Rows with times are dense captions and moment queries;
  equal texts of a video are one query with several windows, and windows that overlap are joined. A video with
  timed rows alone gets a paragraph: its sentences in time order, joined by a space.
- Where no row states a video's split, a hash of its id decides, so that adding a video moves no other.
"""

import difflib
import hashlib
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from stillmotion.config.data import FolderParams
from stillmotion.datasets.annotation_faults import fault_notes
from stillmotion.datasets.captions_csv import FILE_NAME, Row, read_captions
from stillmotion.datasets.source import Annotations, SourceVideo
from stillmotion.datasets.video_files import is_video, list_files
from stillmotion.datasets.windows import covered_clips, merge_windows
from stillmotion.errors import MAX_NAMED, InputError, fault_of_rows
from stillmotion.io.memo import Memo
from stillmotion.io.records import SPLITS, Action, Caption, Moment, Split, Video

SUBTITLE_SUFFIXES = frozenset({".srt", ".vtt", ".ass", ".ssa", ".sub"})
END_TOLERANCE_S = 1.0
"""Annotators round up to whole seconds: an end this far past the video's end is moved to it."""


@dataclass(frozen=True)
class FolderSource:
    """A folder whose captions.csv, where there is one, has been read and matched with its files."""

    captions: Path
    """captions.csv, which need not be there."""
    files: Mapping[str, Path]
    """By video id."""
    rows: Mapping[str, Sequence[Row]]
    """By video id, for the videos that captions.csv names."""
    splits: Mapping[str, Split]
    """By video id."""
    notes: Sequence[str]
    num_rows: int
    """Of captions.csv."""
    unmatched: Sequence[str] = ()
    """What is wrong with the first rows that name no file."""
    num_unmatched: int = 0

    def collect(self, folder: Path, *, workers: int, memo: Memo) -> list[SourceVideo]:
        """The videos where they lie: nothing is copied."""
        return [SourceVideo(video_id, self.splits[video_id], file) for video_id, file in self.files.items()]

    def annotate(self, videos: Mapping[str, Video], *, clip_length_s: float) -> Annotations:
        """Captions of all named videos; moments and actions of those whose duration is known.

        Raises:
            InputError: times lie past the end of their video.
        """
        captions: list[Caption] = []
        moments: list[Moment] = []
        actions: list[Action] = []
        faults: list[str] = []
        num_clipped = num_lost = 0
        for video_id, stated in sorted(self.rows.items()):
            duration = videos[video_id].duration
            if duration is None:
                captions += _captions(video_id, stated)
                num_lost += len(_windows(stated)) + len(_actions(video_id, stated, duration=0.0))
                continue
            faults += [fault for row in stated if (fault := _past_the_end(row, duration))]
            rows = [_within(row, duration) for row in stated]
            num_clipped += sum(row != other for row, other in zip(rows, stated, strict=True))
            captions += _captions(video_id, rows)
            actions += _actions(video_id, rows, duration=duration)
            for query, windows in _windows(rows).items():
                clips = covered_clips(windows, duration=duration, clip_length_s=clip_length_s)
                moments.append(Moment(len(moments), query, video_id, duration, windows, clips, []))
        if faults:
            raise fault_of_rows(self.captions, faults, len(faults))
        notes = list(self.notes)
        if num_clipped:
            notes.append(f"{num_clipped} rows end up to {END_TOLERANCE_S:g} s past their video: ended with it")
        if num_lost:
            notes.append(f"{num_lost} moments and actions left out: their videos can't be read")
        return Annotations(captions, moments, actions, notes)


def read_folder(folder: Path, params: FolderParams) -> FolderSource:
    """Read captions.csv, where there is one, and match it with the files of the folder.

    Raises:
        InputError: no video, captions.csv is at fault, rows name no file, or two files have one id.
    """
    source = match_files(folder, list_files(folder), folder / FILE_NAME, params)
    if source.num_unmatched:
        raise fault_of_rows(source.captions, source.unmatched, source.num_unmatched)
    return source


def match_files(folder: Path, listed: Mapping[str, Path], captions: Path, params: FolderParams) -> FolderSource:
    """Match files with a captions.csv wherever it lies; rows that name none of them are counted.

    Args:
        folder: what an error calls the folder of the files.
        listed: the files by their path there.
        captions: need not be there.
        params: say which split a video belongs to where no row does.

    Raises:
        InputError: no video, captions.csv is at fault, or two files have one id.
    """
    rows = read_captions(captions) if captions.exists() or captions.is_symlink() else []
    listed = {relative: file for relative, file in listed.items() if relative != FILE_NAME}
    if not listed:
        raise InputError(f"{folder}: no video files; put some there, in any layout of subfolders")
    by_name: dict[str, list[str]] = {}
    for relative in listed:
        by_name.setdefault(relative.rpartition("/")[2], []).append(relative)
    named: dict[str, list[Row]] = {}
    unmatched: list[str] = []
    num_unmatched = 0
    for row in rows:
        matches = _find(row, listed, by_name)
        if len(matches) == 1:
            named.setdefault(matches[0], []).append(row)
        else:
            num_unmatched += 1
            # To look for the nearest name takes a while.
            if num_unmatched <= MAX_NAMED:
                unmatched.append(_unmatched(row, matches, listed, folder))
    others = [relative for relative in listed if relative not in named and not is_video(relative)]
    ids = _ids([relative for relative in listed if relative in named or is_video(relative)], folder)
    if not ids:
        raise InputError(f"{folder}: {len(others)} files, of which none is a video by its name; put some there")
    files = {video_id: listed[relative] for video_id, relative in ids.items()}
    rows_of = {video_id: named[relative] for video_id, relative in ids.items() if relative in named}
    splits = {
        video_id: _stated_split(rows_of.get(video_id, []), file=captions) or split_by_hash(video_id, params)
        for video_id in files
    }
    notes = _notes(others, files, rows_of, splits)
    return FolderSource(captions, files, rows_of, splits, notes, len(rows), unmatched, num_unmatched)


def split_by_hash(video_id: str, params: FolderParams) -> Split:
    """A split that depends on the id and the fractions alone."""
    share = int.from_bytes(hashlib.sha256(video_id.encode()).digest()[:8], "big") / 2**64
    if share < params.test_fraction:
        return "test"
    return "validation" if share < params.test_fraction + params.validation_fraction else "train"


def _ids(videos: Sequence[str], folder: Path) -> dict[str, str]:
    """The listed videos by their ids."""
    stems = {relative: relative.removesuffix(Path(relative).suffix) for relative in videos}
    counts = Counter(stems.values())
    ids: dict[str, str] = {}
    for relative, stem in stems.items():
        video_id = stem if counts[stem] == 1 else relative
        if video_id in ids:
            raise InputError(f"{folder}: {ids[video_id]!r} and {relative!r} have one id, {video_id!r}; rename one")
        ids[video_id] = relative
    return ids


def _find(row: Row, listed: Mapping[str, Path], by_name: Mapping[str, Sequence[str]]) -> Sequence[str]:
    """The listed files that a row may mean."""
    cell = unicodedata.normalize("NFC", row.video)
    for spelling in (cell, cell.strip(), cell.strip().replace("\\", "/").removeprefix("./")):
        matches = [spelling] if spelling in listed else by_name.get(spelling, ())
        if matches:
            return matches
    return ()


def _unmatched(row: Row, matches: Sequence[str], listed: Mapping[str, Path], folder: Path) -> str:
    cell = unicodedata.normalize("NFC", row.video.strip())
    if matches:
        return (
            f"row {row.number}: several files are named {cell!r} ({', '.join(matches)}); write the path below {folder}"
        )
    # Also one that is written in capitals, or from the root of the repository or of the disk.
    folded = {relative.casefold(): relative for relative in listed}
    word = "/" + cell.replace("\\", "/").casefold()
    alike = [other for other in folded if word.endswith(f"/{other}")]
    alike = alike or [other for other in folded if word.rpartition("/")[2] in (Path(other).name, Path(other).stem)]
    close = difflib.get_close_matches(word, alike or folded, n=1, cutoff=0.0 if alike else 0.6)
    hint = f"; did you mean {folded[close[0]]!r}?" if close else ""
    return f"row {row.number}: no file {cell!r} below {folder}{hint}; mend the path or add the file"


def _stated_split(rows: Sequence[Row], *, file: Path) -> Split | None:
    stated: Row | None = None
    for row in rows:
        if row.split is None:
            continue
        if stated is not None and row.split != stated.split:
            raise InputError(
                f"{file} row {row.number}: split {row.split!r}, but row {stated.number} puts the same video "
                f"in {stated.split!r}; mend one"
            )
        stated = row
    return None if stated is None else stated.split


def _notes(
    others: Sequence[str],
    files: Mapping[str, Path],
    rows_of: Mapping[str, Sequence[Row]],
    splits: Mapping[str, Split],
) -> list[str]:
    with_controls = sum(row.had_controls for rows in rows_of.values() for row in rows)
    num_repeated = sum(len(spans) - len(set(spans)) for spans in map(_spans, rows_of.values()))
    notes = fault_notes({"rows": Counter({"controls": with_controls, "repeated": num_repeated})})
    subtitles = {relative for relative in others if Path(relative).suffix.lower() in SUBTITLE_SUFFIXES}
    if subtitles:
        notes.append(f"{len(subtitles)} subtitles were left out")
    others = [relative for relative in others if relative not in subtitles]
    if others:
        shown = ", ".join(others[:5]) + (", …" if len(others) > 5 else "")
        notes.append(f"{len(others)} files are no videos by their name and were left out: {shown}")
    num_without = sum(not any(row.caption or row.action for row in rows_of.get(video_id, [])) for video_id in files)
    if num_without:
        notes.append(f"{num_without} videos have no text in {FILE_NAME}: embedded, but in no gallery")
    hashed = sum(all(row.split is None for row in rows_of.get(video_id, [])) for video_id in files)
    if hashed:
        notes.append(f"{hashed} videos have no stated split: a hash of their id decides")
    for split in SPLITS:
        if split not in splits.values():
            notes.append(f"no video is in the {split} split; a column `split` in {FILE_NAME} would say which")
    return notes


def _past_the_end(row: Row, duration: float) -> str | None:
    """What is wrong with a row whose times lie past the end of its video by more than annotators round."""
    if row.start is None or row.end is None or (row.end <= duration + END_TOLERANCE_S and row.start < duration):
        return None
    name, time = ("start", row.start) if row.start >= duration else ("end", row.end)
    return f"row {row.number}: {name} {time:g} is past the video's end at {duration:.2f} s; mend it"


def _within(row: Row, duration: float) -> Row:
    """The row, its end no later than the video's."""
    return row if row.end is None or row.end <= duration else replace(row, end=duration)


def _spans(rows: Sequence[Row]) -> list[tuple[float, float, str]]:
    return [
        (row.start, row.end, row.caption)
        for row in rows
        if row.caption and row.start is not None and row.end is not None
    ]


def _captions(video_id: str, rows: Sequence[Row]) -> list[Caption]:
    """Captions of the whole video first, then the dense ones in time order.

    What two people wrote of the whole stays twice; a span that stands twice, with one text and the same times, once.
    """
    whole = [row.caption for row in rows if row.caption and row.start is None]
    dense = sorted(set(_spans(rows)))
    if dense and not whole:
        whole = [" ".join(text for _, _, text in dense)]
    spans = [(None, None, text) for text in whole] + dense
    return [
        Caption(f"{video_id}#{number:03d}", video_id, text, start, end)
        for number, (start, end, text) in enumerate(spans)
    ]


def _windows(rows: Sequence[Row]) -> dict[str, list[list[float]]]:
    """The windows of each query, in the order in which the queries first stand."""
    spans: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if row.caption and row.start is not None and row.end is not None:
            spans.setdefault(row.caption, []).append((row.start, row.end))
    return {query: merge_windows(windows) for query, windows in spans.items()}


def _actions(video_id: str, rows: Sequence[Row], *, duration: float) -> list[Action]:
    """A labelled span once, however many captions repeat it."""
    spans = {
        (row.action, 0.0, duration) if row.start is None or row.end is None else (row.action, row.start, row.end)
        for row in rows
        if row.action
    }
    return [Action(video_id, *span) for span in sorted(spans)]
