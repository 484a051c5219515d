"""How many bytes a video file should have, as it says itself: that tells one that is whole from one that was cut off.

A duration tells less: a last frame may stand for long, and of an hour's video the last minute is 2 %. Where its parts
do not follow one another, it is damaged: FFmpeg goes on at the next that it knows, and says no word of what is between.

Sources: RFC 8794 (EBML) and RFC 9559 (Matroska), "Advanced Systems Format Specification" 3.2, "Adobe Flash Video File
Format Specification" E.5, RFC 3533 (Ogg), ISO/IEC 14496-12 4.2 (MP4), "Graphics Interchange Format" 89a,
SMPTE ST 377-1 7.1 (MXF), yuv4mpeg(5) of mjpegtools.
"""

import mmap
import re
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

_SEGMENT = b"\x18\x53\x80\x67"
_CLUSTER = b"\x1f\x43\xb6\x75"
_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_MXF_HEADER_PARTITION = bytes.fromhex("060e2b34020501010d0102010102")
_HEAD_BYTES = 1 << 16
"""Where the size of an ASF or FLV file is looked for."""
_OGG_HEADER_BYTES = 27
_GIF_HEADER_BYTES = 13
_IVF_HEADER_BYTES = 32
_IVF_FRAME_HEADER_BYTES = 12
_LONG_BOX_HEADER_BYTES = 16
_OGG_CRC_AT = 22
_BITS_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_CHROMA = {"420": (2, 2), "422": (2, 1), "444": (1, 1), "411": (4, 1), "mono": (0, 0)}
"""How many pixels of YUV4MPEG2 share a sample of colour, across and down."""
_NEVER_WRITTEN = bytes(256)
"""The end of a file whose room was taken before it had come."""


def missing_bytes(path: Path, format_name: str) -> int | None:
    """How many bytes a file lacks of those that it should have at least, 0 where it is whole.

    Args:
        path: of the file.
        format_name: FFmpeg's name for its container.

    Returns:
        None where it does not say how many there should be, as what was written live, or ends in bytes of 0.
    """
    known = [_STATED[name] for name in format_name.split(",") if name in _STATED]
    if not known:
        return None
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            stated = known[0](data)
        except (IndexError, struct.error):
            stated = len(data) + 1  # it ends within what says how long it is
        if stated is None or (stated <= len(data) and data[-len(_NEVER_WRITTEN) :] == _NEVER_WRITTEN):
            return None
        return max(0, stated - len(data))


def is_broken(path: Path, format_name: str) -> bool:
    """Whether something stands between the parts of a file, or one of them is not what it was written as.

    Args:
        path: of the file.
        format_name: FFmpeg's name for its container; of others than Matroska, Ogg and MP4 nothing is known.
    """
    return _is_so(_BROKEN, path, format_name)


def is_joined(path: Path, format_name: str) -> bool:
    """Whether a second file stands behind a first, which is all that FFmpeg reads, and players show.

    Args:
        path: of the file.
        format_name: FFmpeg's name for its container; of others than MP4, ASF and MXF nothing is known.
    """
    return _is_so(_JOINED, path, format_name)


def _is_so(checks: Mapping[str, Callable[[mmap.mmap], bool]], path: Path, format_name: str) -> bool:
    """What the check of its container finds; False where there is none, or the file ends within the head of a part."""
    known = [checks[name] for name in format_name.split(",") if name in checks]
    if not known:
        return False
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            return known[0](data)
        except (IndexError, struct.error):
            return False


def _varied(data: mmap.mmap, at: int) -> tuple[int | None, int]:
    """An integer of EBML, whose first bits say how long it is, and where it ends; None where all its bits are set."""
    width = 9 - data[at].bit_length()
    most = (1 << 7 * width) - 1
    value = int.from_bytes(data[at : at + width]) & most
    return None if value == most else value, at + width


def _matroska(data: mmap.mmap) -> int | None:
    """The end of the segment behind the EBML header."""
    length, start = _varied(data, len(_SEGMENT))
    at = start + (length or 0)
    if data[at : at + len(_SEGMENT)] != _SEGMENT:
        return None
    length, start = _varied(data, at + len(_SEGMENT))
    return None if length is None else start + length


