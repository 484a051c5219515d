"""How many bytes a video file should have, as it says itself: that tells one that is whole from one that was cut off.

A duration tells less: a last frame may stand for long, and of an hour's video the last minute is 2 %.

Sources: RFC 8794 (EBML) and RFC 9559 (Matroska), "Advanced Systems Format Specification" 3.2, "Adobe Flash Video File
Format Specification" E.5, RFC 3533 (Ogg).
"""

import struct
from pathlib import Path

_HEAD_BYTES = 1 << 16
"""What is looked at of a file's start."""
_TAIL_BYTES = 1 << 17
"""What is looked at of the end of an Ogg file; a page has 65,307 at most."""
_OGG_HEADER_BYTES = 27
_NEVER_WRITTEN = bytes(256)
"""The end of a file whose room was taken before it had come."""
_SEGMENT = b"\x18\x53\x80\x67"
_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")


def missing_bytes(path: Path, format_name: str) -> int | None:
    """How many bytes a file lacks of those that it should have, 0 where it is whole.

    Args:
        path: of the file.
        format_name: FFmpeg's name for its container.

    Returns:
        None where it does not say how many there should be, as what was written live, or ends in bytes of 0.
    """
    stated_of = {"matroska": _matroska, "asf": _asf, "flv": _flv, "ogg": _ogg}
    known = [stated_of[name] for name in format_name.split(",") if name in stated_of]
    if not known:
        return None
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES).ljust(_HEAD_BYTES, b"\0")
        file.seek(max(0, size - _TAIL_BYTES))
        tail = file.read()
    stated = known[0](tail) + size - len(tail) if known[0] is _ogg else known[0](head)
    if not stated or (stated <= size and tail.endswith(_NEVER_WRITTEN)):
        return None
    return max(0, stated - size)


def _varied(data: bytes, at: int) -> tuple[int, int]:
    """An integer of EBML, whose first bits say how long it is, and where it ends; -1 where all its bits are set."""
    width = 9 - data[at].bit_length()
    most = (1 << 7 * width) - 1
    value = int.from_bytes(data[at : at + width]) & most
    return -1 if value == most else value, at + width


def _matroska(head: bytes) -> int:
    """The end of the segment behind the EBML header."""
    length, start = _varied(head, len(_SEGMENT))
    at = start + length
    if head[at : at + len(_SEGMENT)] != _SEGMENT or at + len(_SEGMENT) + 8 > len(head):
        return 0
    length, start = _varied(head, at + len(_SEGMENT))
    return 0 if length < 0 else start + length


def _asf(head: bytes) -> int:
    """The file size of its properties, unless it is a broadcast."""
    at = head.find(_FILE_PROPERTIES)
    if at < 0 or at + 92 > len(head):
        return 0
    (size,), (flags,) = struct.unpack_from("<Q", head, at + 40), struct.unpack_from("<I", head, at + 88)
    return 0 if flags & 1 else size


def _flv(head: bytes) -> int:
    """The `filesize` of its metadata."""
    key = b"\x00\x08filesize\x00"
    at = head.find(key)
    if at < 0 or at + len(key) + 8 > len(head):
        return 0
    (size,) = struct.unpack_from(">d", head, at + len(key))
    return int(size) if 0 < size < 1 << 62 else 0


def _ogg(tail: bytes) -> int:
    """The end of the last page that begins."""
    at = tail.rfind(b"OggS")
    if at < 0:
        return 0
    lacing = at + _OGG_HEADER_BYTES
    if lacing > len(tail):
        return lacing
    count = tail[lacing - 1]
    return lacing + count + sum(tail[lacing : lacing + count])
