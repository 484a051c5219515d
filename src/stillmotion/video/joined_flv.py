"""FLV files that stand one after another in one file, read as one.

FFmpeg takes the header of the second for a packet, and skips what follows: megabytes, or all of it.
"""

import mmap
import os
import re
from itertools import accumulate
from pathlib import Path

import numpy as np

_HEADER = re.compile(rb"FLV\x01[\x00-\x05]\x00\x00\x00\x09\x00\x00\x00\x00")


class JoinedFlv:
    """The bytes of a file, without the headers of all parts but the first: what PyAV needs to read it."""

    def __init__(self, path: Path):
        with path.open("rb") as file:
            self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        headers = [match.span() for match in _HEADER.finditer(self._data, 1)]
        self._starts = [0, *(end for _, end in headers)]
        ends = [*(start for start, _ in headers), len(self._data)]
        lengths = [end - start for start, end in zip(self._starts, ends, strict=True)]
        self._offsets = [0, *accumulate(lengths)]
        """Where each part starts in what is read, and the end."""
        self._at = 0

    @property
    def num_parts(self) -> int:
        """How many files were joined."""
        return len(self._starts)

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes: no more than the part has."""
        part = min(int(np.searchsorted(self._offsets, self._at, side="right")), self.num_parts) - 1
        left = self._offsets[part + 1] - self._at
        size = left if size < 0 else min(size, left)
        start = self._starts[part] + self._at - self._offsets[part]
        self._at += size
        return self._data[start : start + size]

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a byte."""
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._offsets[-1]}[whence]
        return self._at

    def tell(self) -> int:
        """The byte that is read next."""
        return self._at
