"""What a video file holds, from its packets; where these do not tell, from all its frames.

The sequential decode of PyAV is the reference for which frame is which, and what comes out of it is a frame. Of most
files the packets tell which that will be, and nothing but the first frame is decoded. All are, once, where the packets
start in the middle of a GOP, hold fields or lack time stamps of their own. A frame is known by its presentation time
(pts); where these start again, or in an AVI file with B-frames, which keeps none, the frames are counted as they come
out.

Times count from the start of the container, the earliest of its sound and pictures, as in players and `ffmpeg -ss`; in
MPEG transport streams from the first stream's first stamp. A first frame that comes later stands until then.

Which decoder reads a file depends on the file alone, never on what is installed. Found with decord 0.6.0 and
PyAV 18.1 on the 63 files of ../shared/real/videos and on generated ones whose frames show their number:

- VP9 of 8 bit 4:2:0, of one size, upright and not cropped, in Matroska, WebM or MP4 with a stated duration: decord. It
  gives the right frames in 0.94 of PyAV's CPU time; its older scaler makes them up to 3 levels of 255 darker. Without a
  duration it fails, and another size it distorts.
- H.264: PyAV. decord gives wrong frames with open GOPs, in MPEG-TS and in AVI, without a word. Elsewhere it is
  right, but PyAV skips the non-reference frames that nobody asks for: 0.7 of decord's CPU time.
- HEVC: PyAV. decord gives a later frame after each open GOP.
- AV1: PyAV. decord can't read it.
- MPEG-1, MPEG-2, MPEG-4, WMV: PyAV. decord repeats or misses frames where there are B-frames.
- all others: PyAV, the reference.
"""

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import av
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream
from numpy.typing import NDArray

from stillmotion.config.bounds import MAX_DURATION_S
from stillmotion.io.memo import file_digest
from stillmotion.video.clock import Timeline, frame_timeline
from stillmotion.video.geometry import UPRIGHT, Crop, Orientation, num_pictures, orientation_of, stated_crop
from stillmotion.video.joined_flv import JoinedFlv
from stillmotion.video.packets import Packets, read_packets, tell_frames
from stillmotion.video.pictures import frames_of, packets_of, stamp_of
from stillmotion.video.stated_bytes import is_broken, is_joined, missing_bytes

# Text, pictures and lists of other files, which FFmpeg can open as if they were videos.
_OTHER_FORMATS = {"tty", "bin", "xbin", "adf", "idf", "image2", "ico", "hls", "concat", "dash", "sdp", "rtsp"}
# Images in the container of MP4, by its major brand: FFmpeg gives one of their tiles.
_IMAGE_BRANDS = ("avif", "heic", "heix", "heim", "heis", "mif1")
_STILLS = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image | Disposition.dependent
# Containers whose header states how long the file should be.
_STATES_DURATION = ("mov", "matroska", "avi", "asf", "flv")
# Containers of blocks of which the last says how long it should be.
_ENDS_IN_A_BLOCK = ("mov", "ogg", "gif", "ivf", "yuv4mpegpipe")


class VideoError(Exception):
    """A video that can't be used; `reason` is a short clause that names no file."""

    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True, eq=False)
class Probe:
    """What the packets of a video say."""

    duration: float
    """Seconds from the start of the container to the end of the last frame."""
    fps: float
    """Average while there is a picture: num_frames / (duration - timestamps[0])."""
    num_frames: int
    """Frames that come out of the decoder."""
    width: int
    """Pixels, cropped and upright. Pixels count as square, whatever the container says of them."""
    height: int
    codec: str
    """FFmpeg's name: h264, hevc, vp9, av1, mpeg4, …"""
    orientation: Orientation
    """Of the first frame."""
    crop: Crop
    """What the container hides of each decoded frame."""
    decoder: Literal["decord", "pyav"]
    whole_packets: bool
    """Each frame is one packet with its stamp, as MP4 and Matroska keep them; a stream may split it into fields."""
    timestamps: NDArray[np.float64]
    """(num_frames,) seconds from the start of the container at which each frame appears, in display order."""
    pts: NDArray[np.int64] | None
    """(num_frames,) their stamps in the stream's units, by which frames are told apart; None: by counting."""
    num_mends: int
    """Where the time stamps start again or jump: `timestamps` goes on there."""


