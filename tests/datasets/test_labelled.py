import pytest

from stillmotion.datasets.labelled import LabelledVideo, labelled_benchmark
from stillmotion.errors import InputError
from stillmotion.io.records import Action


def listed(*rows: tuple[str, str, str]) -> list[LabelledVideo]:
    return [LabelledVideo(f"L row {number}", *row) for number, row in enumerate(rows, start=1)]


def test_a_class_is_an_action_over_the_whole_length_of_a_video(make_source, annotate):
    rows = listed(("b", "ride  bike", "test"), ("a", "run", "train"))
    source = labelled_benchmark(make_source({}, ["a.avi", "ride_bike/b.avi"]), rows)
    videos, annotations = annotate(source, a=3.5, b=2.0)
    assert {name: video.split for name, video in videos.items()} == {"a": "train", "b": "test"}
    assert annotations.actions == [Action("a", "run", 0.0, 3.5), Action("b", "ride bike", 0.0, 2.0)]
    assert (annotations.captions, annotations.moments, annotations.notes) == ([], [], [])


def test_a_video_that_is_missing_keeps_its_action_with_the_length_that_its_list_states(make_source, annotate):
    rows = [LabelledVideo("L", "a", "run", "test"), LabelledVideo("L", "b", "run", "test", 10.0)]
    _, annotations = annotate(labelled_benchmark(make_source({}, ["c.mp4", "a.mp4"]), rows))
    assert annotations.actions == [Action("a", "run", 0.0, 0.0), Action("b", "run", 0.0, 10.0)]


def test_a_row_that_stands_twice_counts_once_and_two_classes_are_two_actions(make_source, annotate):
    rows = listed(("a", "run", "test"), ("a", "run ", "test"), ("a", "jump", "test"))
    _, annotations = annotate(labelled_benchmark(make_source({}, ["a.mp4"]), rows), a=2.0)
    assert [action.label for action in annotations.actions] == ["run", "jump"]
    assert annotations.notes == ["1 rows of the lists stand twice: once"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("a", "run", "train"), ("a", "run", "test")], "L row 2: video 'a' is in the train split too; remove one"),
        ([("a", " \t", "train")], "L row 1: no video or no class; fill it in"),
        ([("", "run", "train")], "L row 1: no video or no class; fill it in"),
    ],
)
def test_a_fault_names_the_row_and_the_mend(make_source, rows, message):
    with pytest.raises(InputError) as caught:
        labelled_benchmark(make_source({}, ["a.mp4"]), listed(*rows))
    assert str(caught.value) == message
