"""The frames of a video as JPEGs in one array of bytes: their F sizes, of four bytes each, and then they themselves.

That libjpeg-turbo codes and decodes to equal bytes with a processor's instructions and without is held by a test; of
another version nothing is assumed.

Shapes: F frames, K of them, S size, B bytes.
"""

import io
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, features

from stillmotion.errors import InputError

QUALITY = 95
_SIZE = np.dtype("<u4")


def codec_version() -> str:
    """What codes and decodes, for keys of the memo."""
    return f"Pillow {version('pillow')}, libjpeg-turbo {features.version('libjpeg_turbo')}"


def encode_jpegs(frames_FSS3: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(B,) uint8 of RGB frames, whose colors are as fine as their light (4:4:4)."""
    jpegs = []
    for frame in frames_FSS3:
        buffer = io.BytesIO()
        Image.fromarray(np.asarray(frame)).save(buffer, "JPEG", quality=QUALITY, subsampling="4:4:4")
        jpegs.append(buffer.getvalue())
    sizes_F = np.array([len(jpeg) for jpeg in jpegs], _SIZE)
    return np.frombuffer(sizes_F.tobytes() + b"".join(jpegs), np.uint8)


def decode_jpegs(
    bytes_B: NDArray[np.uint8], num_frames: int, indices_K: NDArray[np.int64], path: Path
) -> NDArray[np.uint8]:
    """(K, S, S, 3) some of F frames; one that is asked for twice is decoded once.

    Args:
        bytes_B: what `encode_jpegs` returned.
        num_frames: F.
        indices_K: which.
        path: the file that they lie in.

    Raises:
        InputError: names the file, whose bytes are others.
    """
    heading = num_frames * _SIZE.itemsize
    wanted, places_K = np.unique(indices_K, return_inverse=True)
    try:
        edges = heading + np.cumsum([0, *bytes_B[:heading].view(_SIZE).tolist()])
        jpegs = [Image.open(io.BytesIO(bytes_B[edges[frame] : edges[frame + 1]].data)) for frame in wanted]
        return np.stack([np.asarray(jpeg) for jpeg in jpegs])[places_K]
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not the JPEGs of a frames store ({error}); make it anew with `dvc repro`") from None
