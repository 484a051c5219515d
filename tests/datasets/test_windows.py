import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillmotion.datasets.windows import clip_coverage, covered_clips, merge_windows


def test_windows_that_overlap_are_joined_and_those_that_touch_are_not():
    assert merge_windows([(8, 10), (0, 4), (3, 6), (6, 7)]) == [[0, 6], [6, 7], [8, 10]]


def test_a_window_within_another_vanishes():
    assert merge_windows([(0, 9), (2, 3), (8, 10)]) == [[0, 10]]


def test_a_clip_counts_from_half_its_length_on():
    assert covered_clips([[3, 6.5]], duration=9, clip_length_s=2) == [1, 2]


def test_a_window_too_short_for_any_clip_counts_for_the_one_it_covers_most():
    assert covered_clips([[1.7, 2.2]], duration=9, clip_length_s=2) == [0]


def test_the_last_clip_ends_with_the_video():
    assert covered_clips([[8.2, 9]], duration=9, clip_length_s=2) == [4]
    assert clip_coverage([[8.5, 9]], 4, duration=9, clip_length_s=2) == pytest.approx(0.5)


def test_a_window_to_the_end_of_a_video_of_whole_clips_names_no_clip_beyond_it():
    assert covered_clips([[6, 10]], duration=10, clip_length_s=2) == [3, 4]


def test_two_windows_cover_a_clip_together():
    assert covered_clips([[2, 2.6], [3.4, 4]], duration=10, clip_length_s=2) == [1]


@given(st.floats(0.2, 200), st.floats(0, 1), st.floats(0.001, 1), st.floats(0.5, 5))
def test_every_window_has_a_clip_and_none_lies_outside_the_video(duration, start, length, clip_length_s):
    window = [start * duration * 0.99, 0.0]
    window[1] = min(duration, window[0] + length * duration)
    clips = covered_clips([window], duration=duration, clip_length_s=clip_length_s)
    assert clips
    assert clips[0] >= 0
    assert clips[-1] * clip_length_s < duration
