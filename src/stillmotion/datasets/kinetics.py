"""Kinetics-400 (Kay et al. 2017): clips of 10 s of 400 classes.

The validation list is the test split, as in published tables; the test list is not read. A file is named
`<id at YouTube>_<start>_<end>`, with the seconds in six digits.
"""

from collections.abc import Iterator
from pathlib import Path

from stillmotion.config.data import BenchmarksParams
from stillmotion.datasets.benchmark import AnnotationFiles, CaptionedBenchmark, train_or_validation
from stillmotion.datasets.labelled import LabelledVideo, labelled_benchmark
from stillmotion.datasets.lists import read_csv
from stillmotion.errors import InputError

TRAIN, TEST = "kinetics-400_train.csv", "kinetics-400_val.csv"
FILES = AnnotationFiles(
    "Kinetics-400", dict.fromkeys((TRAIN, TEST), "github.com/activitynet/ActivityNet, Crawler/Kinetics/data")
)


def read_kinetics(folder: Path, params: BenchmarksParams) -> CaptionedBenchmark:
    """Read the lists and find the videos.

    Raises:
        InputError: a file is missing or at fault, or no video is there.
    """
    FILES.require(folder, [TRAIN, TEST])
    return labelled_benchmark(folder, _videos(folder, params))


def _videos(folder: Path, params: BenchmarksParams) -> Iterator[LabelledVideo]:
    for file in (TRAIN, TEST):
        for where, row in read_csv(folder / file, ("label", "youtube_id", "time_start", "time_end")):
            try:
                start, end = int(float(row["time_start"])), int(float(row["time_end"]))
            except (ValueError, OverflowError):
                raise InputError(f"{where}: time_start and time_end must be seconds; mend it") from None
            if not 0 <= start < end:
                raise InputError(f"{where}: it must start at 0 or later and end after that; mend it")
            video_id = f"{row['youtube_id']}_{start:06d}_{end:06d}"
            split = "test" if file == TEST else train_or_validation(video_id, params)
            yield LabelledVideo(where, video_id, row["label"], split, float(end - start))
