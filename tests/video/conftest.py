"""Videos made for the test, each frame of which shows its own number."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from stillmotion.video.decode import decode_frames
from stillmotion.video.probe import probe_video

NUM_BITS = 8


def draw_number(number: int, width: int, height: int) -> np.ndarray:
    """The number in white and black columns, highest bit first; below, the same inverted."""
    bits = np.array([number >> bit & 1 for bit in reversed(range(NUM_BITS))])
    columns = bits[np.arange(width) * NUM_BITS // width] * 220 + 16
    image = np.where(np.arange(height)[:, None] < height // 2, columns, 252 - columns)
    return np.repeat(image[:, :, None], 3, axis=2).astype(np.uint8)


def read_number(frame: np.ndarray) -> int:
    """The number that an upright, uncropped frame shows; fails where the frame is turned or mixed."""
    height, width = frame.shape[:2]
    columns = ((np.arange(NUM_BITS) + 0.5) * width / NUM_BITS).astype(int)
    top, bottom = frame[height // 4, columns].mean(axis=1), frame[height * 3 // 4, columns].mean(axis=1)
    assert np.all(np.abs(top - bottom) > 100), "neither black nor white"
    assert np.array_equal(top > 128, bottom < 128), "the lower half is not the upper half inverted"
    return int("".join("1" if bit else "0" for bit in top > 128), 2)


def make_numbered_video(
    path: Path,
    codec: str = "libx264",
    *,
    num_frames: int = 60,
    first: int = 0,
    rate: int | Fraction = 20,
    times_ms: Sequence[int] | None = None,
    size: tuple[int, int] = (128, 96),
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    turned: int = 0,
    sample_aspect_ratio: Fraction | None = None,
    container_options: dict[str, str] | None = None,
    title: str = "",
) -> Path:
    """Encode frame `first`, `first` + 1, … with any codec and container; `turned` degrees clockwise make it upright."""
    width, height = size
    time_base = Fraction(1, rate) if times_ms is None else Fraction(1, 1000)
    with av.open(str(path), "w", options=container_options or {}) as output:
        if title:
            output.metadata["title"] = title
        stream = output.add_stream(codec, rate=rate, options=options or {})
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        stream.codec_context.time_base, stream.codec_context.thread_count = time_base, 1
        if sample_aspect_ratio is not None:
            stream.codec_context.sample_aspect_ratio = sample_aspect_ratio
        if turned:
            stream.set_display_rotation(-turned)
        for number in range(num_frames):
            upright = (height, width) if turned in (90, 270) else (width, height)
            coded = np.rot90(draw_number(first + number, *upright), k=turned // 90)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(coded), format="rgb24")
            frame = frame.reformat(format=pix_fmt)
            frame.pts, frame.time_base = (number if times_ms is None else times_ms[number]), time_base
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


@pytest.fixture(scope="session")
def make_video() -> Callable[..., Path]:
    return make_numbered_video


@pytest.fixture(scope="session")
def number_of() -> Callable[[np.ndarray], int]:
    return read_number


@pytest.fixture
def numbers(number_of):
    """The numbers that all frames of a file show, as decoded for the store."""

    def read(path):
        probe = probe_video(path)
        return [number_of(frame) for frame in decode_frames(path, probe, range(probe.num_frames), 64, "squash")]

    return read


@pytest.fixture(scope="session")
def draw() -> Callable[[int, int, int], np.ndarray]:
    return draw_number
