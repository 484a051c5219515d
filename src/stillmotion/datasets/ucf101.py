"""UCF101 (Soomro et al. 2012): 13,320 videos of 101 classes, in three ways of splitting them.

The lists of split 1 are read if they are there, else those of 2, else those of 3: published numbers are of the first or
means of all three. The names of classes are written as words: `ApplyEyeMakeup` is “Apply Eye Makeup”.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from stillmotion.config.data import BenchmarksParams
from stillmotion.datasets.benchmark import AnnotationFiles, CaptionedBenchmark, train_or_validation
from stillmotion.datasets.labelled import LabelledVideo, labelled_benchmark
from stillmotion.datasets.lists import read_lines
from stillmotion.errors import InputError

CLASSES = "classInd.txt"
LISTS = [(f"trainlist0{split}.txt", f"testlist0{split}.txt") for split in (1, 2, 3)]
FILES = AnnotationFiles(
    "UCF101",
    dict.fromkeys([CLASSES, *(name for names in LISTS for name in names)], "crcv.ucf.edu, UCF101TrainTestSplits"),
)


def read_ucf101(folder: Path, params: BenchmarksParams) -> CaptionedBenchmark:
    """Read the lists of one split and find the videos.

    Raises:
        InputError: a file is missing or at fault, or no video is there.
    """
    train, test = next((names for names in LISTS if any((folder / name).exists() for name in names)), LISTS[0])
    FILES.require(folder, [CLASSES, train, test])
    classes: dict[str, str] = {}
    for where, line in read_lines(folder / CLASSES):
        number, _, name = line.partition(" ")
        if not number.isdecimal() or not name:
            raise InputError(f"{where}: {line!r} is not a number and a class; get the file again")
        classes[name] = number
    return labelled_benchmark(folder, _videos(folder, train, test, classes, params))


def _videos(
    folder: Path, train: str, test: str, classes: dict[str, str], params: BenchmarksParams
) -> Iterator[LabelledVideo]:
    for file in (train, test):
        for where, line in read_lines(folder / file):
            path, _, number = line.partition(" ")
            name, _, video = path.partition("/")
            # The train lists have the number of the class too.
            if name not in classes or number not in ("", classes[name]):
                raise InputError(f"{where}: {line!r} is not <class>/<video> with a class of {CLASSES}; mend it")
            video_id = Path(video).stem
            split = "test" if file == test else train_or_validation(video_id, params)
            yield LabelledVideo(where, video_id, re.sub("(?<=[a-z])(?=[A-Z])", " ", name), split)
