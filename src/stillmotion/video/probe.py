"""What a video file holds, from its packets: nothing but its first frame is decoded.

The sequential decode of PyAV is the reference for which frame is which. A frame is known by the presentation
time (pts) of its packet; an AVI file with B-frames keeps no such times, so there the frames are counted in
the order in which they come out.

Which decoder reads a file depends on the file alone, never on what is installed. Found with decord 0.6.0 and
PyAV 18.1 on the 63 files of ../shared/real/videos and on generated ones whose frames show their number:

- VP9 of 8 bit 4:2:0, upright, in Matroska, WebM or MP4: decord. It gives the right frames in 0.94 of PyAV's
  CPU time; its older scaler makes them up to 3 levels of 255 darker.
- H.264: PyAV. decord gives wrong frames with open GOPs, in MPEG-TS and in AVI, without a word. Elsewhere it is
  right, but PyAV skips the non-reference frames that nobody asks for: 0.7 of decord's CPU time.
- HEVC: PyAV. decord gives a later frame after each open GOP.
- AV1: PyAV. decord can't read it.
- MPEG-1, MPEG-2, MPEG-4, WMV: PyAV. decord repeats or misses frames where there are B-frames.
- all others: PyAV, the reference.
"""

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import av
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream
from numpy.typing import NDArray

# Text, pictures and lists of other files, which FFmpeg can open as if they were videos.
_OTHER_FORMATS = {"tty", "bin", "xbin", "adf", "idf", "image2", "hls", "concat", "dash", "sdp", "rtsp"}
# Containers whose header states how long the file should be.
_STATES_DURATION = ("mov", "matroska", "avi", "asf", "flv")
# The encoder delay in packed MPEG-4 is a packet of one byte; a frame's start code alone has four.
_SMALLEST_FRAME_BYTES = 4


class VideoError(Exception):
    """A video that can't be used; `reason` is a short clause that names no file."""

    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True, eq=False)
class Probe:
    """What the packets of a video say."""

    duration: float
    """Seconds from the first frame to the end of the last."""
    fps: float
    """Average: num_frames / duration."""
    num_frames: int
    """Packets that should each give a frame."""
    width: int
    """Pixels, upright: after `rotation`. Pixels count as square, whatever the container says of them."""
    height: int
    codec: str
    """FFmpeg's name: h264, hevc, vp9, av1, mpeg4, …"""
    rotation: Literal[0, 90, 180, 270]
    """Degrees clockwise that turn a decoded frame upright."""
    decoder: Literal["decord", "pyav"]
    whole_packets: bool
    """The container keeps each frame in one packet (MP4, Matroska); a stream may split it into fields."""
    timestamps: NDArray[np.float64]
    """(num_frames,) seconds from the first frame at which each frame appears, in display order."""
    pts: NDArray[np.int64] | None
    """(num_frames,) the same in the stream's units, by which frames are told apart; None: by counting."""


def upright_rotation(frame: av.VideoFrame) -> Literal[0, 90, 180, 270]:
    """Degrees clockwise, to the nearest quarter turn, that turn `frame` upright."""
    quarters: dict[int, Literal[0, 90, 180, 270]] = {0: 0, 1: 90, 2: 180, 3: 270}
    return quarters[round(-frame.rotation / 90) % 4]


def open_video(path: Path) -> InputContainer:
    """Open a file for reading, local files only.

    Raises:
        VideoError: FFmpeg does not know the file as a video.
    """
    try:
        # With its protocol named, no part of the path can be taken for another one.
        return av.open(f"file:{path}", metadata_errors="ignore", options={"protocol_whitelist": "file"})
    except FileNotFoundError:
        raise VideoError("no such file") from None
    except (PermissionError, IsADirectoryError):
        raise VideoError("not a readable file") from None
    except (av.error.FFmpegError, ValueError):
        with path.open("rb") as file:
            head = file.read(12)
        if not head:
            raise VideoError("empty file") from None
        if head[4:8] == b"ftyp":
            raise VideoError("truncated: it ends before its index (moov atom)") from None
        if head.startswith((b"RIFF", b"\x1aE\xdf\xa3")):
            raise VideoError("truncated: it ends before its first frame") from None
        raise VideoError("not a video (no format that FFmpeg knows)") from None


def video_stream(container: InputContainer) -> VideoStream:
    """The stream that FFmpeg itself would choose: the largest that is no cover picture.

    Raises:
        VideoError: there is none.
    """
    names = container.format.name.split(",")
    if any(name in _OTHER_FORMATS or name.endswith("_pipe") for name in names):
        raise VideoError(f"not a video (FFmpeg reads it as {names[0]})")
    if not any(stream.type in ("video", "audio", "subtitle") for stream in container.streams):
        raise VideoError("truncated: its header names no stream")
    stream = container.streams.best("video")
    if not isinstance(stream, VideoStream) or stream.disposition & Disposition.attached_pic:
        raise VideoError("no video stream")
    if stream.codec_context is None:
        raise VideoError("no decoder for its codec")
    return stream


@dataclass
class _Packets:
    """What one pass over all packets found; times in the video stream's units, in file order."""

    pts: list[int | None]
    dts: list[int | None]
    durations: list[int]
    end_s: float
    """The latest end of a packet of any stream, in the container's own time."""
    cut: bool
    """The last packet is shorter than it says."""
    rotation: Literal[0, 90, 180, 270]


