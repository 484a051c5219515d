"""What is found first, by how much a caption says, and what of it that video shows.

R@1 says that the right video is first, and nothing of the others. A caption of several sentences can be answered by
all of them together, or by the one that fits best, which other videos may fit as well; a caption of one sentence may be
about all of its video or about one event of many: recall by the number of sentences, and by the number of events, tells
these apart. Of drawn videos all events are known, so that a wrong first video can be held to what it shows.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np

from stillmotion.datasets.toy_scene import BACKGROUNDS, COLORS, MOTIONS, SHAPES, SIZES, Subject, sentence
from stillmotion.io.records import Caption
from stillmotion.report.evidence import Asked, Evidence, Rows, hits_over_seeds, over_seeds
from stillmotion.report.tables import markdown_table, number

SHOWN = ("the right one", "a told event", "its subject alone", "neither")
"""What the first video shows: another than the right one shows an event of which the caption tells, with its motion, or
the subject of one in other motions alone."""
MOST_SENTENCES = 4
"""Captions of so many sentences and more are taken together."""
MOST_EVENTS = 3
"""Videos of so many events and more are taken together."""

_END = re.compile(r"[.!?]+(?:\s+|$)")


def sentences(text: str) -> list[str]:
    """The sentences of a caption without their last marks; one at least, if it says anything.

    Example:
        `A man runs. He falls` are `A man runs` and `He falls`.
    """
    return [part for part in _END.split(text) if part.strip()]


def asked_queries(ranks: Rows, captions: Sequence[Caption]) -> list[Asked]:
    """The queries of the rows of ranks.jsonl, in their order."""
    events_of = _events(captions)
    return [Asked(row["text"], len(events_of.get(row["video_id"], ()))) for row in ranks]


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
        ranks: the rows of ranks.jsonl; of several seeds, the first.
        captions: of the dataset; those of spans are the events of their video.

    Returns:
        In the order of the rows; nothing where a caption has a sentence that is not of a drawn event.
    """
    told_of = [sentences(row["text"]) for row in ranks]
    if not all(part in _subjects() for told in told_of for part in told):
        return []
    events_of = _events(captions)
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
    by_sentences, by_events, by_content = sentences_table(evidence), events_table(evidence), shown_table(evidence)
    parts = []
    if by_sentences:
        parts += [
            "T2V R@1 / R@5 by the number of sentences of the caption, each with the most clips; the seeds of a recipe "
            "are averaged:",
            by_sentences,
        ]
    if by_events:
        parts += ["Captions of one sentence, by the number of events that are told of their videos:", by_events]
    if by_content:
        parts += [
            "What the first video shows of what the caption tells, in % of the captions: it is the right one; or "
            "another, that shows an event of which the caption tells; or its subject (size, color, shape and "
            "background, which one frame shows), in other motions alone, which take several. Of several seeds of an "
            "aggregator, the first:",
            by_content,
        ]
    return ["### What is found first", *parts] if parts else []


def sentences_table(evidence: Evidence) -> str:
    """R@1 and R@5 by number of sentences and system; nothing where all captions have as many."""
    length_Q = np.array([len(sentences(asked.text)) for asked in evidence.asked], dtype=int)
    return _recall_table(evidence, length_Q, most=MOST_SENTENCES, name="sentences of the caption")


def events_table(evidence: Evidence) -> str:
    """R@1 and R@5 of captions of one sentence by number of events; nothing where all their videos have as many."""
    events_Q = [asked.num_events if len(sentences(asked.text)) == 1 else 0 for asked in evidence.asked]
    return _recall_table(evidence, np.array(events_Q, dtype=int), most=MOST_EVENTS, name="events of the video")


def _recall_table(evidence: Evidence, count_Q: np.ndarray, *, most: int, name: str) -> str:
    """R@1 and R@5 by system and count, those of `most` and more together; those of none are left out."""
    count_Q = np.minimum(count_Q, most)
    counts = [count for count in np.unique(count_Q) if count]
    if len(counts) < 2:
        return ""
    rows = [["captions", *(str(np.sum(count_Q == count)) for count in counts)]]
    in_five = hits_over_seeds(evidence.hits_in_five)
    for system, hits_Q in hits_over_seeds(evidence.hits).items():
        means = ([of_Q[count_Q == count].mean() for of_Q in (hits_Q, in_five[system])] for count in counts)
        rows.append([system, *(" / ".join(map(number, pair)) for pair in means)])
    return markdown_table([name, *(f"{count} or more" if count == most else str(count) for count in counts)], rows)


def shown_table(evidence: Evidence) -> str:
    """The shares of SHOWN by system; nothing where it is not known what videos show."""
    known = {system: list(shown) for system, shown in evidence.first_shows.items() if shown}
    together = {
        label: [name for system in group for name in known[system]] for label, group in over_seeds(known).items()
    }
    rows = [
        [label, *(number(100 * shown.count(name) / len(shown)) for name in SHOWN)] for label, shown in together.items()
    ]
    return markdown_table(["the first video shows", *SHOWN], rows) if rows else ""
