import itertools
import re

import numpy as np
import pytest

from stillmotion.config.loading import load_params
from stillmotion.datasets.toy_story import (
    story_actions,
    story_captions,
    story_moments,
    tell_stories,
)
from stillmotion.errors import InputError

SENTENCE = re.compile(r"a (large|small) \w+ \w+ (moves \w+|\w+) on a \w+ background")
RATES = ("distractor_rate", "return_rate", "mismatch_rate", "similarity_rate")


@pytest.fixture
def plain(toy_params):
    """Params without any of the ingredients."""
    return lambda **changes: toy_params(**{**dict.fromkeys(RATES, 0.0), "num_train": 60, **changes})


def paragraph_sentences(story):
    assert story.paragraph.endswith(".")
    return story.paragraph.removesuffix(".").split(". ")


def described(story):
    return [event for event in story.events if event.described]


def captions_of(story, *, seed=0, shift_s=0.0):
    return story_captions(story, seed=seed, narration_shift_s=shift_s)


def test_the_same_params_tell_the_same_stories(toy_params):
    assert tell_stories(toy_params(), "train") == tell_stories(toy_params(), "train")


def test_another_seed_tells_others(toy_params):
    first, second = (tell_stories(toy_params(seed=seed), "train") for seed in (0, 1))
    assert all(one.paragraph != other.paragraph for one, other in zip(first, second, strict=True))


def test_more_videos_leave_those_that_were_there_as_they_were(toy_params):
    few = tell_stories(toy_params(num_test=3), "train")
    assert tell_stories(toy_params(num_train=9, num_test=30), "train")[:6] == few


def test_the_splits_differ(toy_params):
    params = toy_params(num_validation=6, num_test=6)
    paragraphs = [{story.paragraph for story in tell_stories(params, split)} for split in ("train", "test")]
    assert not paragraphs[0] & paragraphs[1]


def test_ids_are_split_and_number(toy_params):
    assert [story.video_id for story in tell_stories(toy_params(), "test")] == [
        "test-0000",
        "test-0001",
        "test-0002",
    ]


def test_paragraphs_are_unique_within_a_split_even_where_few_can_be_told(plain):
    stories = tell_stories(plain(num_train=2500, min_events=1, max_events=1), "train")
    # One of 2 × 8 × 6 × 4 × 8 = 3,072 sentences each: drawn freely, about 800 would coincide.
    assert len({story.paragraph for story in stories}) == 2500


def test_a_video_of_one_event_is_that_event_with_a_distractor_and_a_mismatch_at_most(plain):
    changes = {"min_events": 1, "max_events": 1, "similarity_rate": 1.0, "return_rate": 1.0}
    for story in tell_stories(plain(**changes), "train"):
        (event,) = story.events
        assert (story.paragraph, event.first_frame) == (f"{event.text}.", 0)
        (moment,) = story_moments(story, seed=0, duration=story.num_frames / 8, clip_length_s=2.0)
        assert moment.relevant_windows == [[0.0, story.num_frames / 8]]
    for story in tell_stories(plain(**changes, distractor_rate=1.0, mismatch_rate=1.0), "train"):
        (event,) = described(story)
        assert len(story.events) == 2
        assert len(paragraph_sentences(story)) == 2
        assert event.text in paragraph_sentences(story)


def test_events_fill_the_video_with_unequal_lengths_of_two_seconds_or_more(toy_params):
    params = toy_params(num_train=100, min_duration=20.0, max_duration=60.0)
    for story in tell_stories(params, "train"):
        lengths = [event.num_frames for event in story.events]
        assert [event.first_frame for event in story.events] == [0, *np.cumsum(lengths)[:-1]]
        assert 20 * 8 <= sum(lengths) <= 60 * 8
        assert min(lengths) >= 16
        assert len(set(lengths)) > 1


def test_durations_are_not_all_even_numbers(toy_params):
    durations = [story.num_frames / 8 for story in tell_stories(toy_params(num_train=50), "train")]
    assert sum(duration % 2 == 0 for duration in durations) < 10


def test_the_number_of_described_events_is_in_its_range(toy_params):
    counts = {len(described(story)) for story in tell_stories(toy_params(num_train=60), "train")}
    assert counts == {3, 4}


def test_a_paragraph_leaves_events_out_at_the_rate_but_never_all(plain):
    untold = tell_stories(plain(num_train=400, undescribed_rate=0.6), "train")
    all_told = tell_stories(plain(num_train=400), "train")
    told = 0
    for story, whole in zip(untold, all_told, strict=True):
        if (story.video_id, story.events) != (whole.video_id, whole.events):
            continue  # another attempt, since its paragraph was taken
        texts = [event.text for event in story.events]
        assert paragraph_sentences(story) == [text for text in texts if text in paragraph_sentences(story)]
        told += len(paragraph_sentences(story))
    # One is sure and each of the others has 0.4: of 3 events, or of 4, 1.8 or 2.2.
    assert told / 400 == pytest.approx(1 + 0.4 * 2.5, abs=0.12)
    assert {len(paragraph_sentences(story)) for story in untold} == {1, 2, 3, 4}