def open_video(path: Path) -> InputContainer:
    """Open a file for reading, local files only.

    Raises:
        VideoError: FFmpeg does not know the file as a video.
    """
    _require_regular(path)
    try:
        # With its protocol named, no part of the path can be taken for another one.
        container = av.open(f"file:{path}", metadata_errors="ignore", options={"protocol_whitelist": "file"})
        if container.format.name == "mjpeg" and not _head(path).startswith(b"\xff\xd8"):
            container.close()
            raise VideoError("not a video (it has pictures in it)")
        if container.format.name == "flv" and (parts := JoinedFlv(path)).num_parts > 1:
            container.close()
            return av.open(parts, mode="r", metadata_errors="ignore")
        return container
    except FileNotFoundError:
        raise VideoError("no such file") from None
    except (PermissionError, IsADirectoryError):
        raise VideoError("not a readable file") from None
    except (av.error.FFmpegError, ValueError):
        head = _head(path)
        if not head:
            raise VideoError("empty file") from None
        if head[4:8] == b"ftyp":
            raise VideoError("truncated: it ends before its index (moov atom)") from None
        if head.startswith((b"RIFF", b"\x1aE\xdf\xa3")):
            raise VideoError("truncated: it ends before its first frame") from None
        raise VideoError("not a video (no format that FFmpeg knows)") from None


def _head(path: Path) -> bytes:
    """The first bytes of a file, which tell its kind."""
    try:
        with path.open("rb") as file:
            return file.read(12)
    except OSError as error:
        raise _unreadable(error) from None


def _require_regular(path: Path) -> None:
    """Refuse a pipe, a socket or a device, of which a reader could wait for ever; VideoError names it."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return  # opening it says why
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise VideoError("not a regular file (a pipe, a socket or a device)")


def video_digest(path: Path) -> str:
    """SHA-256 of a video file, in hex; VideoError where it can't be read."""
    _require_regular(path)
    try:
        return file_digest(path)
    except OSError as error:
        raise _unreadable(error) from None


def _unreadable(error: OSError) -> VideoError:
    """What can't be opened or read is that video's fault, unless the machine has no more to give to any."""
    if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
        raise error
    return VideoError(f"not a readable file ({os.strerror(error.errno or 0).lower()})")


def video_stream(container: InputContainer) -> VideoStream:
    """The first video stream that is no still picture and has a decoder: every stage takes this one.

    Raises:
        VideoError: there is none.
    """
    names = container.format.name.split(",")
    if any(name in _OTHER_FORMATS or name.endswith("_pipe") for name in names):
        raise VideoError(f"not a video (FFmpeg reads it as {names[0]})")
    if not any(stream.type in ("video", "audio", "subtitle") for stream in container.streams):
        raise VideoError("truncated: its header names no stream")
    if (brand := container.metadata.get("major_brand")) in _IMAGE_BRANDS:
        raise VideoError(f"not a video (FFmpeg reads it as {brand})")
    streams = [stream for stream in container.streams.video if not stream.disposition & _STILLS]
    streams.sort(key=lambda stream: stream.frames == 1)  # before a video, as of a camera or an animation, it is a still
    if not streams:
        raise VideoError("no video stream")
    for stream in streams:
        if stream.codec_context is not None:
            return stream
    raise VideoError("no decoder for its codec")


def _missing_end(path: Path, container: InputContainer, stream: VideoStream, packets: Packets) -> str | None:
    """What shows that the file once was longer, or None."""
    names = container.format.name.split(",")
    num_indexed = sum(entry.size > 0 for entry in stream.index_entries) if "mov" in names else 0
    if packets.num_samples < num_indexed:
        return f"{packets.num_samples} of {num_indexed} frames are there"
    if packets.cut and any(name in _STATES_DURATION for name in names):
        return "its last packet is incomplete"
    missing = missing_bytes(path, container.format.name)
    if missing and any(name in _ENDS_IN_A_BLOCK for name in names):
        return "its last block is incomplete"
    if missing and "avi" in names and packets.num_samples < stream.frames:
        return f"{packets.num_samples} of {stream.frames} frames are there"
    if missing and container.duration is None:  # FFmpeg gives none of ASF that is much shorter than it says
        return f"{missing:,} bytes are missing at its end"
    if missing != 0 and container.duration is not None and any(name in _STATES_DURATION for name in names):
        # Matroska counts its duration from time 0, where a first frame need not be. To AVI and ASF, sound that begins
        # late ends later than it does.
        expected_s = container.duration / av.time_base
        if stream.duration is not None and stream.time_base is not None:
            expected_s = min(expected_s, float(stream.duration * stream.time_base))
        starts = sorted(start for start, _ in packets.spans)
        # Some state no duration of a last frame.
        last_s = float(np.median(np.diff(starts)) * (stream.time_base or 0)) if len(starts) > 1 else 0.0
        # What is missing may be its index alone.
        usual_s = max(0.5, 0.02 * expected_s) if missing is None else 0.1
        if packets.end_s < expected_s - max(usual_s, 1.01 * last_s):
            return f"{packets.end_s:.1f} of {expected_s:.1f} s are there"
    return None