def _read_packets(container: InputContainer, stream: VideoStream) -> _Packets:
    found = _Packets([], [], [], 0.0, False, 0)
    awaits_first_frame = True
    is_mpeg4 = stream.codec_context.codec.canonical_name == "mpeg4"
    for packet in container.demux():
        if packet.size == 0:
            continue
        if packet.pts is not None and packet.time_base is not None:
            end = float((packet.pts + (packet.duration or 0)) * packet.time_base)
            found.end_s = max(found.end_s, end)
        found.cut = packet.is_corrupt
        if packet.stream.index != stream.index:
            continue
        if awaits_first_frame:
            # The container's rotation is handed out only with a frame. A decoder that fails here fails
            # again in decode.py, which tells why.
            with contextlib.suppress(av.error.FFmpegError):
                for frame in stream.codec_context.decode(packet):
                    found.rotation = upright_rotation(frame)
                    awaits_first_frame = False
        # What an edit list cuts away is decoded but never shown.
        placeholder = is_mpeg4 and packet.size < _SMALLEST_FRAME_BYTES
        if not packet.is_discard and not placeholder:
            found.pts.append(packet.pts)
            found.durations.append(packet.duration or 0)
        found.dts.append(packet.dts)
    return found


def _frame_times(
    container: InputContainer, stream: VideoStream, packets: _Packets
) -> tuple[NDArray[np.float64], NDArray[np.int64] | None, float]:
    """Timestamps, pts (None: frames must be counted), and the seconds that the last frame lasts."""
    num_packets = len(packets.pts)
    unit = float(stream.time_base) if stream.time_base else 0.0
    rate = float(stream.average_rate or stream.guessed_rate or 25)
    known = {pts: duration for pts, duration in zip(packets.pts, packets.durations, strict=True) if pts is not None}
    # AVI holds decoding times only; FFmpeg's guess at the others is wrong once frames are reordered.
    counted = not known or (container.format.name == "avi" and bool(stream.codec_context.has_b_frames))
    if not counted:
        pts = np.array(sorted(known), dtype=np.int64)
        timestamps = (pts - pts[0]) * unit
        last = known[int(pts[-1])] * unit
    else:
        pts = None
        dts = sorted(value for value in packets.dts if value is not None)[-num_packets:]
        complete = len(dts) == num_packets and len(set(dts)) == num_packets
        ticks = np.array(dts, dtype=np.int64) if complete else None
        timestamps = np.arange(num_packets) / rate if ticks is None else (ticks - ticks[0]) * unit
        last = 0.0
    if last <= 0:
        last = float(np.median(np.diff(timestamps))) if len(timestamps) > 1 else 1 / rate
    return timestamps, pts, last


def _missing_end(container: InputContainer, stream: VideoStream, packets: _Packets) -> str | None:
    """What shows that the file once was longer, or None."""
    names = container.format.name.split(",")
    num_packets = len(packets.dts)
    if "mov" in names and num_packets < len(stream.index_entries):
        return f"{num_packets} of {len(stream.index_entries)} frames are there"
    if packets.cut and any(name in _STATES_DURATION for name in names):
        return "its last packet is incomplete"
    if container.duration is not None and any(name in _STATES_DURATION for name in names):
        # Matroska counts its duration from time 0, where a first frame need not be.
        expected_s = container.duration / av.time_base
        if packets.end_s < expected_s - max(0.5, 0.02 * expected_s):
            return f"{packets.end_s:.1f} of {expected_s:.1f} s are there"
    return None


def probe_video(path: Path) -> Probe:
    """Read all packets of a video file and decode its first frame.

    Raises:
        VideoError: `empty file`, `no video stream`, `not a video (…)`, `no frames`, `truncated: …`.
    """
    with open_video(path) as container:
        stream = video_stream(container)
        stream.codec_context.thread_count = 1
        try:
            packets = _read_packets(container, stream)
        except av.error.FFmpegError as error:
            raise VideoError(f"truncated: reading stops with {error.strerror!r}") from None
        lost = _missing_end(container, stream, packets)
        if lost is not None:
            raise VideoError(f"truncated: {lost}")
        if not packets.pts:
            raise VideoError("no frames")
        timestamps, pts, last = _frame_times(container, stream, packets)
        context = stream.codec_context
        turned = packets.rotation in (90, 270)
        codec = context.codec.canonical_name
        plain = context.pix_fmt == "yuv420p" and packets.rotation == 0 and pts is not None
        whole = any(name in ("mov", "matroska") for name in container.format.name.split(","))
        in_decord = codec == "vp9" and plain and whole and len(timestamps) == len(packets.dts)
        duration = float(timestamps[-1]) + last
        return Probe(
            duration=duration,
            fps=len(timestamps) / duration,
            num_frames=len(timestamps),
            width=context.height if turned else context.width,
            height=context.width if turned else context.height,
            codec=codec,
            rotation=packets.rotation,
            decoder="decord" if in_decord else "pyav",
            whole_packets=whole and pts is not None,
            timestamps=timestamps,
            pts=pts,
        )
