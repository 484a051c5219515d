"""Training pairs: a video, or a span of one, and its text."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from stillmotion.records import Caption


@dataclass(frozen=True, slots=True)
class Pair:
    """A text and the span of a video that it speaks of."""

    video_id: str
    text: str
    start: float
    end: float


def caption_pairs(
    captions: Sequence[Caption],
    durations: dict[str, float],
    kind: Literal["paragraph", "dense", "both"],
) -> list[Pair]:
    """Pairs from the captions of the videos in `durations` (seconds by video_id), in the captions' order.

    `paragraph` takes the captions of whole videos, `dense` those of spans.
    """
    pairs = []
    for caption in captions:
        whole = caption.start is None or caption.end is None
        if caption.video_id not in durations or kind == ("dense" if whole else "paragraph"):
            continue
        duration = durations[caption.video_id]
        start = 0.0 if caption.start is None else caption.start
        end = duration if caption.end is None else caption.end
        pairs.append(Pair(caption.video_id, caption.text, start, end))
    return pairs
