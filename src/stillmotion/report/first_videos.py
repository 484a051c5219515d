"""What the video that is found first shows of what its caption describes.

R@1 says that the right video is first, and nothing of the others. Of drawn videos all events are known, so that a wrong
first video can be held to what it shows.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import product
from typing import Any

from stillmotion.claims.evidence import Query
from stillmotion.claims.systems import Rows
from stillmotion.datasets.toy_scene import BACKGROUNDS, COLORS, MOTIONS, SHAPES, SIZES, Subject, sentence
from stillmotion.io.records import Caption

SHOWN = ("the right one", "a described event", "its subject alone", "neither")
"""What the first video shows: another than the right one shows an event that the caption describes, with its motion, or
the subject of one in other motions alone."""

_END = re.compile(r"[.!?]+(?:\s+|$)")


def sentences(text: str) -> list[str]:
    """The sentences of a caption without their last marks; one at least, if it says anything.

    Example:
        `A man runs. He falls` are `A man runs` and `He falls`.
    """
    return [part for part in _END.split(text) if part.strip()]


def queries_of(ranks: Rows, captions: Sequence[Caption]) -> list[Query]:
    """The queries of the rows of ranks.jsonl, in their order."""
    events_of = _events(captions)
    return [Query(row["text"], len(events_of.get(row["video_id"], ()))) for row in ranks]


def _events(captions: Sequence[Caption]) -> dict[str, set[str]]:
    """What captions of spans say of each video."""
    events_of: dict[str, set[str]] = {}
    for caption in captions:
        if caption.start is not None:
            events_of.setdefault(caption.video_id, set()).update(sentences(caption.text))
    return events_of


def first_shows(ranks: Rows, captions: Sequence[Caption]) -> list[str]:
    """What the video that a system finds first shows of each caption: one of SHOWN.

    Sentences that match nothing in the caption's own video count for nothing.

    Args:
        ranks: the rows of ranks.jsonl; of several seeds of an aggregator, the first.
        captions: of the dataset; those of spans are the events of their video.

    Returns:
        In the order of the rows; nothing where a caption has a sentence that is not of a drawn event.
    """
    described = [sentences(row["text"]) for row in ranks]
    if not all(part in _subjects() for of_caption in described for part in of_caption):
        return []
    events_of = _events(captions)
    return [_shown(row, set(of_caption), events_of) for row, of_caption in zip(ranks, described, strict=True)]


def _shown(row: Mapping[str, Any], described: set[str], events_of: Mapping[str, set[str]]) -> str:
    right, event, subject, neither = SHOWN
    if row["rank"][0] == 1:
        return right
    described = described & events_of.get(row["video_id"], set())
    events = events_of.get(row["hardest_negatives"][0], set())
    if described & events:
        return event
    subjects, subjects_of_first = ({_subjects()[text] for text in texts} for texts in (described, events))
    return subject if subjects & subjects_of_first else neither


@lru_cache(maxsize=1)
def _subjects() -> dict[str, Subject]:
    """The subject of every sentence of the drawn world."""
    subjects = [Subject(*names) for names in product(SIZES, COLORS, SHAPES, BACKGROUNDS)]
    return {sentence(subject, motion): subject for subject in subjects for motion in MOTIONS}