def _asf(data: mmap.mmap) -> int | None:
    """The file size of its properties, unless it is a broadcast or was never ended."""
    at = data.find(_FILE_PROPERTIES, 0, _HEAD_BYTES)
    if at < 0:
        return None
    (size,), (flags,) = struct.unpack_from("<Q", data, at + 40), struct.unpack_from("<I", data, at + 88)
    return None if flags & 1 or size == 0 else size


def _flv(data: mmap.mmap) -> int | None:
    """The `filesize` of its metadata."""
    key = b"\x00\x08filesize\x00"
    at = data.find(key, 0, _HEAD_BYTES)
    if at < 0:
        return None
    (size,) = struct.unpack_from(">d", data, at + len(key))
    return int(size) if 0 < size < 1 << 62 else None


def _ogg(data: mmap.mmap) -> int | None:
    """The end of the last page that begins."""
    at = data.rfind(b"OggS")
    lacing = at + _OGG_HEADER_BYTES
    count = data[lacing - 1]
    return None if at < 0 else lacing + count + sum(data[lacing : lacing + count])


def _boxes(data: mmap.mmap) -> Iterator[tuple[bytes, int]]:
    """Name and end of each box of MP4, up to one to the end of the file, or what stands behind the last."""
    at = 0
    while at + _LONG_BOX_HEADER_BYTES <= len(data):
        (size,), kind = struct.unpack_from(">I", data, at), data[at + 4 : at + 8]
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, at + 8)
        if size < 8 or not kind.isalnum():
            return
        at += size
        yield kind, at


def _mp4(data: mmap.mmap) -> int | None:
    """The end of the last box where that is of a fragment and cut; otherwise the index says what there should be."""
    boxes = list(_boxes(data))
    fragmented = any(kind == b"moof" for kind, _ in boxes)
    return boxes[-1][1] if fragmented and boxes[-1][0] in (b"moof", b"mdat") and boxes[-1][1] > len(data) else None


def _gif(data: mmap.mmap) -> int | None:
    """The end of the trailer, or of the block that is cut."""

    def colors(at: int) -> int:
        return 3 << 1 + (data[at] & 7) if data[at] & 0x80 else 0

    at = _GIF_HEADER_BYTES + colors(10)
    while at < len(data):
        if data[at] == 0x3B:
            return at + 1
        if data[at] == 0x21:
            at += 2
        elif data[at] == 0x2C:
            at += 11 + colors(at + 9)
        else:
            return None
        while data[at]:
            at += 1 + data[at]
        at += 1
    return at if at > len(data) else None


def _ivf(data: mmap.mmap) -> int:
    """The end of the last frame that begins; how many there are in all is often written as 0, or never."""
    at = _IVF_HEADER_BYTES
    while at < len(data):
        at += _IVF_FRAME_HEADER_BYTES + int(struct.unpack_from("<I", data, at)[0])
    return at