def test_what_is_left_out_says_nothing_of_when_the_rest_is_spoken(plain):
    early = {True: 0, False: 0}
    told = {True: 0, False: 0}
    for story in tell_stories(plain(num_train=400, undescribed_rate=0.5), "train"):
        for (event, start, _), caption in zip(story.described(), captions_of(story, shift_s=1.0)[1:], strict=True):
            is_told = event.text in paragraph_sentences(story)
            told[is_told] += 1
            early[is_told] += caption.start < start
    # Of some 700 in each group half, but those of the first event, which can't begin before the video.
    assert early[True] / told[True] == pytest.approx(early[False] / told[False], abs=0.12)


def test_without_ingredients_the_paragraph_is_what_happens(plain):
    for story in tell_stories(plain(), "train"):
        assert paragraph_sentences(story) == [event.text for event in story.events]
        assert len({event.text for event in story.events}) == len(story.events)


def test_a_distractor_shares_neither_color_nor_shape_and_nothing_speaks_of_it(plain):
    for story in tell_stories(plain(distractor_rate=1.0), "train"):
        (distractor,) = [event for event in story.events if not event.described]
        for event in described(story):
            assert event.subject.color != distractor.subject.color
            assert event.subject.shape != distractor.subject.shape
        assert distractor.text not in story.paragraph
        spoken = [caption.text for caption in captions_of(story)[1:]]
        moments = story_moments(story, seed=0, duration=story.num_frames / 8, clip_length_s=2.0)
        assert distractor.text not in spoken
        assert distractor.text not in [moment.query for moment in moments]
        assert len(story_actions(story)) == len(story.events) - 1


def test_an_event_that_returns_is_one_query_with_two_windows(plain):
    for story in tell_stories(plain(return_rate=1.0), "train"):
        moments = story_moments(story, seed=0, duration=story.num_frames / 8, clip_length_s=2.0)
        assert sorted(len(moment.relevant_windows) for moment in moments)[-2:] == [1, 2]
        assert len(moments) == len(story.events) - 1
        for moment in moments:
            # The windows do not touch: something else happens between.
            assert all(a[1] < b[0] for a, b in itertools.pairwise(moment.relevant_windows))


def test_a_mismatching_sentence_is_in_the_paragraph_and_nowhere_else(plain):
    places = set()
    for story in tell_stories(plain(mismatch_rate=1.0), "train"):
        sentences = paragraph_sentences(story)
        assert len(sentences) == len(story.events) + 1
        (odd,) = set(sentences) - {event.text for event in story.events}
        assert SENTENCE.fullmatch(odd)
        assert odd not in [caption.text for caption in captions_of(story)[1:]]
        places.add(sentences.index(odd))
    assert len(places) > 2


def test_similar_neighbours_differ_in_one_attribute(plain):
    changed = set()
    for story in tell_stories(plain(similarity_rate=1.0), "train"):
        for before, after in itertools.pairwise(story.events):
            names = ("size", "color", "shape", "background")
            differing = [name for name in names if getattr(before.subject, name) != getattr(after.subject, name)]
            differing += ["motion"] if before.motion != after.motion else []
            assert len(differing) == 1
            changed |= set(differing)
    assert changed == {"size", "color", "shape", "background", "motion"}


def test_rates_are_shares_of_videos(plain):
    stories = tell_stories(plain(num_train=600, distractor_rate=0.3, return_rate=0.3), "train")
    distractors = np.mean([any(not event.described for event in story.events) for story in stories])
    returns = np.mean([len({event.text for event in described(s)}) < len(described(s)) for s in stories])
    assert distractors == pytest.approx(0.3, abs=0.08)
    assert returns == pytest.approx(0.3, abs=0.08)


def test_dense_captions_actions_and_moments_agree_with_the_events(toy_params):
    for story in tell_stories(toy_params(), "train"):
        captions, actions = captions_of(story), story_actions(story)
        moments = story_moments(story, seed=0, duration=story.num_frames / 8, clip_length_s=2.0)
        assert (captions[0].start, captions[0].end, captions[0].text) == (None, None, story.paragraph)
        spans = [(event.text, event.motion, event.first_frame / 8) for event in described(story)]
        assert [(caption.text, caption.start) for caption in captions[1:]] == [(t, s) for t, _, s in spans]
        assert [(action.label, action.start) for action in actions] == [(m, s) for _, m, s in spans]
        assert all(moment.vid == story.video_id for moment in moments)
        windows = {(moment.query, *window) for moment in moments for window in moment.relevant_windows}
        assert windows == {(caption.text, caption.start, caption.end) for caption in captions[1:]}


