"""Faults of public annotation files, and what becomes of each.

| fault | what becomes of it |
|---|---|
| `controls`: a character that is no text, as of a colour code of terminals | removed |
| `spaces`: at an end of a text, or several in a row, or line breaks | one space between words, none at the ends |
| `empty`: a text without a word | left out |
| `inverted`: a span ends no later than it starts | left out: which of the two times is wrong can't be told |
| `late`: a span starts at or past the end of its video | left out |
| `long`: a span ends past the end of its video | ends with it |
| `repeated`: a span that stands twice, with one text and the same times | stands once |

A sentence whose span is left out stays in the paragraph of its video. data/sources/README.md counts the faults
of each benchmark.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from stillmotion.printed import without_controls

Fault = Literal["controls", "spaces", "empty", "inverted", "late", "long", "repeated"]

ROUNDING_S = 0.01
"""Times are written to hundredths: an end that is past the video's by this much is moved, but not counted."""

_REMEDIES: dict[Fault, str] = {
    "controls": "hold control characters: removed",
    "spaces": "hold spaces at an end or several in a row: one between words",
    "empty": "have no text: left out",
    "inverted": "end no later than they start: left out",
    "late": "start past the end of their video: left out",
    "long": f"end more than {ROUNDING_S:g} s past their video: ended with it",
    "repeated": "stand twice with the same times: once",
}


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a video and what is said of it: a sentence or a label."""

    text: str
    start: float
    end: float


def tidy(text: str) -> str:
    """The words of a text with one space between them, and no control characters."""
    return " ".join(without_controls(text).split())


def has_controls(text: str) -> bool:
    """Whether `tidy` removes more than spaces."""
    return without_controls(text) != text


def tidy_texts(texts: Iterable[str]) -> tuple[list[str], Counter[Fault]]:
    """Texts in good order, without empty ones, and the faults that they had."""
    faults: Counter[Fault] = Counter()
    kept = []
    for text in texts:
        words = tidy(text)
        if not words:
            faults["empty"] += 1
            continue
        if has_controls(text):
            faults["controls"] += 1
        faults["spaces"] += words != without_controls(text)
        kept.append(words)
    return kept, faults


def fit_spans(spans: Iterable[Span], duration: float) -> tuple[list[Span], Counter[Fault]]:
    """Spans that lie within their video, in the order given, and the faults that they had.

    A span has one fault of time at most, the first of `inverted`, `late` and `long`.

    Example:
        In a video of 10 s, (8, 12) becomes (8, 10); (10, 12) and (5, 5) are left out.

    Args:
        spans: of one video.
        duration: of the video, in seconds.
    """
    faults: Counter[Fault] = Counter()
    kept: dict[Span, None] = {}
    for span in spans:
        texts, found = tidy_texts([span.text])
        faults += found
        if not texts:
            continue
        if span.end <= span.start:
            faults["inverted"] += 1
            continue
        if span.start >= duration:
            faults["late"] += 1
            continue
        faults["long"] += span.end > duration + ROUNDING_S
        fitted = Span(texts[0], span.start, min(span.end, duration))
        faults["repeated"] += fitted in kept
        kept[fitted] = None
    return list(kept), faults


def fault_notes(faults: Mapping[str, Counter[Fault]]) -> list[str]:
    """A line for each fault that occurred.

    Args:
        faults: by what was counted, in the plural: `sentences`, `actions`.
    """
    return [
        f"{counted[fault]} {things} {remedy}"
        for things, counted in faults.items()
        for fault, remedy in _REMEDIES.items()
        if counted[fault]
    ]
