"""MSR-VTT (Xu et al. 2016): 10,000 clips with 20 captions each, read from the zip files as they are published.

Which files lie in the folder says which protocol it is:

- With MSRVTT_JSFUSION_test.csv and MSRVTT_train.9k.csv, 1k-A: the 1,000 pairs of the first are the test split, one
  caption a video; the 9,000 videos of the second with all their captions the train split, less the share that is
  validation.
- With the zip files alone, full captions: the splits that they state (6,513, 497 and 2,990), all captions of each.

A caption that a video has twice stays twice: two annotators wrote it, and published numbers count both.
"""

import json
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stillmotion.config.bounds import MAX_MEMBER_BYTES
from stillmotion.config.data import BenchmarksParams
from stillmotion.datasets.benchmark import VIDEOS, AnnotationFiles, CaptionedBenchmark, Entry, train_or_validation
from stillmotion.datasets.lists import read_csv
from stillmotion.datasets.video_files import find_videos
from stillmotion.errors import InputError
from stillmotion.io.records import Split

PAIRS, TRAIN_9K = "MSRVTT_JSFUSION_test.csv", "MSRVTT_train.9k.csv"
_MEMBERS = {
    "train_val_annotation.zip": "train_val_videodatainfo.json",
    "test_videodatainfo.json.zip": "test_videodatainfo.json",
}
"""The file in each zip that holds its captions."""
FILES = AnnotationFiles(
    "MSR-VTT",
    {
        **dict.fromkeys((PAIRS, TRAIN_9K), "github.com/layer6ai-labs/xpool, data/MSRVTT"),
        **dict.fromkeys(_MEMBERS, "github.com/WingsBrokenAngel/MSR-VTT-DataCleaning, clean_process"),
    },
)
_SPLITS: dict[str, Split] = {"train": "train", "validate": "validation", "test": "test"}


def read_msrvtt(folder: Path, params: BenchmarksParams) -> CaptionedBenchmark:
    """Read the annotations of one protocol, and find the videos.

    Raises:
        InputError: a file is missing or at fault, or no video is there.
    """
    FILES.require(folder, _MEMBERS)
    everything: dict[str, Entry] = {}
    for name, member in _MEMBERS.items():
        everything |= _read_zip(folder / name, member)
    entries = everything
    if any(name in (PAIRS, TRAIN_9K) for name in FILES.present(folder)):
        FILES.require(folder, [PAIRS, TRAIN_9K], mend="put it there, or remove the other list for full captions")
        entries = _entries_1k_a(folder, everything, params)
    return CaptionedBenchmark(dict(sorted(entries.items())), find_videos(folder / VIDEOS, entries))


def _entries_1k_a(folder: Path, everything: dict[str, Entry], params: BenchmarksParams) -> dict[str, Entry]:
    sentences: dict[str, list[str]] = defaultdict(list)
    for where, video_id, row in _read_list(folder / PAIRS, ("video_id", "sentence"), everything):
        if not row["sentence"].strip():
            raise InputError(f"{where}: no sentence; fill it in")
        sentences[video_id].append(row["sentence"])
    entries = {
        video_id: Entry("test", everything[video_id].duration, captions) for video_id, captions in sentences.items()
    }
    for where, video_id, _ in _read_list(folder / TRAIN_9K, ("video_id",), everything):
        if video_id in sentences:
            raise InputError(f"{where}: video {video_id!r} is in {PAIRS} too; remove it from one")
        known = everything[video_id]
        entries[video_id] = Entry(train_or_validation(video_id, params), known.duration, known.captions)
    return entries


def _read_list(path: Path, columns: Sequence[str], known: dict[str, Entry]) -> list[tuple[str, str, dict[str, str]]]:
    """Where each row is, its video and its cells."""
    listed = []
    for where, row in read_csv(path, columns):
        if row["video_id"] not in known:
            raise InputError(f"{where}: video {row['video_id']!r} is in neither of {', '.join(_MEMBERS)}; mend the row")
        listed.append((where, row["video_id"], row))
    return listed


def _read_zip(path: Path, member: str) -> dict[str, Entry]:
    try:
        with zipfile.ZipFile(path) as archive, archive.open(member) as file:
            text = file.read(MAX_MEMBER_BYTES + 1)
        if len(text) > MAX_MEMBER_BYTES:
            raise ValueError(f"more than {MAX_MEMBER_BYTES:,} bytes unpacked")
        content = json.loads(text)
        captions: dict[str, list[str]] = defaultdict(list)
        for sentence in content["sentences"]:
            captions[sentence["video_id"]].append(sentence["caption"])
        return {video["video_id"]: _entry(video, captions[video["video_id"]]) for video in content["videos"]}
    except (zipfile.BadZipFile, zlib.error, LookupError, TypeError, ValueError, RuntimeError, OSError) as error:
        raise InputError(
            f"{path}: no zip of {member} with `videos` and `sentences` ({type(error).__name__}: {error}); "
            "get the file again"
        ) from None


def _entry(video: dict[str, Any], captions: list[str]) -> Entry:
    return Entry(_SPLITS[video["split"]], float(video["end time"]) - float(video["start time"]), captions)
