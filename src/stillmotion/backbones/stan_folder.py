"""Reads a STAN from its model folder, and holds its files to one another."""

from pathlib import Path

import torch

from stillmotion.backbones.expansion_folder import load_weights, read_settings
from stillmotion.backbones.open_clip_backbone import load_open_clip
from stillmotion.backbones.stan_backbone import BRANCH_WEIGHTS, SETTINGS, StanBackbone
from stillmotion.backbones.stan_settings import StanSettings
from stillmotion.errors import InputError


def load_stan(folder: Path, device: torch.device) -> StanBackbone:
    """Load a model folder, ready for inference.

    Raises:
        InputError: a file is missing or does not fit the others; one line that names it.
    """
    clip = load_open_clip(folder, torch.device("cpu"))
    settings = read_settings(folder / SETTINGS, StanSettings, "STAN")
    try:
        backbone = StanBackbone(clip, settings)
    except InputError as error:
        raise InputError(f"{folder / SETTINGS}: {error}") from None
    load_weights(backbone.branch, folder / BRANCH_WEIGHTS, SETTINGS)
    return backbone.to(device).eval()
