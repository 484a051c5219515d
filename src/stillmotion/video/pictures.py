"""What packets hold, from their first bytes, and the frames that a decoder makes of them.

A frame is what comes out of the decoder. Packets without data stand for a picture that stays; PyAV would take one for
the end of the stream. Packets that hold messages or parameters alone, and what comes before the first key frame where
a stream was cut, give no frame, or an error, without any damage.

Sources: ITU-T H.264 and H.265, 7.3.1 and table 7-1; VP9 Bitstream Specification 6.2 and annex B.
"""

import contextlib
import re
from collections.abc import Iterable, Iterator

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

_LENGTH_AT = {"h264": 4, "hevc": 21}
"""Which byte of the decoder's configuration tells how many bytes the length of a unit takes."""
_WITHOUT_PICTURE = {"h264": range(6, 16), "hevc": range(32, 41)}
"""Types of units that are parameters, messages, delimiters or filling."""


class Pictures:
    """What the packets of a stream hold."""

    def __init__(self, stream: VideoStream):
        context = stream.codec_context
        self._codec = context.codec.canonical_name
        configuration, at = context.extradata or b"", _LENGTH_AT.get(self._codec, 0)
        has_lengths = 0 < at < len(configuration) and configuration[0] == 1
        self._length_bytes = (configuration[at] & 3) + 1 if has_lengths else 0
        self._mask, self._shift = (0x9F, 0) if self._codec == "h264" else (0xFE, 1)  # with the bit that must be 0

    def _unit_heads(self, packet: Packet) -> Iterator[int]:
        """The first byte of each NAL unit, with lengths before them (MP4, Matroska) or start codes; -1 for damage."""
        data, at, size = bytes(packet), 0, self._length_bytes
        if size:
            while at < len(data):
                length = int.from_bytes(data[at : at + size], "big")
                is_whole = length and at + size + length <= len(data)
                yield data[at + size] if is_whole else -1
                at = at + size + length if is_whole else len(data)
        else:
            while (at := data.find(b"\0\0\1", at) + 3) > 2:
                yield data[at] if at < len(data) else -1

    def held_by(self, packet: Packet) -> bool:
        """Whether a packet should give a picture; what can't be told, or is damaged, should."""
        if self._codec == "theora" and packet.size:
            return not bytes(packet)[0] & 0x80  # a header, as at the start of each of several joined files
        if not packet.size or self._codec not in _LENGTH_AT:
            return packet.size > 0
        others = _WITHOUT_PICTURE[self._codec]
        return any((head & self._mask) >> self._shift not in others for head in self._unit_heads(packet))

    def begin_with(self, packet: Packet) -> bool:
        """Whether a first packet that can't be decoded is damaged: a later one of its GOP can't be in any case."""
        broken = self._codec in _LENGTH_AT and -1 in self._unit_heads(packet)
        return broken or (packet.is_keyframe and self.held_by(packet))


def packets_of(container: InputContainer, *streams: VideoStream) -> Iterator[Packet]:
    """The packets of some streams or all, in file order; PyAV ends with an IndexError where a stream began late."""
    with contextlib.suppress(IndexError):
        yield from container.demux(*streams)


def stamp_of(frame: av.VideoFrame) -> int | None:
    """What a frame is known by where these are unique: when it is shown, or else decoded."""
    return frame.dts if frame.pts is None else frame.pts


def frames_of(packets: Iterable[Packet], stream: VideoStream, *, lenient: bool = False) -> Iterator[av.VideoFrame]:
    """Every frame of a stream, in the order in which the decoder gives them.

    Args:
        packets: All of the stream, from its first.
        stream: Not read from before.
        lenient: Go on after damage.

    Raises:
        FFmpegError: from the first key frame or first frame on, a packet with a picture can't be decoded.
    """
    context = stream.codec_context
    begun = False
    for packet in packets:
        if not packet.size:
            continue
        begun = begun or packet.is_keyframe
        try:
            for frame in context.decode(packet):
                begun = True
                yield frame
        except av.error.FFmpegError:
            if begun and not lenient and Pictures(stream).held_by(packet):
                raise
    try:
        yield from context.decode(None)
    except av.error.FFmpegError:
        if not lenient:
            raise


def vp9_sizes(packet: Packet) -> set[tuple[int, int]]:
    """Width and height wherever a packet of VP9 in profile 0 states them: other frames have those of an earlier one."""
    data = bytes(packet)
    mark = data[-1]
    frames = [data]
    if mark >> 5 == 0b110:  # several frames, and their lengths at the end
        count, size = (mark & 7) + 1, (mark >> 3 & 3) + 1
        index = data[-1 - count * size : -1]
        frames, at = [], 0
        for number in range(count):
            length = int.from_bytes(index[number * size : (number + 1) * size], "little")
            frames.append(data[at : at + length])
            at += length
    return {size for size in map(_vp9_size, frames) if size is not None}


def mpeg_sizes(packet: Packet) -> set[tuple[int, int]]:
    """Width and height of each sequence header of MPEG-1 and MPEG-2."""
    heads = (int.from_bytes(head, "big") for head in re.findall(rb"\x00\x00\x01\xb3(...)", bytes(packet), re.DOTALL))
    return {(head >> 12, head & 0xFFF) for head in heads}


def _vp9_size(frame: bytes) -> tuple[int, int] | None:
    bits = format(int.from_bytes(frame[:16].ljust(16, b"\0"), "big"), "0128b")
    if bits[4] == "1":  # shows an earlier frame
        return None
    if bits[5] == "0":  # a key frame: marker, flags, sync code and colours
        at = 8 + 24 + 4
    else:
        is_shown, is_resilient = bits[6] == "1", bits[7] == "1"
        at = 8 + (not is_shown) + 2 * (not is_resilient)
        if not is_shown and bits[8] == "1":  # intra only: sync code, what it refreshes
            at += 24 + 8
        else:  # what it refreshes, three references, which of them has the size
            at += 8 + 12
            if "1" in bits[at : at + 3]:
                return None
            at += 3
    return int(bits[at : at + 16], 2) + 1, int(bits[at + 16 : at + 32], 2) + 1
