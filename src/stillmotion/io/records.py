"""The tables that every dataset becomes: videos, captions, moments and actions.

Times are seconds as floats, ids are strings (`qid` is an integer, as in QVHighlights), tables are sorted by
id. `load` and `save` of each table live here so that a column has one spelling.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ValidationError, create_model

from stillmotion.errors import InputError
from stillmotion.io.checked import STRICT, refusal
from stillmotion.io.tables import read_rows, write_rows

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")

MISSING = "missing"
"""Status of a video that the annotations name, but for which there is no file."""


@dataclass(frozen=True, slots=True)
class Video:
    """A row of videos.jsonl."""

    video_id: str
    path: str
    """Relative to the root of the repository, with forward slashes."""
    split: str
    duration: float | None
    """Seconds from the start of the file to the end of its last frame, or to where the dataset stops; null when the
    file could not be probed."""
    fps: float | None
    """Average frames a second."""
    num_frames: int | None
    """As the container's packets count them, which can be more than can be decoded."""
    width: int | None
    """Pixels, upright: after the container's rotation."""
    height: int | None
    codec: str | None
    status: str
    """`ok`, or the reason why the video is left out."""

    @property
    def ok(self) -> bool:
        return self.status == "ok"


@dataclass(frozen=True, slots=True)
class Caption:
    """A row of captions.jsonl; `start` and `end` are null when the caption covers the whole video."""

    caption_id: str
    video_id: str
    text: str
    start: float | None
    end: float | None


@dataclass(frozen=True, slots=True)
class Moment:
    """A row of moments.jsonl: a query and its true windows, in the QVHighlights format."""

    qid: int
    query: str
    vid: str
    duration: float
    relevant_windows: list[list[float]]
    relevant_clip_ids: list[int]
    """Indices of the clips (2 s in QVHighlights) that the windows cover."""
    saliency_scores: list[list[int]]
    """Clips × 3 annotators, 0 to 4, one row for each of `relevant_clip_ids`; empty where nobody rated."""
    annotated_windows: list[list[float]] = field(default_factory=list)
    """The window of each annotator, where several marked the query: DiDeMo. Elsewhere the file lacks the column."""


@dataclass(frozen=True, slots=True)
class Action:
    """A row of actions.jsonl: a labelled span."""

    video_id: str
    label: str
    start: float
    end: float


Record = TypeVar("Record", Video, Caption, Moment, Action)
_SORT_KEYS = {
    Video: ("video_id",),
    Caption: ("caption_id",),
    Moment: ("qid",),
    Action: ("video_id", "start", "end", "label"),
}
_OPTIONAL = {"annotated_windows"}
"""Columns that a row lacks where they are empty."""
TABLES = {Video: "videos.jsonl", Caption: "captions.jsonl", Moment: "moments.jsonl", Action: "actions.jsonl"}


def _form(kind: type[Record]) -> type[BaseModel]:
    columns: dict[str, Any] = {each.name: (each.type, [] if each.name in _OPTIONAL else ...) for each in fields(kind)}
    return create_model(kind.__name__, __config__=STRICT, **columns)


_FORMS = {Video: _form(Video), Caption: _form(Caption), Moment: _form(Moment), Action: _form(Action)}


def save_records(folder: Path, kind: type[Record], records: Iterable[Record]) -> None:
    """Write the table of `kind` into `folder`, sorted by id."""
    keys = _SORT_KEYS[kind]
    rows = sorted((asdict(record) for record in records), key=lambda row: tuple(row[key] for key in keys))
    filled = ({name: value for name, value in row.items() if value or name not in _OPTIONAL} for row in rows)
    write_rows(folder / TABLES[kind], filled)


def load_records(folder: Path, kind: type[Record]) -> list[Record]:
    """Read the table of `kind` from `folder`.

    Raises:
        InputError: a row lacks a column, has one too many, or one of another type; names the file and the row.
    """
    path = folder / TABLES[kind]
    names = {field.name for field in fields(kind)}
    records = []
    for number, row in enumerate(read_rows(path), start=1):
        if not names - _OPTIONAL <= row.keys() <= names:
            odd = sorted(names ^ row.keys())
            raise InputError(f"{path} row {number}: columns {odd} are missing or unknown; it holds {sorted(names)}")
        try:
            _FORMS[kind].model_validate(row)
        except ValidationError as error:
            raise refusal(error, f"{path} row {number}") from None
        values: dict[str, Any] = row
        records.append(kind(**values))
    return records
