"""What every dataset gives: its video files, and once these are probed, its annotations."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from stillmotion.io.memo import Memo
from stillmotion.io.records import MISSING, Action, Caption, Moment, Video


@dataclass(frozen=True, slots=True)
class SourceVideo:
    """A video before anybody has looked into it."""

    video_id: str
    split: str
    file: Path | None
    """None: it is missing."""
    used_s: float | None = None
    """Seconds from the start that the dataset uses; None: all."""
    reason: str = MISSING
    """Its status where it is missing."""


@dataclass(frozen=True, slots=True)
class Annotations:
    """What is known of the videos of a dataset."""

    captions: list[Caption]
    moments: list[Moment]
    actions: list[Action]
    notes: list[str]
    """What a reader of the log should know: what was left out, clipped or filled in, with counts."""


class Source(Protocol):
    """A dataset, before it is in the canonical tables."""

    def collect(self, folder: Path, *, workers: int, memo: Memo) -> list[SourceVideo]:
        """Find the video files, or make them below `folder`; a video that is missing has its row too."""
        ...

    def annotate(self, videos: Mapping[str, Video], *, clip_length_s: float) -> Annotations:
        """The annotations of the probed videos.

        Args:
            videos: all videos of the dataset, by id.
            clip_length_s: length of the clips that `relevant_clip_ids` counts.

        Raises:
            InputError: an annotation does not fit its video.
        """
        ...
