"""From a model folder to its backbone: the one place that knows which families there are.

To add a family, write a module beside this one with a subclass of `Backbone`, and name the file that tells its
folders in `load_backbone`.
"""

from pathlib import Path

import torch

from stillmotion.backbones import clip4clip_backbone, open_clip_backbone, stan_backbone, xclip_backbone
from stillmotion.backbones.backbone import Backbone
from stillmotion.backbones.clip4clip_folder import load_clip4clip
from stillmotion.backbones.open_clip_backbone import load_open_clip
from stillmotion.backbones.stan_folder import load_stan
from stillmotion.backbones.xclip_folder import load_xclip
from stillmotion.errors import InputError


def load_backbone(folder: Path, device: torch.device) -> Backbone:
    """Load a model folder of any family, ready for inference.

    Raises:
        InputError: the folder or one of its files is missing or does not fit.
    """
    # The folders of the first two hold that of an open_clip model.
    if (folder / stan_backbone.SETTINGS).is_file():
        return load_stan(folder, device)
    if (folder / clip4clip_backbone.SETTINGS).is_file():
        return load_clip4clip(folder, device)
    if (folder / open_clip_backbone.CONFIG).is_file():
        return load_open_clip(folder, device)
    if (folder / xclip_backbone.SETTINGS).is_file():
        return load_xclip(folder, device)
    raise InputError(f"{folder}: no model there; run `dvc repro` or `dvc pull` for {folder.as_posix()}")
