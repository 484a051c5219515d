"""What a checkpoint's processor file says of pixels: X-CLIP was trained with other constants than CLIP.

The published files come in two layouts: `size` as a number (the size of the crop too), or `size` and `crop_size`
as mappings. The defaults are those of transformers' VideoMAEImageProcessor, which X-CLIP uses.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torchvision import transforms

from stillmotion.errors import InputError

_MODES = {
    0: transforms.InterpolationMode.NEAREST,
    2: transforms.InterpolationMode.BILINEAR,
    3: transforms.InterpolationMode.BICUBIC,
}
"""By Pillow's numbers, which the files hold."""
_BILINEAR = 2


@dataclass(frozen=True)
class Preprocessing:
    """How pixels are made."""

    settings: Mapping[str, Any]
    """Content of preprocessor_config.json."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize_px: int | tuple[int, int]
    """Of the shortest side; or of both, whatever the shape."""
    crop_px: int
    interpolation: transforms.InterpolationMode

    def image_transform(self) -> Callable[[Image.Image], torch.Tensor]:
        """The transform of a whole image: resize, centre crop, normalise."""
        transform = transforms.Compose(
            [
                transforms.Resize(self.resize_px, self.interpolation),
                transforms.CenterCrop(self.crop_px),
                transforms.ToTensor(),
                transforms.Normalize(self.mean, self.std),
            ]
        )
        return lambda image: transform(image.convert("RGB"))


def _shortest_px(size: Any) -> int | None:
    if isinstance(size, Mapping):
        sides = {size.get("height"), size.get("width")} if "height" in size else {size.get("shortest_edge")}
        size = sides.pop() if len(sides) == 1 else None
    return size if isinstance(size, int) else None


def read_preprocessing(settings: Mapping[str, Any], *, image_size_px: int, path: Path) -> Preprocessing:
    """Read a processor file and hold it to the model.

    Args:
        settings: content of preprocessor_config.json.
        image_size_px: what the model's own configuration says.
        path: of the file, for errors.

    Raises:
        InputError: the file lacks something, asks for what is not done here, or makes other sizes than the model's.
    """
    constants = {}
    for key in ("image_mean", "image_std"):
        values = settings.get(key)
        if not isinstance(values, list | tuple) or len(values) != 3:
            raise InputError(f"{path}: {key} is {values}; three numbers must stand there, as in the published file")
        constants[key] = tuple(float(value) for value in values)
    if not settings.get("do_normalize", True) or not settings.get("do_rescale", True):
        raise InputError(f"{path}: do_normalize or do_rescale is false; X-CLIP needs both: set them to true")
    factor = settings.get("rescale_factor", 1 / 255)
    if not math.isclose(factor, 1 / 255, rel_tol=0.01):
        raise InputError(f"{path}: rescale_factor is {factor}; pixels are divided by 255 here: set it to 1/255")
    resample = settings.get("resample", _BILINEAR)
    if resample not in _MODES:
        raise InputError(f"{path}: resample is {resample}; set 0 (nearest), 2 (bilinear) or 3 (bicubic)")
    size = settings.get("size")
    resize_px = _shortest_px(size)
    cropped = settings.get("do_center_crop", True)
    crop_px = _shortest_px(settings.get("crop_size", size)) if cropped else resize_px
    if resize_px is None or crop_px != image_size_px:
        shown = crop_px if crop_px is not None else settings.get("crop_size", size)
        raise InputError(
            f"{path}: makes images of {shown} px and config.json's model takes {image_size_px} px; "
            f"set size and crop_size to {image_size_px}, or take both files from one checkpoint"
        )
    squashed = isinstance(size, Mapping) and "height" in size
    return Preprocessing(
        settings=settings,
        mean=constants["image_mean"],
        std=constants["image_std"],
        resize_px=(resize_px, resize_px) if squashed else resize_px,
        crop_px=crop_px,
        interpolation=_MODES[resample],
    )
