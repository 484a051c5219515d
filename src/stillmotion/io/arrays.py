"""Arrays on disk as .npy: byte-stable, and read as memory maps."""

from pathlib import Path

import numpy as np

from stillmotion.errors import InputError
from stillmotion.io.atomic import atomic_file


def save_array(path: Path, array: np.ndarray) -> None:
    """Write one array, atomically, in C order."""
    with atomic_file(path) as partial, partial.open("wb") as file:
        np.save(file, np.ascontiguousarray(array), allow_pickle=False)


def load_array(path: Path) -> np.ndarray:
    """Open an array as a read-only memory map; InputError names a file that is none."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (ValueError, EOFError) as error:
        raise InputError(f"{path}: not a .npy array ({error})") from None
