import pytest

from stillmotion.io.records import Action, Caption
from stillmotion.training.pairs import Pair, action_pairs, caption_pairs, class_texts

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


ACTIONS = [
    Action("a", "spins", 0.0, 2.0),
    Action("a", "grows {fast}", 2.0, 4.0),
    Action("b", "spins", 1.0, 4.0),
    Action("lost", "moves", 0.0, 1.0),
]


def test_a_labelled_span_has_its_class_name_in_the_template_for_a_text():
    assert action_pairs(ACTIONS, {"b", "a"}, "it {}.") == [
        Pair("a", "it spins.", 0.0, 2.0),
        Pair("a", "it grows {fast}.", 2.0, 4.0),
        Pair("b", "it spins.", 1.0, 4.0),
    ]
    assert action_pairs(ACTIONS, DURATIONS.keys() - {"a"}, "{}") == [Pair("b", "spins", 1.0, 4.0)]


def test_the_classes_are_those_of_all_spans_each_once():
    assert class_texts(ACTIONS, "it {}.") == ["it grows {fast}.", "it moves.", "it spins."]
    assert class_texts([], "{}") == []