def _goes_on_elsewhere(container: InputContainer, packets: Packets) -> bool:
    """Whether another stream takes over, as in transport streams around advertisements."""
    if num_pictures(container) > len(container.streams.video):
        return True
    after = (container.streams[index].type for index in packets.after)
    return container.format.name == "mpegts" and "video" in after


def _timeline_by_decoding(path: Path, packets: Packets) -> Timeline:
    """When the frames are shown that come out of the decoder: all of them are decoded."""
    with open_video(path) as container:
        stream = video_stream(container)
        stream.codec_context.thread_count = 1
        stream.codec_context.options = {"skip_loop_filter": "all"}  # what the pixels are matters elsewhere
        frames = frames_of(packets_of(container, stream), stream, lenient=True)
        stamps = [(stamp_of(frame), frame.dts) for frame in frames]
        return frame_timeline(container, stream, packets, [pts for pts, _ in stamps], [dts for _, dts in stamps])


def probe_video(path: Path) -> Probe:
    """Read all packets of a video file, and decode its first frame, or all where the packets do not tell the frames.

    Raises:
        VideoError: `empty file`, `no video stream`, `not a video (…)`, `no frames`, `truncated: …`, `corrupt: …`.
    """
    with open_video(path) as container:
        stream = video_stream(container)
        stream.codec_context.thread_count = 1
        try:
            packets = read_packets(container, stream)
        except av.error.FFmpegError as error:
            raise VideoError(f"truncated: reading stops with {error.strerror!r}") from None
        lost = _missing_end(path, container, stream, packets)
        if lost is not None:
            raise VideoError(f"truncated: {lost}")
        # An index that is written again does no harm.
        if (packets.hidden or "mov" not in container.format.name) and is_broken(path, container.format.name):
            raise VideoError("corrupt: its parts do not follow one another")
        if is_joined(path, container.format.name):
            raise VideoError("corrupt: a second file is joined to it, which is not read")
        if _goes_on_elsewhere(container, packets):
            raise VideoError("corrupt: its picture goes on in another stream")
        if not packets.pts:
            raise VideoError("no frames")
        if packets.begins_damaged:
            raise VideoError("corrupt: its first key frame can't be decoded")
        if packets.first is None:
            raise VideoError("corrupt: not one frame can be decoded")
        told = tell_frames(container, stream, packets, packets.first)
        if told:
            pts = sorted(packets.pts, key=lambda value: value or 0)
            timeline = frame_timeline(container, stream, packets, pts, packets.dts)
        else:
            timeline = _timeline_by_decoding(path, packets)
        context, orientation, crop = stream.codec_context, orientation_of(packets.first), stated_crop(container, stream)
        width, height = context.width - crop.left - crop.right, context.height - crop.top - crop.bottom
        if orientation.rotation in (90, 270):
            width, height = height, width
        if timeline.duration > MAX_DURATION_S:
            raise VideoError(f"longer than {MAX_DURATION_S:,.0f} s, the most that a video may be")
        codec = context.codec.canonical_name
        whole = any(name in ("mov", "matroska") for name in container.format.name.split(","))
        plain = context.pix_fmt == "yuv420p" and orientation == UPRIGHT and not any(crop) and len(packets.sizes) == 1
        steady = told and whole and timeline.pts is not None and container.duration is not None
        num_frames = len(timeline.timestamps)
        alone = len(container.streams.video) == 1  # of several, decord has an opinion of its own
        in_decord = codec == "vp9" and plain and steady and alone and num_frames == len(packets.dts)
        return Probe(
            duration=timeline.duration,
            fps=num_frames / (timeline.duration - float(timeline.timestamps[0])),
            num_frames=num_frames,
            width=width,
            height=height,
            codec=codec,
            orientation=orientation,
            crop=crop,
            decoder="decord" if in_decord else "pyav",
            whole_packets=told and whole and timeline.pts is not None,
            timestamps=timeline.timestamps,
            pts=timeline.pts,
            num_mends=timeline.num_mends,
        )
