"""What a model attends to in some test videos.

A folder with

- `examples.jsonl`: for each, caption_id, video_id, text, tokens (what each stands for), stored_frames (the rows of the
  packed frames that were looked at), text_to_frame (F weights), video_to_token (L weights) and cosines (L lists of F);
- `attention.npy`, of a STAN alone: (examples, F, G, G) float32, how the attention to the patches of each frame is
  shared out.

Shapes: F frames, L tokens, G by G patches of a frame.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stillmotion.io.arrays import load_array, save_array
from stillmotion.io.tables import read_rows, write_rows

EXAMPLES, ATTENTION = "examples.jsonl", "attention.npy"


@dataclass(frozen=True, eq=False)
class AttendedExamples:
    """The content of the folder."""

    rows: Sequence[Mapping[str, Any]]
    attention_NFGG: np.ndarray | None
    """None of a model that has no STAN branch, or where there is no example."""


def write_attended(folder: Path, found: AttendedExamples) -> None:
    """Fill a folder; what it holds already stays."""
    write_rows(folder / EXAMPLES, found.rows, digits=6)
    if found.attention_NFGG is not None:
        save_array(folder / ATTENTION, found.attention_NFGG)


def read_attended(folder: Path) -> AttendedExamples:
    """Read a folder.

    Raises:
        InputError: there is no examples.jsonl, or a file is of another kind.
    """
    attention = folder / ATTENTION
    return AttendedExamples(read_rows(folder / EXAMPLES), load_array(attention) if attention.is_file() else None)
