"""Frames of a video, upright, resized and in RGB, in one pass.

Colours are what FFmpeg's swscale makes of the file's own matrix and range (no tone mapping of HDR), with
full chroma resolution: to within half a level of Pillow's bicubic resize of the frame, where swscale's
default is three times as far. Pixels count as square even where the container says otherwise, as in decord,
torchvision and the clips that the published systems were trained on.

A video with one frame that is asked for and can't be decoded is lost as a whole, with the reason; so is one
whose decoder reports an error before the last such frame, because what follows is predicted from damage.
Errors after that frame are never seen.
"""

from collections.abc import Container, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import Interpolation
from numpy.typing import ArrayLike, NDArray

from stillmotion.video.geometry import orientation_of
from stillmotion.video.pictures import frames_of, packets_of, stamp_of
from stillmotion.video.probe import Probe, VideoError, open_video, video_stream

_BICUBIC = Interpolation.BICUBIC | Interpolation.FULL_CHR_H_INT
_DECORD_BATCH = 16
"""Frames that decord hands over at a time: it keeps memory flat, and a batch is still one pass."""

Geometry = Literal["crop", "squash"]


def resized_shape(width: int, height: int, size_px: int, geometry: Geometry) -> tuple[int, int]:
    """Width and height to scale a frame to, before any crop.

    `crop` gives the shortest side size_px and rounds the other down, as torchvision's Resize does in CLIP's
    transform: 640 × 360 at 224 is 398 × 224.
    """
    if geometry == "squash":
        return size_px, size_px
    if width <= height:
        return size_px, int(size_px * height / width)
    return int(size_px * width / height), size_px


def centre_crop(frame_HWC: NDArray[np.uint8], size_px: int) -> NDArray[np.uint8]:
    """The middle size_px × size_px of a frame that is no smaller, rounded as torchvision's CenterCrop."""
    height, width = frame_HWC.shape[:2]
    top, left = round((height - size_px) / 2), round((width - size_px) / 2)
    return frame_HWC[top : top + size_px, left : left + size_px]


def _upright(frame: av.VideoFrame, probe: Probe, size_px: int, geometry: Geometry) -> NDArray[np.uint8]:
    orientation = orientation_of(frame, probe.orientation)
    if any(probe.crop):
        image: NDArray[Any] = frame.to_ndarray(format="rgb24", interpolation=_BICUBIC)
        left, right, top, bottom = probe.crop
        shown = image[top : frame.height - bottom, left : frame.width - right]
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(shown), format="rgb24")
    turned = orientation.rotation in (90, 270)
    width, height = (frame.height, frame.width) if turned else (frame.width, frame.height)
    width, height = resized_shape(width, height, size_px, geometry)
    if turned:
        width, height = height, width
    # Scaling before turning gives the same pixels and turns fewer of them.
    rgb = frame.reformat(width=width, height=height, format="rgb24", interpolation=_BICUBIC, threads=1)
    return centre_crop(orientation.apply(rgb.to_ndarray()), size_px)


def decoded_frames(
    path: Path, probe: Probe, wanted: Iterable[int], *, skip: bool = False, lenient: bool = False
) -> Iterator[tuple[int, av.VideoFrame]]:
    """Yield (index, frame) for the wanted indices, until the last of them or the end of the file.

    Args:
        path: The file that `probe` describes.
        probe: What `probe_video` says of it.
        wanted: Frames in display order.
        skip: Leave out, where that changes no other, what nobody wants.
        lenient: Go on after damage, and give damaged frames too.

    Raises:
        VideoError: a frame is damaged.
        FFmpegError: one can't be decoded.
    """
    left = {index if probe.pts is None else int(probe.pts[index]): index for index in wanted}
    with open_video(path) as container:
        stream = video_stream(container)
        stream.codec_context.thread_count = 1
        packets: Iterable[Packet] = packets_of(container, stream)
        if skip:
            packets = _skipping(packets, stream.codec_context, left)
        for count, frame in enumerate(frames_of(packets, stream, lenient=lenient)):
            key = count if probe.pts is None else stamp_of(frame)
            if key not in left:
                continue
            index = left.pop(key)
            if frame.is_corrupt and not lenient:
                raise VideoError(f"corrupt: the frame at {probe.timestamps[index]:.2f} s is damaged")
            yield index, frame
            if not left:
                return


