"""From a dataset's name to its source: the one place that knows which datasets there are.

To add a benchmark with files of its own, write a module beside this one that makes a `Source` of a folder, and name it,
with its files, in `BENCHMARKS`.
"""

from collections.abc import Callable
from pathlib import Path

from stillmotion.config.data import BenchmarksParams, DownloadParams
from stillmotion.datasets import (
    activitynet,
    charades,
    didemo,
    hmdb51,
    kinetics,
    lsmdc,
    msrvtt,
    msvd,
    qvhighlights,
    something_something,
    ucf101,
    vatex,
)
from stillmotion.datasets.benchmark import AnnotationFiles
from stillmotion.datasets.captions_csv import FILE_NAME, did_you_mean
from stillmotion.datasets.folder import read_folder
from stillmotion.datasets.source import Source
from stillmotion.datasets.source_list import FILE_NAME as SOURCE_LIST
from stillmotion.datasets.toy import ToySource
from stillmotion.datasets.video_files import is_video, list_files
from stillmotion.errors import InputError

BENCHMARKS: tuple[tuple[tuple[AnnotationFiles, ...], Callable[[Path, BenchmarksParams], Source]], ...] = (
    ((activitynet.CAPTIONS, activitynet.ACTIONS), activitynet.read_activitynet),
    ((msrvtt.FILES,), msrvtt.read_msrvtt),
    ((qvhighlights.FILES,), qvhighlights.read_qvhighlights),
    ((charades.FILES,), charades.read_charades),
    ((didemo.FILES,), didemo.read_didemo),
    ((msvd.FILES,), msvd.read_msvd),
    ((lsmdc.FILES,), lsmdc.read_lsmdc),
    ((vatex.FILES,), vatex.read_vatex),
    ((ucf101.FILES,), ucf101.read_ucf101),
    ((hmdb51.FILES,), hmdb51.read_hmdb51),
    ((kinetics.FILES,), kinetics.read_kinetics),
    ((something_something.FILES,), something_something.read_something_something),
)
"""How a folder is read in which any of the files lies."""


def open_source(folder: Path, params: DownloadParams) -> Source:
    """The dataset that is named like `folder`: a generated one, a public benchmark, or the folder's own videos.

    Which annotation files lie in the folder says which it is; a captions.csv counts before all others.

    Raises:
        InputError: there is no such dataset, or its annotation files are at fault.
    """
    name = folder.name
    if name in params.generated:
        return ToySource(params.generated[name])
    if not folder.is_dir():
        own = (
            other.name
            for other in folder.parent.glob("*/")
            if (other / SOURCE_LIST).exists() or _readers(other) or any(map(is_video, list_files(other)))
        )
        known = sorted({*params.generated, *own})
        raise InputError(
            f"dataset {name!r} is unknown{did_you_mean(name, known)}; there are {', '.join(known)}; "
            f"for videos of your own, `stillmotion add FOLDER --name {name}`, "
            f"for a public benchmark see {folder.parent / 'README.md'}"
        )
    read = benchmark_reader(folder)
    return read_folder(folder, params.folder) if read is None else read(folder, params.benchmarks)


def benchmark_reader(folder: Path) -> Callable[[Path, BenchmarksParams], Source] | None:
    """How a folder is read in which the annotation files of a public benchmark lie, and no captions.csv.

    Raises:
        InputError: those of several benchmarks lie there.
    """
    readers = {} if (folder / FILE_NAME).exists() else _readers(folder)
    if len(readers) > 1:
        raise InputError(
            f"{folder}: annotation files of several benchmarks ({', '.join(readers)}); give each a folder of its own"
        )
    return next(iter(readers.values()), None)


def _readers(folder: Path) -> dict[str, Callable[[Path, BenchmarksParams], Source]]:
    """How the benchmarks whose files lie in the folder are read, by the first such file."""
    found = {}
    for benchmark, read in BENCHMARKS:
        present = [name for files in benchmark for name in files.present(folder)]
        if present:
            found[present[0]] = read
    return found
