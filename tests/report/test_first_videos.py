import pytest

from stillmotion.claims.evidence import Query
from stillmotion.io.records import Caption
from stillmotion.report.first_videos import first_shows, queries_of, sentences

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
    assert first_shows([row(f"{LEFT}.", "event")], events) == ["a described event"]
    assert first_shows([row(f"{BLUE}. {LEFT}.", "subject")], events) == ["its subject alone"]
    assert first_shows([row(f"{LEFT}.", "other")], events) == ["neither"]
    # that its own video shows no such thing is no reason to find another with it right in part
    assert first_shows([row(f"{RIGHT}. {BLUE}.", "subject")], events) == ["neither"]
    # a video without events
    assert first_shows([row(f"{LEFT}.", "unknown")], events) == ["neither"]


def test_of_videos_that_are_not_drawn_nothing_is_said():
    assert first_shows([row(f"{LEFT}. A man runs.", "b")], captions(b=[LEFT])) == []
    assert first_shows([], []) == []


def test_queries_know_how_many_events_are_described_of_their_video():
    events = captions(a=[LEFT, BLUE, LEFT], b=[RED])
    rows = [row("one.", "b"), {"text": "two", "video_id": "b"}, {"text": "three", "video_id": "c"}]
    assert queries_of(rows, events) == [Query("one.", 2), Query("two", 1), Query("three", 0)]