def _skipping(packets: Iterable[Packet], context: VideoCodecContext, left: Container[int]) -> Iterator[Packet]:
    """The packets, the decoder told before each to skip what is not in `left` and no other frame refers to."""
    for packet in packets:
        needed = packet.pts is None or packet.pts in left
        context.skip_frame = "DEFAULT" if needed else "NONREF"
        yield packet


def _fill_by_pyav(
    path: Path, probe: Probe, wanted: list[int], out: NDArray[np.uint8], geometry: Geometry, *, skip: bool
) -> None:
    missing = dict(zip(wanted, range(len(wanted)), strict=True))
    try:
        for index, frame in decoded_frames(path, probe, wanted, skip=skip):
            place = missing.pop(index)
            try:
                out[place] = _upright(frame, probe, out.shape[1], geometry)
            except av.error.FFmpegError as error:  # such as of ICtCp, or a line of pixels 1 high
                raise VideoError(f"no conversion of its frames to RGB ({error.strerror!r})") from None
    except av.error.FFmpegError as error:
        first = probe.timestamps[min(missing)]
        raise VideoError(f"corrupt: {error.strerror!r} before the frame at {first:.2f} s") from None
    if missing and skip:
        # A stream that does not state its reordering leaves FFmpeg to learn it from the frames it sees;
        # with some of them skipped it can learn too late and drop one.
        _fill_by_pyav(path, probe, wanted, out, geometry, skip=False)
    elif missing:
        first = probe.timestamps[min(missing)]
        raise VideoError(
            f"corrupt: {len(missing)} of {len(wanted)} sampled frames can't be decoded, from {first:.2f} s on"
        )


def _fill_by_decord(path: Path, probe: Probe, wanted: list[int], out: NDArray[np.uint8], geometry: Geometry) -> bool:
    """Whether decord could decode them all: what it says where it can't holds a time and a path."""
    # Imported here: most videos need PyAV only, and a worker should start fast.
    import decord

    decord.logging.set_level(decord.logging.QUIET)
    size_px = out.shape[1]
    width, height = resized_shape(probe.width, probe.height, size_px, geometry)
    try:
        # Any frame that decord would replace by the one before it is an error: 0 would turn this off.
        reader = decord.VideoReader(
            str(path.absolute()), ctx=decord.cpu(0), width=width, height=height, num_threads=1, fault_tol=1e-9
        )
        if len(reader) != probe.num_frames:
            return False
        for start in range(0, len(wanted), _DECORD_BATCH):
            frames = reader.get_batch(wanted[start : start + _DECORD_BATCH]).asnumpy()
            for offset, frame in enumerate(frames):
                out[start + offset] = centre_crop(frame, size_px)
    except (decord.DECORDError, decord.DECORDLimitReachedError, IndexError):
        return False
    return True


def decode_frames(
    path: Path,
    probe: Probe,
    indices: ArrayLike,
    size_px: int,
    geometry: Geometry,
    *,
    out: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """Decode some frames of a video in one pass, on one thread.

    Args:
        path: The file that `probe` describes.
        probe: What `probe_video` says of it; it names the decoder.
        indices: (n,) frames in display order, ascending, each once.
        size_px: Height and width of the result.
        geometry: `crop`: shortest side to size_px, centre crop, as CLIP's transform; `squash`: both sides.
        out: (n, size_px, size_px, 3) array to fill, such as a memory map, instead of a new one.

    Returns:
        (n, size_px, size_px, 3) RGB, upright.

    Raises:
        VideoError: a frame can't be decoded, or the file has fewer frames than it promises.
    """
    wanted: list[int] = np.asarray(indices, dtype=np.int64).tolist()
    assert wanted == sorted(set(wanted)), "frames to decode are ascending and unique"
    if out is None:
        out = np.empty((len(wanted), size_px, size_px, 3), dtype=np.uint8)
    assert out.shape == (len(wanted), size_px, size_px, 3)
    if not wanted:
        return out
    if probe.decoder == "decord" and _fill_by_decord(path, probe, wanted, out, geometry):
        return out
    # Exact for H.264 alone: nothing ever refers to a picture whose nal_ref_idc is 0. It needs packets
    # that are whole frames, which interlaced transport streams do not have.
    _fill_by_pyav(path, probe, wanted, out, geometry, skip=probe.codec == "h264" and probe.whole_packets)
    return out
