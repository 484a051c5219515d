"""VATEX (Wang et al. 2019): clips of 10 s with ten English captions each, named `<id at YouTube>_<start>_<end>`.

With the public test file in the folder that is the test split and the validation file the validation split; without it
the latter is the test split, and a part of train the validation split. Published numbers of retrieval are of halves of
the validation file that no official list states. The captions in Chinese are not read.
"""

from pathlib import Path

from stillmotion.config.data import BenchmarksParams
from stillmotion.datasets.benchmark import VIDEOS, AnnotationFiles, CaptionedBenchmark, Entry, train_or_validation
from stillmotion.datasets.video_files import find_videos
from stillmotion.errors import InputError
from stillmotion.io.records import Split
from stillmotion.io.tables import read_json

TRAIN, VALIDATION = "vatex_training_v1.0.json", "vatex_validation_v1.0.json"
TEST = "vatex_public_test_english_v1.1.json"
FILES = AnnotationFiles("VATEX", dict.fromkeys((TRAIN, VALIDATION, TEST), "eric-xw.github.io/vatex-website, data"))


def read_vatex(folder: Path, params: BenchmarksParams) -> CaptionedBenchmark:
    """Read the annotations and find the videos.

    Raises:
        InputError: a file is missing or at fault, a video is there twice, or no video is there.
    """
    FILES.require(folder, [TRAIN, VALIDATION])
    has_test = (folder / TEST).exists()
    splits: dict[str, Split] = {TRAIN: "train", VALIDATION: "validation" if has_test else "test"}
    entries: dict[str, Entry] = {}
    for name, split in (splits | ({TEST: "test"} if has_test else {})).items():
        content = read_json(folder / name)
        if not isinstance(content, list):
            raise InputError(f"{folder / name}: no list of videos; get the file again")
        for number, row in enumerate(content, start=1):
            where = f"{folder / name} row {number}"
            if not isinstance(row, dict) or not row.get("videoID") or not isinstance(row.get("enCap"), list):
                raise InputError(f"{where}: needs videoID and enCap, a list of English captions; mend it")
            video_id = str(row["videoID"])
            if video_id in entries:
                raise InputError(f"{where}: video {video_id!r} is there twice; remove one")
            part = split if has_test or split == "test" else train_or_validation(video_id, params)
            entries[video_id] = Entry(part, captions=[str(caption) for caption in row["enCap"]])
    return CaptionedBenchmark(dict(sorted(entries.items())), find_videos(folder / VIDEOS, entries))
