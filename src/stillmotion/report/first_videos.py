"""What is found first, by how much a caption says, and what of it that video shows.

R@1 says that the right video is first, and nothing of the others. A caption of several sentences can be answered by
all of them together, or by the one that fits best, which other videos may fit as well: R@1 by the number of sentences
tells these apart. Of drawn videos all events are known, so that a wrong first video can be held to what it shows.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np

from stillmotion.datasets.toy_scene import BACKGROUNDS, COLORS, MOTIONS, SHAPES, SIZES, Subject, sentence
from stillmotion.records import Caption
from stillmotion.report.evidence import Evidence, Rows
from stillmotion.report.tables import markdown_table, number

SHOWN = ("the right one", "a told event", "its subject alone", "neither")
"""What the first video shows: another than the right one shows an event of which the caption tells, with its motion, or
the subject of one in other motions alone."""
MOST_SENTENCES = 4
"""Captions of so many sentences and more are taken together."""

_END = re.compile(r"[.!?]+(?:\s+|$)")


def sentences(text: str) -> list[str]:
    """The sentences of a caption without their last marks; one at least, if it says anything.

    Example:
        `A man runs. He falls` are `A man runs` and `He falls`.
    """
    return [part for part in _END.split(text) if part.strip()]


def first_shows(ranks: Rows, captions: Sequence[Caption]) -> list[str]:
    """What the video that a system finds first shows of each caption: one of SHOWN.

    Sentences that match nothing in the caption's own video count for nothing.

    Args:
        ranks: the rows of ranks.jsonl; of several seeds, the first.
        captions: of the dataset; those of spans are the events of their video.

    Returns:
        In the order of the rows; nothing where a caption has a sentence that is not of a drawn event.
    """
    told_of = [sentences(row["text"]) for row in ranks]
    if not all(part in _subjects() for told in told_of for part in told):
        return []
    events_of: dict[str, set[str]] = {}
    for caption in captions:
        if caption.start is not None:
            events_of.setdefault(caption.video_id, set()).update(sentences(caption.text))
    return [_shown(row, set(told), events_of) for row, told in zip(ranks, told_of, strict=True)]


def _shown(row: Mapping[str, Any], told: set[str], events_of: Mapping[str, set[str]]) -> str:
    right, event, subject, neither = SHOWN
    if row["rank"][0] == 1:
        return right
    told = told & events_of.get(row["video_id"], set())
    events = events_of.get(row["hardest_negatives"][0], set())
    if told & events:
        return event
    subjects, subjects_of_first = ({_subjects()[text] for text in texts} for texts in (told, events))
    return subject if subjects & subjects_of_first else neither


@lru_cache(maxsize=1)
def _subjects() -> dict[str, Subject]:
    """The subject of every sentence of the drawn world."""
    subjects = [Subject(*names) for names in product(SIZES, COLORS, SHAPES, BACKGROUNDS)]
    return {sentence(subject, motion): subject for subject in subjects for motion in MOTIONS}


def first_videos_section(evidence: Evidence) -> list[str]:
    """The paragraphs in Markdown; none where captions are all of one length and nothing is drawn."""
    by_sentences, by_content = sentences_table(evidence), shown_table(evidence)
    parts = ["### What is found first"] if by_sentences or by_content else []
    if by_sentences:
        parts += ["T2V R@1 by the number of sentences of the caption, each with the most clips:", by_sentences]
    if by_content:
        parts += [
            "What the first video shows of what the caption tells, in % of the captions: it is the right one; or "
            "another, that shows an event of which the caption tells; or its subject (size, color, shape and "
            "background, which one frame shows), in other motions alone, which take several. Of several seeds, the "
            "first:",
            by_content,
        ]
    return parts


def sentences_table(evidence: Evidence) -> str:
    """R@1 by number of sentences and system; nothing where all captions have as many."""
    length_Q = np.array([min(len(sentences(text)), MOST_SENTENCES) for text in evidence.texts], dtype=int)
    lengths = np.unique(length_Q)
    if len(lengths) < 2:
        return ""
    names = [f"{length} or more" if length == MOST_SENTENCES else str(length) for length in lengths]
    rows = [["number of captions", *(str(np.sum(length_Q == length)) for length in lengths)]]
    for system, hits in evidence.hits.items():
        if hits:
            hits_Q = hits[max(hits)]
            rows.append([system, *(number(hits_Q[length_Q == length].mean()) for length in lengths)])
    return markdown_table(["T2V R@1", *names], rows)


def shown_table(evidence: Evidence) -> str:
    """The shares of SHOWN by system; nothing where it is not known what videos show."""
    rows = [
        [system, *(number(100 * shown.count(name) / len(shown)) for name in SHOWN)]
        for system, shown in evidence.first_shows.items()
        if shown
    ]
    return markdown_table(["the first video shows", *SHOWN], rows) if rows else ""