def test_narration_is_shifted_with_its_length_by_up_to_so_many_seconds_either_way(plain):
    shifts = []
    for story in tell_stories(plain(min_duration=60.0, max_duration=60.0, max_events=3), "train"):
        paragraph, *dense = captions_of(story, shift_s=6.0)
        assert paragraph == captions_of(story)[0]
        for there, spoken in zip(captions_of(story)[1:], dense, strict=True):
            assert (spoken.caption_id, spoken.video_id, spoken.text) == (there.caption_id, story.video_id, there.text)
            # So far from the ends of the video that nothing is cut off.
            if there.start > 6.0 and there.end < 54.0:
                assert spoken.end - spoken.start == pytest.approx(there.end - there.start, abs=2e-6)
                shifts.append(spoken.start - there.start)
    assert len(shifts) > 40
    assert max(np.abs(shifts)) <= 6.0
    assert np.mean(shifts) == pytest.approx(0, abs=1.5)
    # The spread of a uniform draw.
    assert np.std(shifts) == pytest.approx(6 / np.sqrt(3), abs=0.6)


def test_narration_is_cut_off_at_the_ends_of_the_video_and_a_second_of_it_stays(plain):
    stays = []
    for story in tell_stories(plain(), "train"):
        duration = story.num_frames / 8
        for there, spoken in zip(captions_of(story)[1:], captions_of(story, shift_s=1000.0)[1:], strict=True):
            left = min(1.0, there.end - there.start)
            stays.append(
                (spoken.start, spoken.end) in [(0.0, left), (pytest.approx(duration - left), pytest.approx(duration))]
            )
    # One in a hundred draws is short enough for more to stay.
    assert np.mean(stays) > 0.95


def test_a_caption_of_less_than_a_second_stays_whole(plain):
    short = [
        (there, spoken)
        for story in tell_stories(plain(min_duration=5.0, max_duration=5.0, max_events=4), "train")
        for there, spoken in zip(captions_of(story)[1:], captions_of(story, shift_s=3.0)[1:], strict=True)
        if there.end - there.start < 1.0
    ]
    assert len(short) > 20
    for there, spoken in short:
        assert spoken.end - spoken.start == pytest.approx(there.end - there.start, abs=2e-6)


def test_each_video_and_each_seed_has_shifts_of_its_own(plain):
    def starts(story, seed):
        spoken = captions_of(story, seed=seed, shift_s=1.0)
        return [round(s.start - t.start, 6) for s, t in zip(spoken[1:], captions_of(story)[1:], strict=True)]

    first, second = tell_stories(plain(min_duration=30.0, max_duration=40.0), "train")[:2]
    assert starts(first, 0) == starts(first, 0)
    assert not set(starts(first, 0)) & set(starts(first, 1))
    assert not set(starts(first, 0)) & set(starts(second, 0))


def test_ratings_fall_where_the_event_covers_less_of_the_clip_or_shows_less(toy_params):
    params = toy_params(num_train=200, min_duration=20.0, max_duration=60.0)
    whole, part, blinking = [], [], []
    for story in tell_stories(params, "train"):
        for moment in story_moments(story, seed=0, duration=story.num_frames / 8, clip_length_s=2.0):
            assert len(moment.saliency_scores) == len(moment.relevant_clip_ids)
            for clip, scores in zip(moment.relevant_clip_ids, moment.saliency_scores, strict=True):
                assert len(scores) == 3
                assert all(0 <= score <= 4 for score in scores)
                inside = any(a <= 2 * clip and 2 * clip + 2 <= b for a, b in moment.relevant_windows)
                shown = blinking if "blinks" in moment.query else whole
                (shown if inside else part).append(np.mean(scores))
    assert np.mean(whole) > np.mean(blinking) + 0.4
    assert np.mean(whole) > np.mean(part) + 0.4


def test_annotators_disagree_and_another_seed_makes_them_disagree_otherwise(toy_params):
    story = tell_stories(toy_params(), "train")[0]
    first, again, other = (
        [m.saliency_scores for m in story_moments(story, seed=seed, duration=12.0, clip_length_s=2.0)]
        for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other


def test_query_numbers_are_unique_and_stay_when_the_dataset_grows(toy_params):
    def numbers(params):
        return {
            moment.qid: moment.query
            for split in ("train", "validation", "test")
            for story in tell_stories(params, split)
            for moment in story_moments(story, seed=0, duration=story.num_frames / 8, clip_length_s=2.0)
        }

    few, many = numbers(toy_params()), numbers(toy_params(num_train=20, num_validation=9))
    assert few.items() <= many.items()


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("max_duration: 60.0", "max_duration: 10.0", "download.generated.toy: max_duration is below min_duration"),
        ("max_events: 5", "max_events: 2", "download.generated.toy: max_events is below min_events"),
        ("min_duration: 20.0", "min_duration: 4.0", "download.generated.toy: min_duration leaves an event"),
        ("size_px: 64", "size_px: 63", "download.generated.toy: size_px must be even"),
        ("test_fraction: 0.3", "test_fraction: 0.9", "download.folder: validation_fraction and test_fraction"),
    ],
)
def test_params_that_contradict_each_other_are_named(tmp_path, request, before, after, message):
    text = (request.config.rootpath / "params.yaml").read_text()
    path = tmp_path / "params.yaml"
    path.write_text(text.replace(before, after, 1))
    with pytest.raises(InputError, match=message):
        load_params(path)
