"""A model folder that is handed on: its files, what fuses its clips, how it was evaluated, and a card.

| file | what it is |
|---|---|
| of the model | the hub's layout of its family: open_clip's, transformers' of an X-CLIP, ours of STAN and CLIP4Clip |
| aggregator/ | where a system of retrieval is handed on that has one: a folder of stage train_aggregator |
| stillmotion.json | `sampling`: which frames of a video it was evaluated on; it also says that this is an export |
| README.md | the card |
"""

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from stillmotion.config.bounds import LEAST_CLIP_LENGTH_S
from stillmotion.config.loading import Params
from stillmotion.config.section import Count
from stillmotion.errors import InputError
from stillmotion.io.tables import read_json, write_json
from stillmotion.video.decode import Geometry

SETTINGS, AGGREGATOR, CARD = "stillmotion.json", "aggregator", "README.md"


@dataclass(frozen=True)
class Sampling:
    """Which frames of a video a model sees; without other word those of the pipeline's default run."""

    num_uniform: Count = 64
    """Frames from the middles of so many equal parts, of which clips are made."""
    clip_length_s: Annotated[float, Field(ge=LEAST_CLIP_LENGTH_S, allow_inf_nan=False)] = 2.0
    """One more frame is kept for each so many seconds: a moment is a run of these."""
    clip_position: Literal["start", "middle"] = "middle"
    geometry: Geometry = "crop"
    size_px: Annotated[int, Field(ge=0)] = 0
    """Of the stored frames; 0 for the size that the model takes."""
    clip_frames: Count = 8
    """Of one clip, for models that take any number."""
    num_clips: Count = 1
    """That stand for a video; an aggregator has a number of its own."""


def sampling_of(params: Params, num_clips: int) -> Sampling:
    """The sampling that a model is evaluated with."""
    stored = params.sample_frames.model_dump(exclude={"max_skip_fraction", "format"})
    return Sampling(clip_frames=params.embed.clip_frames, num_clips=num_clips, **stored)


def read_sampling(folder: Path) -> Sampling:
    """What an export says of its sampling; that of the default run where the folder is none.

    Raises:
        InputError: its stillmotion.json says something else.
    """
    path = folder / SETTINGS
    if not path.is_file():
        return Sampling()
    try:
        return TypeAdapter(Sampling).validate_python(read_json(path)["sampling"])
    except (ValidationError, KeyError, TypeError):
        raise InputError(f"{path}: not what an export says of its sampling; export the model again") from None


def check_sampling(sampling: Sampling) -> None:
    """Raise InputError where a value of a sampling makes no sense."""
    try:
        TypeAdapter(Sampling).validate_python(asdict(sampling))
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"Sampling: {first['loc'][0]} is {first['input']!r}: {first['msg']}") from None


def require_export(folder: Path) -> None:
    """Raise InputError where something stands at a folder that is no export, and must not be lost."""
    if folder.exists() and not (folder / SETTINGS).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"--to {folder}: is there and no export of before; name a new folder, or remove it")


def add_to_export(folder: Path, aggregator: Path | None, sampling: Sampling) -> None:
    """Write beside the files of a model what else an export has, but for its card."""
    if aggregator is not None:
        for file in sorted(aggregator.rglob("*")):
            if file.is_file():
                place = folder / AGGREGATOR / file.relative_to(aggregator)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, place)  # the bytes alone: what dvc links from its cache is read-only
    write_json(folder / SETTINGS, {"sampling": asdict(sampling)})
