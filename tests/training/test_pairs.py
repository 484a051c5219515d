import pytest

from stillmotion.records import Caption
from stillmotion.training.pairs import Pair, caption_pairs

CAPTIONS = [
    Caption("a#0", "a", "first. second.", None, None),
    Caption("a#1", "a", "first", 0.0, 4.0),
    Caption("a#2", "a", "second", 4.0, 9.5),
    Caption("b#0", "b", "all of b", None, None),
    Caption("lost#0", "lost", "not decoded", None, None),
]
DURATIONS = {"a": 10.0, "b": 7.5}
WHOLE_A, WHOLE_B = Pair("a", "first. second.", 0.0, 10.0), Pair("b", "all of b", 0.0, 7.5)
SPANS = [Pair("a", "first", 0.0, 4.0), Pair("a", "second", 4.0, 9.5)]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("paragraph", [WHOLE_A, WHOLE_B]), ("dense", SPANS), ("both", [WHOLE_A, *SPANS, WHOLE_B])],
)
def test_paragraphs_stand_for_whole_videos_and_dense_captions_for_their_spans(kind, expected):
    assert caption_pairs(CAPTIONS, DURATIONS, kind) == expected


def test_captions_of_videos_without_frames_are_left_out():
    assert caption_pairs(CAPTIONS, {"b": 7.5}, "both") == [WHOLE_B]
    assert caption_pairs(CAPTIONS, {}, "both") == []
    assert caption_pairs([], DURATIONS, "both") == []
