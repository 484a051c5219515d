"""A text or an image of the user as a unit vector in the space of the stored frames.

Shapes: D embedding dimensions, F frames of a clip.
"""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from stillmotion.backbones.backbone import Embeds
from stillmotion.errors import InputError


def read_image(path: Path) -> Image.Image:
    """An image file, upright, in RGB.

    Raises:
        InputError: there is no such file, or it is no image.
    """
    try:
        with Image.open(path) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; give --image an image such as a PNG or a JPEG") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise InputError(f"{path}: can't be read as an image; give --image a PNG or a JPEG") from None


@torch.inference_mode()
def embed_text(backbone: Embeds, text: str) -> NDArray[np.float32]:
    """Unit vector (D,) of a text."""
    return backbone.text_vectors([text])[0].float().cpu().numpy()


@torch.inference_mode()
def embed_image(backbone: Embeds, image: Image.Image) -> NDArray[np.float32]:
    """Unit vector (D,) of an image, embedded as the only stored frame of a video would be.

    The model's own transform crops and resizes it. A model that attends between frames, as X-CLIP does, sees the
    image repeated to a clip, which is what it makes of a video with one frame.
    """
    no_clips = np.zeros((0, backbone.clip_frames or 1), dtype=np.int64)
    frames_1D, _ = backbone.embed_video(backbone.image_frame(image)[None], no_clips, frames_a_pass=1)
    return frames_1D[0].float().cpu().numpy()
