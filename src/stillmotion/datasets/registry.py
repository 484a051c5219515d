"""From a dataset's name to its source: the one place that knows which datasets there are.

To add a dataset with annotations in a format of its own, write a module beside this one with a class that
does what `Source` says, and name it in `open_source`.
"""

from pathlib import Path

from stillmotion.datasets.captions_csv import FILE_NAME, did_you_mean
from stillmotion.datasets.folder import read_folder
from stillmotion.datasets.source import Source
from stillmotion.datasets.toy import ToySource
from stillmotion.errors import InputError
from stillmotion.params import DownloadParams

BUILT_IN = ("toy",)


def open_source(folder: Path, params: DownloadParams) -> Source:
    """The dataset that is named like `folder`: a built-in one, or the folder's own videos.

    Raises:
        InputError: there is no such dataset, or the folder's captions.csv is at fault.
    """
    name = folder.name
    if name == "toy":
        return ToySource(params.toy)
    if not folder.is_dir():
        own = (file.parent.name for file in folder.parent.glob(f"*/{FILE_NAME}"))
        known = sorted({*BUILT_IN, *own})
        raise InputError(
            f"dataset {name!r} is unknown{did_you_mean(name, known)}; there are {', '.join(known)}; "
            f"for videos of your own make the folder {folder} with the video files and a {FILE_NAME}"
        )
    return read_folder(folder, params.folder)
