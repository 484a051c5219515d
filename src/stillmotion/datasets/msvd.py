"""MSVD (Chen and Dolan 2011): 1,970 clips with 18 to 81 captions each, in the three lists of Venugopalan et al. 2015.

Every caption counts, also one that another annotator of the clip wrote word for word: published numbers count both.
"""

from pathlib import Path

from stillmotion.config.data import BenchmarksParams
from stillmotion.datasets.benchmark import VIDEOS, AnnotationFiles, CaptionedBenchmark, Entry
from stillmotion.datasets.lists import read_lines
from stillmotion.datasets.video_files import find_videos
from stillmotion.errors import InputError
from stillmotion.io.records import Split
from stillmotion.io.tables import read_json

CAPTIONS = "captions_msvd.json"
SPLITS: dict[str, Split] = {"train_list.txt": "train", "val_list.txt": "validation", "test_list.txt": "test"}
FILES = AnnotationFiles("MSVD", dict.fromkeys((CAPTIONS, *SPLITS), "github.com/layer6ai-labs/xpool, data/MSVD"))


def read_msvd(folder: Path, params: BenchmarksParams) -> CaptionedBenchmark:
    """Read the annotations and find the videos.

    Raises:
        InputError: a file is missing or at fault, a video is listed twice, or no video is there.
    """
    FILES.require(folder, (CAPTIONS, *SPLITS))
    captions = read_json(folder / CAPTIONS)
    if not isinstance(captions, dict) or not all(
        isinstance(texts, list) and all(isinstance(text, str) for text in texts) for texts in captions.values()
    ):
        raise InputError(f"{folder / CAPTIONS}: no lists of captions by the ids of videos; get the file again")
    entries: dict[str, Entry] = {}
    for name, split in SPLITS.items():
        for where, video_id in read_lines(folder / name):
            if video_id not in captions:
                raise InputError(f"{where}: video {video_id!r} is not in {CAPTIONS}; mend it")
            if video_id in entries:
                raise InputError(
                    f"{where}: video {video_id!r} is in the {entries[video_id].split} split too; remove one"
                )
            entries[video_id] = Entry(split, captions=captions[video_id])
    return CaptionedBenchmark(dict(sorted(entries.items())), find_videos(folder / VIDEOS, entries))
