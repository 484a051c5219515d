import pytest

from stillmotion.datasets.toy import ToySource
from stillmotion.datasets.toy_story import story_captions, tell_stories
from stillmotion.io.records import SPLITS, Video


@pytest.fixture
def annotations(toy_params):
    """What is annotated with changed params; the videos are as long as their stories."""

    def read(**changes):
        params = toy_params(**changes)
        videos = {
            story.video_id: Video(story.video_id, "", split, story.num_frames / 8, *[None] * 5, status="ok")
            for split in SPLITS
            for story in tell_stories(params, split)
        }
        return ToySource(params).annotate(videos, clip_length_s=2.0)

    return read


def test_a_shift_of_the_narration_moves_dense_captions_and_nothing_else(annotations):
    there, shifted = annotations(), annotations(narration_shift_s=3.0)
    assert shifted.moments == there.moments
    assert shifted.actions == there.actions
    texts = [[(caption.caption_id, caption.video_id, caption.text) for caption in a.captions] for a in (there, shifted)]
    assert texts[0] == texts[1]
    assert [one == other for one, other in zip(there.captions, shifted.captions, strict=True)] == [
        caption.start is None for caption in there.captions
    ]


def test_without_a_shift_dense_captions_have_the_times_of_the_actions(annotations):
    found = annotations()
    spans = [(caption.video_id, caption.start, caption.end) for caption in found.captions if caption.start is not None]
    assert spans == [(action.video_id, action.start, action.end) for action in found.actions]


def test_the_seed_of_the_dataset_is_that_of_the_shifts(annotations, toy_params):
    params = toy_params(seed=5, narration_shift_s=3.0)
    told = [story_captions(story, seed=5, narration_shift_s=3.0) for s in SPLITS for story in tell_stories(params, s)]
    assert annotations(seed=5, narration_shift_s=3.0).captions == [caption for captions in told for caption in captions]
