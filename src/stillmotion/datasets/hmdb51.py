"""HMDB51 (Kuehne et al. 2011): clips of 51 classes, a list for each class and way of splitting.

The lists of split 1 are read if they are there, else those of 2, else those of 3. A clip is in train (1), test (2) or
neither (0): that one is not in the dataset. An id is the class and the name, as the clips lie in folders by class;
the names of classes are written as words: `brush_hair` is “brush hair”.
"""

from collections.abc import Iterator
from pathlib import Path

from stillmotion.config.data import BenchmarksParams
from stillmotion.datasets.benchmark import AnnotationFiles, CaptionedBenchmark, train_or_validation
from stillmotion.datasets.labelled import LabelledVideo, labelled_benchmark
from stillmotion.datasets.lists import read_lines
from stillmotion.errors import InputError

LISTS = "testTrainMulti_7030_splits"
FILES = AnnotationFiles("HMDB51", {LISTS: "serre-lab.clps.brown.edu, test_train_splits.rar"})


def read_hmdb51(folder: Path, params: BenchmarksParams) -> CaptionedBenchmark:
    """Read the lists of one split and find the videos.

    Raises:
        InputError: no list is there, one is at fault, or no video is there.
    """
    for split in (1, 2, 3):
        ending = f"_test_split{split}.txt"
        lists = sorted((folder / LISTS).glob(f"*{ending}"))
        if lists:
            return labelled_benchmark(folder, _videos(lists, ending, params))
    raise InputError(f"{folder / LISTS}: no <class>_test_split1.txt; unpack test_train_splits.rar there")


def _videos(lists: list[Path], ending: str, params: BenchmarksParams) -> Iterator[LabelledVideo]:
    for path in lists:
        name = path.name.removesuffix(ending)
        for where, line in read_lines(path):
            file, _, part = line.rpartition(" ")
            if not file or part not in ("0", "1", "2"):
                raise InputError(f"{where}: {line!r} is not the name of a file and 0, 1 or 2; get the file again")
            video_id = f"{name}/{Path(file.strip()).stem}"
            if part != "0":
                split = "test" if part == "2" else train_or_validation(video_id, params)
                yield LabelledVideo(where, video_id, name.replace("_", " "), split)
