"""Reads what an expansion adds to the folder of an open_clip model: its settings and its weights.

The image model is read as such (`open_clip_backbone`); what stands here holds the two other files to it.
"""

from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import torch

from stillmotion.errors import InputError
from stillmotion.io.tables import read_json
from stillmotion.io.weights import load_tensors

Settings = TypeVar("Settings")


def read_settings(path: Path, kind: type[Settings], noun: str) -> Settings:
    """The settings of an expansion, a dataclass that refuses what does not fit; `noun` names the expansion.

    Raises:
        InputError: no such file, or it holds other settings than there are.
    """
    found = read_json(path)
    settings: Any = kind
    names = {field.name for field in fields(settings)}
    if not isinstance(found, dict) or found.keys() != names:
        odd = sorted(found.keys() ^ names) if isinstance(found, dict) else sorted(names)
        raise InputError(f"{path}: not the settings of a {noun} ({', '.join(odd)} missing or unknown); expand it again")
    try:
        return kind(**found)
    except (InputError, TypeError) as error:
        raise InputError(f"{path}: {error}") from None


def load_weights(module: torch.nn.Module, path: Path, settings: str) -> None:
    """Fill what an expansion added to a model from a safetensors file; `settings` names the file that describes it.

    Raises:
        InputError: no such file, or tensors are missing, unknown or of another shape.
    """
    wanted = module.state_dict()
    found, _ = load_tensors(path, may_be_none=True)  # mean pooling learns nothing
    faults = sorted(wanted.keys() ^ found.keys())
    faults += [name for name in wanted.keys() & found.keys() if wanted[name].shape != found[name].shape]
    if faults:
        raise InputError(
            f"{path}: does not fit {settings} and the image model beside it ({len(faults)} tensors, {faults[0]!r} "
            "first); take all files from one model"
        )
    module.load_state_dict(found)
