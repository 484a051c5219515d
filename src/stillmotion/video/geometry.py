"""Which way up a decoded frame is shown, and what of it: what a container says of the picture."""

import math
import re
import threading
from typing import Any, Literal, NamedTuple

import av
import numpy as np
from av.container import InputContainer
from av.sidedata.sidedata import Type
from av.video.stream import VideoStream
from numpy.typing import NDArray

NAMING = threading.Lock()


class Orientation(NamedTuple):
    """What makes a decoded frame upright: mirror left and right, then turn."""

    mirrored: bool
    rotation: Literal[0, 90, 180, 270]
    """Degrees clockwise."""

    def apply(self, image: NDArray[Any]) -> NDArray[np.uint8]:
        """(H, W, 3) uint8, upright."""
        return np.rot90(image[:, ::-1] if self.mirrored else image, k=-self.rotation // 90)


UPRIGHT = Orientation(False, 0)


class Crop(NamedTuple):
    """Pixels of a decoded frame that are not shown, at each side."""

    left: int
    right: int
    top: int
    bottom: int


def _side_data(frame: av.VideoFrame) -> Any:
    """What stands beside a frame.

    PyAV 18.1 hands out none of it where one thing has no name in its list of kinds, such as the EXIF data of a JPEG or
    which eye a spatial video shows; these are called hints here, which nothing asks for.
    """
    try:
        return frame.side_data
    except ValueError:
        with NAMING:
            Type._missing_ = classmethod(lambda cls, value: cls.VIDEO_HINT)  # type: ignore[method-assign,assignment]
            try:
                return frame.side_data
            finally:
                del Type._missing_


def orientation_of(frame: av.VideoFrame, otherwise: Orientation = UPRIGHT) -> Orientation:
    """The display matrix of a frame, to the nearest quarter turn; `otherwise` where it has none.

    H.264 that keeps its own says it with key frames, and FFmpeg of these alone.
    """
    matrix = _side_data(frame).get("DISPLAYMATRIX")
    if matrix is None:
        return otherwise
    a, b, _, c, d = np.frombuffer(memoryview(matrix), dtype=np.int32)[:5].tolist()
    quarters: dict[int, Literal[0, 90, 180, 270]] = {0: 0, 1: 90, 2: 180, 3: 270}
    return Orientation(a * d < b * c, quarters[round(math.atan2(-c, d) / (math.pi / 2)) % 4])


def _description(container: InputContainer) -> str:
    """FFmpeg's description of a file, which alone hands out some of what it knows."""
    level = av.logging.get_level()
    av.logging.set_level(av.logging.INFO)
    try:
        return container.dumps_format()  # type: ignore[attr-defined]  # not in PyAV's stubs
    finally:
        av.logging.set_level(level)


def num_pictures(container: InputContainer) -> int:
    """How many streams of pictures a file has as far as it was read: PyAV lists those of its start."""
    return len(re.findall(r"^  Stream #0:\d+\S*: Video: ", _description(container), re.MULTILINE))


def stated_crop(container: InputContainer, stream: VideoStream) -> Crop:
    """The crop that the container states (`clap` of MP4, PixelCrop of Matroska), beside the codec's own."""
    _, _, ours = _description(container).partition(f"\n  Stream #0:{stream.index}")
    stated = re.search(r"^ +Frame Cropping: (\d+)/(\d+)/(\d+)/(\d+)", ours.partition("\n  Stream #")[0], re.MULTILINE)
    return Crop(*map(int, stated.groups())) if stated else Crop(0, 0, 0, 0)
