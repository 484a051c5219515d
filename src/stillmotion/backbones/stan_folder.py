"""Reads a STAN from its model folder, and holds its files to one another."""

from dataclasses import fields
from pathlib import Path

import torch

from stillmotion.backbones.open_clip_backbone import load_open_clip
from stillmotion.backbones.stan_backbone import BRANCH_WEIGHTS, SETTINGS, StanBackbone
from stillmotion.backbones.stan_branch import StanBranch, StanSettings
from stillmotion.errors import InputError
from stillmotion.io.tables import read_json
from stillmotion.io.weights import load_tensors


def read_settings(path: Path) -> StanSettings:
    """The settings of a branch.

    Raises:
        InputError: no such file, or it holds other settings than a STAN has.
    """
    found = read_json(path)
    names = {field.name for field in fields(StanSettings)}
    if not isinstance(found, dict) or found.keys() != names:
        odd = sorted(found.keys() ^ names) if isinstance(found, dict) else sorted(names)
        raise InputError(f"{path}: not the settings of a STAN ({', '.join(odd)} missing or unknown); expand it again")
    try:
        return StanSettings(**found)
    except (InputError, TypeError) as error:
        raise InputError(f"{path}: {error}") from None


def _load_branch(branch: StanBranch, path: Path) -> None:
    wanted = branch.state_dict()
    found, _ = load_tensors(path)
    faults = sorted(wanted.keys() ^ found.keys())
    faults += [name for name in wanted.keys() & found.keys() if wanted[name].shape != found[name].shape]
    if faults:
        raise InputError(
            f"{path}: does not fit {SETTINGS} and the image model beside it ({len(faults)} tensors, {faults[0]!r} "
            "first); take all files from one model"
        )
    branch.load_state_dict(found)


def load_stan(folder: Path, device: torch.device) -> StanBackbone:
    """Load a model folder, ready for inference.

    Raises:
        InputError: a file is missing or does not fit the others; one line that names it.
    """
    clip = load_open_clip(folder, torch.device("cpu"))
    settings = read_settings(folder / SETTINGS)
    try:
        backbone = StanBackbone(clip, settings)
    except InputError as error:
        raise InputError(f"{folder / SETTINGS}: {error}") from None
    _load_branch(backbone.branch, folder / BRANCH_WEIGHTS)
    return backbone.to(device).eval()
