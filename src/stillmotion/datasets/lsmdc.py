"""LSMDC (Rohrbach et al. 2017): clips of 200 films with sentences of audio description, in the lists of 2016.

Lines of six cells between tabs and no header: the clip, four times, and the sentence; a clip may have several lines.
The test split is the public list of 1,000 clips, of one sentence each, that retrieval is published on. Names of persons
are “SOMEONE”, as in the files. The times are those in the film, and not used: a file holds its clip alone.
"""

from pathlib import Path

from stillmotion.config.data import BenchmarksParams
from stillmotion.datasets.benchmark import VIDEOS, AnnotationFiles, CaptionedBenchmark, Entry
from stillmotion.datasets.lists import read_lines
from stillmotion.datasets.video_files import find_videos
from stillmotion.errors import InputError
from stillmotion.io.records import Split

SPLITS: dict[str, Split] = {
    "LSMDC16_annos_training.csv": "train",
    "LSMDC16_annos_val.csv": "validation",
    "LSMDC16_challenge_1000_publictect.csv": "test",
}
FILES = AnnotationFiles("LSMDC", dict.fromkeys(SPLITS, "sites.google.com/site/describingmovies, LSMDC 2016"))
_NUM_CELLS = 6


def read_lsmdc(folder: Path, params: BenchmarksParams) -> CaptionedBenchmark:
    """Read the lists and find the videos.

    Raises:
        InputError: a file is missing or at fault, a clip is in two splits, or no video is there.
    """
    FILES.require(folder, SPLITS)
    splits: dict[str, Split] = {}
    sentences: dict[str, list[str]] = {}
    for name, split in SPLITS.items():
        for where, line in read_lines(folder / name):
            cells = line.split("\t")
            if len(cells) != _NUM_CELLS or not cells[0]:
                raise InputError(f"{where}: {len(cells)} cells between tabs, not a clip, 4 times, a sentence; mend it")
            video_id = cells[0].strip()
            if splits.setdefault(video_id, split) != split:
                raise InputError(f"{where}: clip {video_id!r} is in the {splits[video_id]} split too; remove one")
            sentences.setdefault(video_id, []).append(cells[-1])
    entries = {video_id: Entry(splits[video_id], captions=sentences[video_id]) for video_id in sorted(splits)}
    return CaptionedBenchmark(entries, find_videos(folder / VIDEOS, entries))
