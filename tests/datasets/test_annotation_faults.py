import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillmotion.datasets.annotation_faults import Span, fault_notes, fit_spans, tidy_texts

TIMES = st.integers(0, 40).map(lambda ticks: ticks / 4)


def fitted(*spans: tuple[str, float, float], duration: float = 10.0) -> list[tuple[str, float, float]]:
    kept, _ = fit_spans([Span(*span) for span in spans], duration)
    return [(span.text, span.start, span.end) for span in kept]


def faults(*spans: tuple[str, float, float], duration: float = 10.0) -> dict[str, int]:
    _, found = fit_spans([Span(*span) for span in spans], duration)
    return {name: count for name, count in found.items() if count}


def test_texts_have_one_space_between_words_and_empty_ones_are_left_out():
    texts, found = tidy_texts([" A man runs.", "He  stops.\n", " \t", "", "fine"])
    assert texts == ["A man runs.", "He stops.", "fine"]
    assert found == {"spaces": 2, "empty": 2}


def test_a_span_within_its_video_stays_as_it_is():
    assert fitted(("a", 0, 10), ("b", 9.5, 10)) == [("a", 0, 10), ("b", 9.5, 10)]
    assert faults(("a", 0, 10), ("b", 9.5, 10)) == {}


@pytest.mark.parametrize(
    ("span", "kept", "found"),
    [
        (("a", 8, 12), [("a", 8, 10)], {"long": 1}),
        (("a", 8, 10.005), [("a", 8, 10)], {}),
        (("a", 5, 5), [], {"inverted": 1}),
        (("a", 6, 5), [], {"inverted": 1}),
        (("a", 12, 11), [], {"inverted": 1}),
        (("a", 10, 12), [], {"late": 1}),
        ((" ", 0, 4), [], {"empty": 1}),
        ((" a", 0, 4), [("a", 0, 4)], {"spaces": 1}),
    ],
)
def test_each_fault_has_its_own_end(span, kept, found):
    assert fitted(span) == kept
    assert faults(span) == found


def test_a_span_that_stands_twice_stands_once_and_other_times_of_its_text_stay():
    spans = [("a", 0, 4), ("b", 0, 4), (" a", 0, 4), ("a", 5, 6), ("a", 8, 11), ("a", 8, 12)]
    assert fitted(*spans) == [("a", 0, 4), ("b", 0, 4), ("a", 5, 6), ("a", 8, 10)]
    assert faults(*spans) == {"spaces": 1, "repeated": 2, "long": 2}


def test_notes_name_what_is_counted_and_what_became_of_it():
    _, sentences = fit_spans([Span("a", 3, 2), Span("b", 8, 12), Span("c", 9, 12)], 10.0)
    assert fault_notes({"sentences": sentences, "actions": fit_spans([Span("x", 0, 1)], 10.0)[1]}) == [
        "1 sentences end no later than they start: left out",
        "2 sentences end more than 0.01 s past their video: ended with it",
    ]


@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), TIMES, TIMES)), st.integers(1, 40).map(lambda ticks: ticks / 4))
def test_what_is_kept_lies_within_the_video_and_fits_again_without_a_fault(spans, duration):
    kept = fitted(*spans, duration=duration)
    assert all(0 <= start < end <= duration for _, start, end in kept)
    assert len(set(kept)) == len(kept)
    assert fitted(*kept, duration=duration) == kept
    assert faults(*kept, duration=duration) == {}


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "num_sentences", "num_videos", "num_inverted"),
    [("train", 37_421, 9, 4), ("val_1", 17_505, 0, 0), ("val_2", 17_031, 0, 0)],
)
def test_activitynet_captions_has_the_faults_that_its_readers_report(
    real_material, name, num_sentences, num_videos, num_inverted
):
    videos = json.loads((real_material / "activitynet_captions" / f"{name}.json").read_text(encoding="utf-8"))
    found = []
    for row in videos.values():
        spans = [Span(text, *times) for text, times in zip(row["sentences"], row["timestamps"], strict=True)]
        found.append(fit_spans(spans, row["duration"])[1])
    assert sum(len(row["sentences"]) for row in videos.values()) == num_sentences
    assert sum(1 for counted in found if counted["long"]) == num_videos
    assert sum(1 for counted in found if counted["inverted"]) == num_inverted
    assert sum(counted["late"] + counted["empty"] for counted in found) == 0


def test_control_characters_are_removed_and_counted():
    # a colour code of terminals, a NUL, RIGHT-TO-LEFT OVERRIDE; a LINE SEPARATOR is a space
    texts, found = tidy_texts(["a \x1b[31mred\x1b[0m circle", "a\x00 dog\u202e", "one\u2028two", "\x07", "fine"])
    assert texts == ["a red circle", "a dog", "one two", "fine"]
    assert found == {"controls": 2, "spaces": 1, "empty": 1}
    assert fault_notes({"captions": found})[0] == "2 captions hold control characters: removed"
