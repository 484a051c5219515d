import numpy as np
import pytest

from stillmotion.io.records import Caption
from stillmotion.report.evidence import Asked
from stillmotion.report.first_videos import asked_queries, first_shows, first_videos_section, sentences

RED = "a large red circle {} on a gray background"
BLUE = "a small blue ring spins on a white background"
LEFT, RIGHT = RED.format("moves left"), RED.format("moves right")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("A man runs. He falls", ["A man runs", "He falls"]),
        ("Who is it? Nobody!", ["Who is it", "Nobody"]),
        ("a dog", ["a dog"]),
        ("It is 3.5 m long...", ["It is 3.5 m long"]),
        ("", []),
    ],
)
def test_sentences_end_with_their_marks(text, parts):
    assert sentences(text) == parts


def captions(**events):
    return [
        Caption(f"{video}#{n}", video, text, 0.0, 1.0) for video, told in events.items() for n, text in enumerate(told)
    ]


def row(text, first, *, rank=2):
    return {"caption_id": "a#0", "video_id": "a", "text": text, "rank": [rank, 1], "hardest_negatives": [first, "a"]}


def test_what_the_first_video_shows():
    events = captions(
        a=[LEFT, BLUE], event=[RIGHT, LEFT], subject=[RIGHT], other=[RED.format("spins").replace("large", "small")]
    )
    assert first_shows([row(f"{LEFT}.", "subject", rank=1)], events) == ["the right one"]
    assert first_shows([row(f"{LEFT}.", "event")], events) == ["a told event"]
    assert first_shows([row(f"{BLUE}. {LEFT}.", "subject")], events) == ["its subject alone"]
    assert first_shows([row(f"{LEFT}.", "other")], events) == ["neither"]
    # that its own video shows no such thing is no reason to find another with it right in part
    assert first_shows([row(f"{RIGHT}. {BLUE}.", "subject")], events) == ["neither"]
    # a video without events
    assert first_shows([row(f"{LEFT}.", "unknown")], events) == ["neither"]


def test_of_videos_that_are_not_drawn_nothing_is_said():
    assert first_shows([row(f"{LEFT}. A man runs.", "b")], captions(b=[LEFT])) == []
    assert first_shows([], []) == []


def test_queries_know_how_many_events_are_told_of_their_video():
    events = captions(a=[LEFT, BLUE, LEFT], b=[RED])
    rows = [row("one.", "b"), {"text": "two", "video_id": "b"}, {"text": "three", "video_id": "c"}]
    assert asked_queries(rows, events) == [Asked("one.", 2), Asked("two", 1), Asked("three", 0)]


def test_systems_are_listed_by_sentences_by_events_and_by_what_they_find_first(make_evidence):
    def clips(*hits):
        return {1: np.zeros(len(hits)), 4: np.array(hits, dtype=float)}

    found = {
        "asked": [("a. b.", 4), ("a.", 1), ("a. b. c. d. e.", 1), ("a. b. c. d.", 9), ("b", 4), ("c!", 3), ("d.", 0)],
        "hits": {"clip-mean": clips(0, 100, 0, 100, 50, 0, 0), "nothing": {}},
        "hits_in_five": {"clip-mean": clips(100, 100, 0, 100, 100, 0, 0), "nothing": {}},
        "first_shows": {"clip-mean": ["the right one", "neither", "the right one", "a told event"], "nothing": []},
    }
    page = "\n\n".join(first_videos_section(make_evidence(**found)))
    assert "| sentences of the caption | 1 | 2 | 4 or more |" in page
    assert "| captions | 4 | 1 | 2 |" in page
    assert "| clip-mean | 37.5 / 50.0 | 0.0 / 100.0 | 50.0 / 50.0 |" in page
    assert "| events of the video | 1 | 3 or more |" in page
    assert "| captions | 1 | 2 |" in page
    assert "| clip-mean | 100.0 / 100.0 | 25.0 / 50.0 |" in page
    assert "| the first video shows | the right one | a told event | its subject alone | neither |" in page
    assert "| clip-mean | 50.0 | 25.0 | 0.0 | 25.0 |" in page
    assert "nothing" not in page


def test_the_seeds_of_a_recipe_are_one_row(make_evidence):
    def clips(*hits):
        return {1: np.array(hits, dtype=float)}

    evidence = make_evidence(
        asked=[("a.", 1), ("a. b.", 2)],
        hits={"clip-a-mean": clips(0, 100), "clip-a_seed_1-mean": clips(100, 100)},
        hits_in_five={"clip-a-mean": clips(100, 100), "clip-a_seed_1-mean": clips(100, 100)},
        first_shows={"clip-a-mean": ["neither"] * 2, "clip-a_seed_1-mean": ["neither", "the right one"]},
    )
    page = "\n".join(first_videos_section(evidence))
    assert "| clip-a-mean, 2 seeds | 50.0 / 100.0 | 100.0 / 100.0 |" in page
    assert "| clip-a-mean, 2 seeds | 25.0 | 0.0 | 0.0 | 75.0 |" in page


def test_captions_of_one_length_and_videos_of_which_nothing_is_known_have_no_section(make_evidence):
    nothing = {"clip-mean": {1: np.zeros(3)}}
    evidence = make_evidence(
        asked=[("a.", 1), ("b.", 1), ("c.", 0)], hits=nothing, hits_in_five=nothing, first_shows={"clip-mean": []}
    )
    assert first_videos_section(evidence) == []
