"""A text or an image of the user as a unit vector in the space of the stored frames.

Shapes: D embedding dimensions, F frames of a clip.
"""

from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image

from stillmotion.backbones.backbone import Embeds
from stillmotion.errors import InputError

SENT = ("PNG", "JPEG", "WEBP", "GIF")
"""Formats of an image that somebody sends, with decoders that browsers' images have tried."""
MOST_SENT_PX = 50_000_000


def read_image(path: Path) -> Image.Image:
    """An image file, upright, in RGB.

    Raises:
        InputError: there is no such file, or it is no image.
    """
    if path.exists() and not path.is_file():  # of a pipe or a device a reader waits for ever
        raise InputError(f"{path}: not a regular file; give --image a PNG or a JPEG")
    try:
        with Image.open(path) as image:
            return _upright(image)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; give --image an image such as a PNG or a JPEG") from None
    except _NO_IMAGE:
        raise InputError(f"{path}: can't be read as an image; give --image a PNG or a JPEG") from None


def read_sent_image(content: bytes) -> Image.Image:
    """The same of bytes that somebody sent: a few kilobytes may claim to be a picture that fills the memory.

    Raises:
        InputError: it is no image of the formats `SENT`, or larger than `MOST_SENT_PX`.
    """
    try:
        with Image.open(BytesIO(content), formats=SENT) as image:
            if image.width * image.height > MOST_SENT_PX:
                raise InputError(f"the image has {image.width} × {image.height} pixels; send a smaller one")
            return _upright(image)
    except InputError:
        raise
    except _NO_IMAGE:
        raise InputError(f"this can't be read as an image; send one of {', '.join(SENT)}") from None


def _upright(image: Image.Image) -> Image.Image:
    # As ImageOps.exif_transpose, which also writes the rest of Exif anew, and ends at a value of another kind there.
    image.load()
    turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    return (image if turn is None else image.transpose(turn)).convert("RGB")


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


_NO_IMAGE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)


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
