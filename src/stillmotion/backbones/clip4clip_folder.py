"""Reads a CLIP4Clip from its model folder, and holds its files to one another."""

from pathlib import Path

import torch

from stillmotion.backbones.clip4clip_backbone import (
    HEAD_WEIGHTS,
    SETTINGS,
    Clip4ClipBackbone,
    Clip4ClipSettings,
    wrap_clip4clip,
)
from stillmotion.backbones.expansion_folder import load_weights, read_settings
from stillmotion.backbones.open_clip_backbone import load_open_clip
from stillmotion.errors import InputError


def load_clip4clip(folder: Path, device: torch.device) -> Clip4ClipBackbone:
    """Load a model folder, ready for inference.

    Raises:
        InputError: a file is missing or does not fit the others; one line that names it.
    """
    clip = load_open_clip(folder, torch.device("cpu"))
    settings = read_settings(folder / SETTINGS, Clip4ClipSettings, "CLIP4Clip")
    try:
        backbone = wrap_clip4clip(clip, settings)
    except InputError as error:
        raise InputError(f"{folder / SETTINGS}: {error}") from None
    load_weights(backbone.head, folder / HEAD_WEIGHTS, SETTINGS)
    return backbone.to(device).eval()
