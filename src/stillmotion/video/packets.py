"""What one pass over the packets of a file finds, and whether that tells which frames will come out of it."""

import contextlib
from array import array
from dataclasses import dataclass, field
from itertools import pairwise

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from stillmotion.video.pictures import Pictures, mpeg_sizes, packets_of, vp9_sizes

# The encoder delay in packed MPEG-4 is a packet of one byte; a frame's start code alone has four. One that says that
# nothing has changed, and gives no frame, has up to 19 (FFmpeg's MAX_NVOP_SIZE).
_SMALLEST_FRAME_BYTES = 4
_LARGEST_UNCODED_BYTES = 19


@dataclass
class Packets:
    """Of the video stream, in file order, times in its units; what is of other streams says so."""

    pts: list[int | None] = field(default_factory=list)
    """Of the packets that should each give a frame that is shown."""
    dts: list[int | None] = field(default_factory=list)
    """Of all packets with data."""
    spans: list[tuple[int, int]] = field(default_factory=list)
    """pts and duration of all that are shown, also of those that stand for a picture that stays."""
    others_s: "array[float]" = field(default_factory=lambda: array("d"))
    """Stamps of the other streams, in seconds."""
    sizes: set[tuple[int, int]] = field(default_factory=set)
    """Those that VP9 and MPEG-2 state."""
    after: set[int] = field(default_factory=set)
    """Streams that begin behind all that is of the video stream."""
    first: av.VideoFrame | None = None
    """The first frame that comes out."""
    end_s: float = 0.0
    """The latest end of a packet of any stream, in the container's own time."""
    num_samples: int = 0
    """With those that are empty."""
    cut: bool = False
    """The last packet is shorter than it says."""
    begins_damaged: bool = False
    """The first key frame can't be decoded."""
    hidden: bool = False
    """FFmpeg hides what starts anew, as the first fragment of a second file in one of MP4."""
    in_doubt: bool = False
    """A packet may give no frame, or is stamped out of order."""

    @property
    def in_file_order(self) -> bool:
        """Whether the stamps of the packets only rise."""
        stamps = [stamp for stamp in self.pts if stamp is not None]
        return len(stamps) == len(self.pts) and all(one < other for one, other in pairwise(stamps))

    @property
    def dts_rise(self) -> bool:
        """Whether the packets say that they are decoded one after another: then no clock starts again."""
        stamps = [stamp for stamp in self.dts if stamp is not None]
        return bool(stamps) and all(one <= other for one, other in pairwise(stamps))


def read_packets(container: InputContainer, stream: VideoStream) -> Packets:
    """Read all packets, and decode until the first frame comes out.

    Raises:
        FFmpegError: the file can't be read to its end.
    """
    found = Packets()
    context = stream.codec_context
    codec = context.codec.canonical_name
    pictures = Pictures(stream)
    # A packet makes its time base a fraction each time that it is asked.
    units = {stream.index: float(stream.time_base or 0) for stream in container.streams}
    last_dts: int | None = None
    begins: dict[int, int] = {}
    last_byte = 0
    for packet in packets_of(container):
        ours = packet.stream_index == stream.index
        if packet.pts is not None:
            duration, unit = packet.duration or 0, units.get(packet.stream_index, 0.0)
            found.end_s = max(found.end_s, (packet.pts + duration) * unit)
            if not ours:
                found.others_s.append(packet.pts * unit)
            elif not packet.is_discard:
                found.spans.append((packet.pts, duration))
        found.num_samples += ours and (packet.size > 0 or packet.dts is not None)
        if packet.size == 0:
            continue
        found.cut = packet.is_corrupt
        if not ours:
            begins.setdefault(packet.stream_index, packet.pos or 0)
            continue
        last_byte = max(last_byte, packet.pos or 0)
        if found.first is None:
            try:
                found.first = next(iter(context.decode(packet)), None)
            except av.error.FFmpegError:
                found.begins_damaged |= pictures.begin_with(packet)
        if codec == "vp9":
            found.sizes |= vp9_sizes(packet)
        elif codec in ("mpeg1video", "mpeg2video"):
            found.sizes |= mpeg_sizes(packet)
        if not found.dts and not packet.is_keyframe:
            found.in_doubt = True  # the start of a GOP is missing
        if packet.dts is not None:
            found.in_doubt |= last_dts is not None and packet.dts <= last_dts
            found.hidden |= packet.is_discard and last_dts is not None and packet.dts < last_dts
            last_dts = packet.dts
        found.dts.append(packet.dts)
        placeholder = codec == "mpeg4" and packet.size < _SMALLEST_FRAME_BYTES
        # What an edit list cuts away is decoded but never shown.
        if not packet.is_discard and not placeholder and pictures.held_by(packet):
            found.pts.append(packet.pts)
            found.in_doubt |= codec == "mpeg4" and packet.size <= _LARGEST_UNCODED_BYTES
    found.after = {index for index, byte in begins.items() if byte > last_byte}
    # MPEG-2 drops a frame where the size changes; stamps that rise in the order of decoding are not those of B-frames.
    found.in_doubt |= codec != "vp9" and len(found.sizes) > 1
    found.in_doubt |= bool(context.has_b_frames) and found.in_file_order and not keeps_no_pts(container, stream)
    if found.first is None:
        with contextlib.suppress(av.error.FFmpegError):
            found.first = next(iter(context.decode(None)), None)
    return found


def keeps_no_pts(container: InputContainer, stream: VideoStream) -> bool:
    """AVI holds decoding times only; FFmpeg's guess at the others is wrong once frames are reordered."""
    return container.format.name == "avi" and bool(stream.codec_context.has_b_frames)


def tell_frames(container: InputContainer, stream: VideoStream, packets: Packets, first: av.VideoFrame) -> bool:
    """Whether each packet of `packets.pts` gives one frame, with that stamp, or all lack one."""
    if packets.in_doubt or (first.interlaced_frame and stream.codec_context.codec.canonical_name == "h264"):
        return False  # H.264 may have a packet, and a stamp, for each field
    stamps = [pts for pts in packets.pts if pts is not None]
    if not stamps or keeps_no_pts(container, stream):
        return True
    return len(set(stamps)) == len(packets.pts) and first.pts == min(stamps)