def _y4m(data: mmap.mmap) -> int | None:
    """The end of the last frame that begins, all of them being of one size."""
    at = data.find(b"\n") + 1
    tags = {chr(tag[0]): tag[1:].decode("ascii", "replace") for tag in data[:at].split()[1:]}
    chroma = re.fullmatch(r"(420|422|444|411|mono)(alpha|jpeg|mpeg2|paldv)?p?(\d*)", tags.get("C", "420"))
    if chroma is None:
        return None
    across, down = _CHROMA[chroma[1]]
    width, height = int(tags["W"]), int(tags["H"])
    samples = width * height * (2 if chroma[2] == "alpha" else 1)
    if across:
        samples += 2 * -(-width // across) * -(-height // down)
    while at < len(data):
        if not b"FRAME".startswith(data[at : at + 5]):
            return None  # another file follows, which FFmpeg tells, or odd sizes are rounded otherwise
        head = data.find(b"\n", at) + 1
        if not head:
            return len(data) + 1
        at = head + samples * (2 if chroma[3] else 1)
    return at


def _avi(data: mmap.mmap) -> int | None:
    """The end of the last list, where that is missing; otherwise the header says how many frames there should be."""
    at = 0
    while data[at : at + 4] == b"RIFF":
        (size,) = struct.unpack_from("<I", data, at + 4)
        if not size:
            return None  # it was never ended
        at += 8 + size + size % 2
    return at if at > len(data) + 1 else None


def _matroska_broken(data: mmap.mmap) -> bool:
    """Whether an element has no name, or reaches over the end of the cluster that it is in.

    Of files that were joined FFmpeg reads the first two, and more where they were written live.
    """
    at, end, num_joined = 0, len(data), 0
    while at < len(data):
        if at >= end:
            end = len(data)
        width = 9 - data[at].bit_length()
        kind = data[at : at + width]
        size, start = _varied(data, at + width) if width <= 4 else (None, at)
        stop = None if size is None else start + size
        if kind == _SEGMENT and num_joined < 2:
            at, num_joined = start, num_joined + (size is not None)
        elif kind == _CLUSTER and end == len(data):
            at, end = start, stop if stop is not None and stop <= end else end
        elif stop is not None and stop <= end and kind != _SEGMENT:
            at = stop
        else:
            return end < len(data) or data.find(_CLUSTER, at) >= 0  # or it was cut off there
    return False


def _mp4_broken(data: mmap.mmap) -> bool:
    """Whether an index stands behind a fragment: another file follows, or the same index is written again."""
    fragmented = False
    for kind, _ in _boxes(data):
        if fragmented and kind == b"moov":
            return True
        fragmented = fragmented or kind == b"moof"
    return False


def _ogg_broken(data: mmap.mmap) -> bool:
    """Whether a page has another checksum than it states, or something stands before the next."""
    at = max(0, data.find(b"OggS"))
    while at < len(data):
        lacing = at + _OGG_HEADER_BYTES
        end = lacing + data[lacing - 1] + sum(data[lacing : lacing + data[lacing - 1]])
        if end > len(data):
            return False
        page = bytearray(data[at:end])
        if page[:4] != b"OggS":
            return data.find(b"OggS", at) >= 0
        stated = int.from_bytes(page[_OGG_CRC_AT : _OGG_CRC_AT + 4], "little")
        page[_OGG_CRC_AT : _OGG_CRC_AT + 4] = bytes(4)
        # The polynomial is zlib's, its bits the other way round, and with nothing before and after.
        crc = ~zlib.crc32(page.translate(_BITS_REVERSED), 0xFFFFFFFF) & 0xFFFFFFFF
        if int(f"{crc:032b}"[::-1], 2) != stated:
            return True
        at = end
    return False


def _mp4_joined(data: mmap.mmap) -> bool:
    kinds = [kind for kind, _ in _boxes(data)]
    return kinds.count(b"ftyp") > 1 and kinds.count(b"moov") > 1


def _asf_joined(data: mmap.mmap) -> bool:
    end = _asf(data)
    return end is not None and data[end : end + len(_ASF_HEADER)] == _ASF_HEADER


def _mxf_joined(data: mmap.mmap) -> bool:
    first = data.find(_MXF_HEADER_PARTITION)
    return first >= 0 and data.find(_MXF_HEADER_PARTITION, first + 1) >= 0


_STATED: dict[str, Callable[[mmap.mmap], int | None]] = {
    "matroska": _matroska,
    "asf": _asf,
    "flv": _flv,
    "ogg": _ogg,
    "mov": _mp4,
    "gif": _gif,
    "avi": _avi,
    "ivf": _ivf,
    "yuv4mpegpipe": _y4m,
}
"""By FFmpeg's name of a container."""
_BROKEN: dict[str, Callable[[mmap.mmap], bool]] = {
    "matroska": _matroska_broken,
    "ogg": _ogg_broken,
    "mov": _mp4_broken,
}
_JOINED: dict[str, Callable[[mmap.mmap], bool]] = {"mov": _mp4_joined, "asf": _asf_joined, "mxf": _mxf_joined}
