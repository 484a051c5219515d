"""captions.csv, the one table that a folder of videos may have.

| column | content |
|---|---|
| `video` | path relative to the folder, or the bare file name where only one file has it |
| `caption` | what is to be seen; may be empty where `action` is given, or while nobody has filled it in |
| `start`, `end` | optional: the span in seconds that the row is about; both empty for the whole video |
| `split` | optional: `train`, `validation` or `test` |
| `action` | optional: class label of the span or video |

Rows are counted as a spreadsheet shows them: the header is row 1.
"""

import csv
import difflib
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from stillmotion.datasets.annotation_faults import has_controls, tidy
from stillmotion.errors import InputError, fault_of_rows
from stillmotion.io.atomic import atomic_file
from stillmotion.io.records import SPLITS, Split

FILE_NAME = "captions.csv"
REQUIRED = ("video", "caption")
COLUMNS = (*REQUIRED, "start", "end", "split", "action")


@dataclass(frozen=True, slots=True)
class Row:
    """A row of captions.csv whose cells make sense; whether its video exists is not known yet."""

    number: int
    video: str
    caption: str
    """Tidy; empty where the row holds an action alone, or no text yet."""
    start: float | None
    end: float | None
    split: Split | None
    action: str | None
    had_controls: bool = False
    """In its caption or action, which are without them."""


def write_template(path: Path, videos: Iterable[str]) -> None:
    """Write a captions.csv with a row for each video, to be filled in; rows that stay empty say nothing."""
    with atomic_file(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *([video, *[""] * 5] for video in videos)])


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` where a known word is close, else nothing."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def read_captions(path: Path) -> list[Row]:
    """Read and check a captions.csv.

    Raises:
        InputError: one line that names the file, the first rows at fault and the mend.
    """
    table = _cells(path)
    if not table:
        raise InputError(f"{path}: empty; its first row names the columns: {', '.join(COLUMNS)}")
    header = _header(path, table[0])
    rows: list[Row] = []
    faults: list[str] = []
    for number, cells in enumerate(table[1:], start=2):
        if any(cell.strip() for cell in cells):
            try:
                rows.append(_row(f"row {number}", number, header, cells))
            except InputError as fault:
                faults.append(str(fault))
    if faults:
        raise fault_of_rows(path, faults, len(faults))
    if not rows:
        raise InputError(f"{path}: a header but no rows; add a row for each caption")
    return rows


def _cells(path: Path) -> list[list[str]]:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise InputError(
            f"{path}: no such file; name one with the columns video,caption and, where you have them, "
            "start,end,split,action"
        ) from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path} row {line}: not UTF-8; save the file as 'CSV UTF-8'") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[list[str]] = []
    try:
        rows.extend(reader)
    except csv.Error as error:
        raise InputError(
            f"{path} row {len(rows) + 1}: not CSV ({error}); close the quotes, and double those within a text"
        ) from None
    return rows


def _header(path: Path, cells: Sequence[str]) -> list[str]:
    names = [cell.strip() for cell in cells]
    if len(names) == 1:
        for separator, word in ((";", "semicolons"), ("\t", "tabs")):
            if separator in names[0]:
                raise InputError(f"{path} row 1: separated by {word}; save it with commas")
    for name in names:
        if name not in COLUMNS:
            raise InputError(
                f"{path} row 1: unknown column {name!r}{did_you_mean(name.lower(), COLUMNS)}; "
                f"the columns are {', '.join(COLUMNS)}"
            )
        if names.count(name) > 1:
            raise InputError(f"{path} row 1: column {name!r} stands there twice; remove one")
    for name in REQUIRED:
        if name not in names:
            raise InputError(f"{path} row 1: column {name!r} is missing; add it")
    return names


def _row(where: str, number: int, header: list[str], cells: Sequence[str]) -> Row:
    if any(cell.strip() for cell in cells[len(header) :]):
        raise InputError(
            f"{where}: {len(cells)} cells, but the header has {len(header)}; "
            "put a text that holds a comma in double quotes"
        )
    # Cells that are left out at the end of a row are empty ones.
    values = dict(zip(header, [*cells, *[""] * len(header)], strict=False))
    if not values["video"].strip():
        raise InputError(f"{where}: no video; fill in the path of its file")
    texts = values["caption"], values.get("action", "")
    caption, action = map(tidy, texts)
    start, end = (_seconds(where, name, values.get(name, "")) for name in ("start", "end"))
    if (start is None) != (end is None):
        given, lacking = ("start", "end") if end is None else ("end", "start")
        raise InputError(f"{where}: {given} without {lacking}; fill in both, or neither for the whole video")
    if start is not None and end is not None and end <= start:
        raise InputError(f"{where}: end {end:g} is not after start {start:g}; mend the times")
    if start is not None and not caption and not action:
        raise InputError(f"{where}: times without a caption; fill it in or remove the row")
    split = _split(where, values.get("split", "").strip())
    return Row(number, values["video"], caption, start, end, split, action or None, any(map(has_controls, texts)))


def _split(where: str, cell: str) -> Split | None:
    if not cell:
        return None
    for split in SPLITS:
        if cell == split:
            return split
    # `val` is too far from `validation` for difflib.
    close = next((split for split in SPLITS if split.startswith(cell.lower()[:3])), None)
    hint = f"; did you mean {close!r}?" if close else ""
    raise InputError(f"{where}: unknown split {cell!r}{hint}; a split is {', '.join(SPLITS)}, or empty")


def _seconds(where: str, name: str, cell: str) -> float | None:
    if not cell.strip():
        return None
    try:
        seconds = math.nan if "_" in cell else float(cell)  # Python reads 1_5 as 15
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds):
        raise InputError(f"{where}: {name} {cell.strip()!r} is not a number; write seconds such as 12.5")
    if seconds < 0:
        raise InputError(f"{where}: {name} {cell.strip()} is negative; times count from the video's start")
    return seconds
