"""Charades-STA (Gao et al. 2017), in the form of QVHighlights that Lighthouse publishes: train and test.

A query has one window, and nobody rated clips. There is no validation split, which moment retrieval does not need.
"""

from pathlib import Path

from stillmotion.config.data import BenchmarksParams
from stillmotion.datasets.benchmark import AnnotationFiles
from stillmotion.datasets.qvhighlights import QueriedBenchmark, read_queries

TRAIN, TEST = "charades_train_release.jsonl", "charades_test_release.jsonl"
FILES = AnnotationFiles("Charades-STA", dict.fromkeys((TRAIN, TEST), "github.com/line/lighthouse, data/charades"))


def read_charades(folder: Path, params: BenchmarksParams) -> QueriedBenchmark:
    """Read the annotations and find the videos.

    Raises:
        InputError: a file is missing or at fault, or no video is there.
    """
    FILES.require(folder, [TRAIN, TEST])
    return read_queries(folder, {TRAIN: "train", TEST: "test"})
