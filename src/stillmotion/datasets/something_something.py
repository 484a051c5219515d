"""Something-Something v2 (Goyal et al. 2017): videos of 174 classes that are told apart by motion.

The class of a video is its template without the brackets: “Holding [something] next to [something]” is the class
“Holding something next to something”. What `label` puts in place of them is not used. The validation list is the test
split, as in published tables; the test list has no labels.
"""

from collections.abc import Iterator
from pathlib import Path

from stillmotion.config.data import BenchmarksParams
from stillmotion.datasets.annotation_faults import tidy
from stillmotion.datasets.benchmark import AnnotationFiles, CaptionedBenchmark, train_or_validation
from stillmotion.datasets.captions_csv import did_you_mean
from stillmotion.datasets.labelled import LabelledVideo, labelled_benchmark
from stillmotion.errors import InputError
from stillmotion.io.tables import read_json

CLASSES, TRAIN, TEST = (f"something-something-v2-{part}.json" for part in ("labels", "train", "validation"))
FILES = AnnotationFiles(
    "Something-Something v2", dict.fromkeys((CLASSES, TRAIN, TEST), "qualcomm.com, Something-Something v2 labels")
)


def read_something_something(folder: Path, params: BenchmarksParams) -> CaptionedBenchmark:
    """Read the lists and find the videos.

    Raises:
        InputError: a file is missing or at fault, or no video is there.
    """
    FILES.require(folder, [CLASSES, TRAIN, TEST])
    classes = read_json(folder / CLASSES)
    if not isinstance(classes, dict) or not classes:
        raise InputError(f"{folder / CLASSES}: no numbers by the names of classes; get the file again")
    return labelled_benchmark(folder, _videos(folder, {tidy(name) for name in classes}, params))


def _videos(folder: Path, classes: set[str], params: BenchmarksParams) -> Iterator[LabelledVideo]:
    for file in (TRAIN, TEST):
        content = read_json(folder / file)
        if not isinstance(content, list):
            raise InputError(f"{folder / file}: no list of videos; get the file again")
        for number, row in enumerate(content, start=1):
            where = f"{folder / file} row {number}"
            if not isinstance(row, dict) or not {"id", "template"} <= row.keys():
                raise InputError(f"{where}: needs id and template; take the file that has the labels")
            label = tidy(str(row["template"]).replace("[", "").replace("]", ""))
            if label not in classes:
                raise InputError(f"{where}: class {label!r} is not in {CLASSES}{did_you_mean(label, classes)}; mend it")
            video_id = str(row["id"])
            split = "test" if file == TEST else train_or_validation(video_id, params)
            yield LabelledVideo(where, video_id, label, split)
