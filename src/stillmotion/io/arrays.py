"""Arrays on disk as .npy: byte-stable, and read as memory maps."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stillmotion.errors import InputError
from stillmotion.io.atomic import atomic_file


def save_array(path: Path, array: np.ndarray) -> None:
    """Write one array, atomically, in C order."""
    with atomic_file(path) as partial, partial.open("wb") as file:
        plain = np.ascontiguousarray(array)
        if plain.dtype.hasobject:
            raise ValueError("objects would need allow_pickle")
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(plain))
        file.write(plain.reshape(-1).view(np.uint8).data)  # np.save does not say why it could write no more


def writable_map(path: Path, dtype: npt.DTypeLike, shape: tuple[int, ...]) -> "np.memmap[Any, Any]":
    """A new array on disk to fill through memory, so that it may be larger than that.

    Raises:
        OSError: the disk has no room for all of it; later, in the map, that would kill the process.
    """
    try:
        array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
        if hasattr(os, "posix_fallocate") and array.nbytes:
            with path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    except OSError as error:
        error.filename = str(path)
        raise
    return array


@contextmanager
def growing_array(path: Path, dtype: npt.DTypeLike, columns: int) -> Iterator[Callable[[np.ndarray], None]]:
    """A new array (rows, columns) on disk, and what puts rows behind those that are there.

    The header, which has room for any number, is written once more at the end.
    """
    described = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False}
    num_rows = 0
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, described | {"shape": (0, columns)})
        start = file.tell()

        def put(rows: np.ndarray) -> None:
            nonlocal num_rows
            file.write(np.ascontiguousarray(rows, dtype=dtype).data)
            num_rows += len(rows)

        yield put
        file.seek(0)
        np.lib.format.write_array_header_1_0(file, described | {"shape": (num_rows, columns)})
        assert file.tell() == start


def join_arrays(path: Path, parts: Sequence[Path]) -> None:
    """Write arrays on disk as one, atomically: one after the other along their first axis, one in memory at a time."""
    first = load_array(parts[0])
    shape = (sum(len(load_array(part)) for part in parts), *first.shape[1:])
    header = {"descr": np.lib.format.dtype_to_descr(first.dtype), "fortran_order": False, "shape": shape}
    with atomic_file(path) as partial, partial.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for part in parts:
            file.write(load_array(part).data)


def load_array(path: Path) -> np.ndarray:
    """Open an array as a read-only memory map; InputError names a file that is none."""
    try:
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (OSError, MemoryError):
        raise
    except Exception as error:  # a damaged header makes numpy raise half a dozen kinds
        raise InputError(f"{path}: not a .npy array ({' '.join(str(error).split())})") from None
    if not isinstance(loaded, np.ndarray):
        raise InputError(f"{path}: not a .npy array (numpy reads it as an archive of several)")
    return loaded
