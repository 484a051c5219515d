import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillmotion.video.sampling import (
    clip_layout,
    clip_times,
    frame_groups,
    frames_shown_at,
    segment_indices,
    segment_times,
    span_indices,
    view_indices,
)

durations = st.floats(0.05, 20_000)
counts = st.integers(1, 300)
steps = st.lists(st.floats(0.001, 30), min_size=1, max_size=60)


def test_segment_times_are_the_middles_of_equal_segments():
    assert segment_times(8.0, 4).tolist() == [1, 3, 5, 7]


@given(durations, counts, st.integers(0, 2**32))
def test_a_random_time_lies_in_its_own_segment(duration, num, seed):
    times = segment_times(duration, num, rng=np.random.default_rng(seed))
    assert np.all(times >= np.arange(num) * duration / num - 1e-9)
    assert np.all(times <= (np.arange(num) + 1) * duration / num + 1e-9)


def test_clips_of_two_seconds_in_five_have_a_short_last_one():
    assert clip_times(5.0, clip_length_s=2.0, position="start").tolist() == [0, 2, 4]
    assert clip_times(5.0, clip_length_s=2.0, position="middle").tolist() == [1, 3, 4.5]


def test_a_duration_that_rounding_lifts_above_a_whole_number_of_clips_has_no_extra_clip():
    assert len(clip_times(float(np.nextafter(6.0, 7.0)), clip_length_s=2.0, position="middle")) == 3


def test_a_video_shorter_than_a_clip_is_one_clip():
    assert clip_times(0.5, clip_length_s=2.0, position="middle").tolist() == [0.25]


@given(durations, st.floats(0.1, 60), st.sampled_from(["start", "middle"]))
def test_every_clip_has_a_time_inside_the_video(duration, length, position):
    times = clip_times(duration, clip_length_s=length, position=position)
    assert len(times) >= duration / length - 1e-5
    assert np.all(np.diff(times) > 0)
    assert times[0] >= 0
    assert times[-1] <= duration


def test_a_frame_is_shown_until_the_next_one_appears():
    timestamps = np.array([0.0, 1.0, 5.0])
    assert frames_shown_at(timestamps, np.array([0.5, 4.9, 5.0, 99.0])).tolist() == [0, 1, 2, 2]


def test_a_frame_due_at_the_very_time_is_shown_despite_rounding():
    timestamps = np.arange(300) * (1001 / 30000)
    assert frames_shown_at(timestamps, np.array([1001 / 30000 * 7 - 1e-12])).tolist() == [7]


def test_variable_frame_rate_is_sampled_by_time_and_not_by_number():
    # Ten frames in the first second, then one that stands for nine.
    timestamps = np.append(np.arange(10) / 10, 1.0)
    assert frames_shown_at(timestamps, segment_times(10.0, 5)).tolist() == [10, 10, 10, 10, 10]
    assert frames_shown_at(timestamps, segment_times(10.0, 10)).tolist() == [5] + [10] * 9


@given(steps, st.lists(st.floats(0, 2000), min_size=1, max_size=20))
def test_the_frame_shown_is_the_last_that_has_begun(gaps, times):
    timestamps = np.concatenate([[0.0], np.cumsum(gaps)])
    for time, index in zip(times, frames_shown_at(timestamps, np.array(times)), strict=True):
        assert timestamps[index] <= time + 1e-6
        assert index == len(timestamps) - 1 or timestamps[index + 1] > time


def test_segment_indices_are_the_middles():
    assert segment_indices(64, 8).tolist() == [4, 12, 20, 28, 36, 44, 52, 60]
    assert segment_indices(2, 4).tolist() == [0, 0, 1, 1]


@given(counts, counts, st.integers(0, 2**32))
def test_random_and_middle_indices_lie_in_their_segments(num_stored, num, seed):
    middle = segment_indices(num_stored, num)
    drawn = segment_indices(num_stored, num, rng=np.random.default_rng(seed))
    for indices in (middle, drawn):
        assert np.all((indices >= 0) & (indices < num_stored))
        assert np.all(np.diff(indices) >= 0)
    segment = np.arange(num)
    assert np.all((middle + 1) * num > segment * num_stored)
    assert np.all(middle * num < (segment + 1) * num_stored)
    if num <= num_stored:
        assert len(set(middle.tolist())) == len(set(drawn.tolist())) == num
        assert np.all((drawn >= segment * num_stored // num) & (drawn < (segment + 1) * num_stored // num))


def test_a_clip_is_a_run_of_consecutive_uniform_frames():
    assert clip_layout(8, num_clips=2, clip_frames=2).tolist() == [[1, 3], [5, 7]]
    assert clip_layout(64, num_clips=1, clip_frames=8).tolist() == [[4, 12, 20, 28, 36, 44, 52, 60]]
    assert clip_layout(64, num_clips=8, clip_frames=8).ravel().tolist() == list(range(64))


@given(st.integers(1, 8), st.integers(1, 32), st.integers(1, 256))
def test_clips_take_each_frame_once_and_are_equally_spaced(num_clips, clip_frames, num_stored):
    if num_clips * clip_frames > num_stored:
        with pytest.raises(ValueError, match="stored"):
            clip_layout(num_stored, num_clips=num_clips, clip_frames=clip_frames)
        return
    layout = clip_layout(num_stored, num_clips=num_clips, clip_frames=clip_frames)
    assert layout.shape == (num_clips, clip_frames)
    gaps = np.diff(layout.ravel())
    assert np.all(gaps >= 1)
    assert len(gaps) == 0 or gaps.max() - gaps.min() <= 1


def test_a_span_takes_the_stored_frames_nearest_to_the_middles_of_its_segments():
    # 1.5 is as near to 1 as to 2, and 2.5 as to 2 and 3: the earlier one.
    assert span_indices(np.array([0.0, 1, 2, 3]), 1.0, 3.0, 2).tolist() == [1, 2]
    assert span_indices(np.array([0.0, 1, 2, 3]), 1.9, 2.1, 3).tolist() == [2, 2, 2]


def test_a_span_past_the_end_of_the_video_gives_its_last_frame():
    assert span_indices(np.array([0.0, 1, 2]), 10.0, 12.0, 2).tolist() == [2, 2]


def test_a_span_that_ends_before_it_starts_is_refused():
    with pytest.raises(ValueError, match="ends too early"):
        span_indices(np.array([0.0, 1, 2]), 2.0, 1.0, 4)


@given(steps, st.floats(0, 500), st.floats(0, 500), counts)
def test_no_stored_frame_is_nearer_than_the_one_a_span_takes(gaps, start, length, num):
    timestamps = np.concatenate([[0.0], np.cumsum(gaps)])
    times = start + (np.arange(num) + 0.5) * length / num
    found = span_indices(timestamps, start, start + length, num)
    nearest = np.abs(timestamps[None, :] - times[:, None]).min(axis=1)
    np.testing.assert_allclose(np.abs(timestamps[found] - times), nearest, atol=1e-6)


@given(steps, st.floats(0, 20), st.floats(0, 20), counts, st.integers(0, 2**32))
def test_random_frames_of_a_span_are_in_order_and_repeat_with_the_seed(gaps, start, length, num, seed):
    timestamps = np.concatenate([[0.0], np.cumsum(gaps)])
    drawn = [span_indices(timestamps, start, start + length, num, rng=np.random.default_rng(seed)) for _ in "ab"]
    assert np.array_equal(*drawn)
    assert np.all(np.diff(drawn[0]) >= 0)


def test_two_views_take_the_quarters_of_each_segment():
    assert view_indices(np.arange(9.0), 0.0, 8.0, 2, num_views=2).tolist() == [[1, 5], [3, 7]]


def test_views_together_are_one_uniform_sample_dealt_out_in_turn():
    # Middles of twelve segments of 0.5 s, on a grid of 1/100 s: 2.25, 2.75, …
    found = view_indices(np.arange(1000) / 100, 2.0, 8.0, 4, num_views=3)
    assert found.tolist() == [[225, 375, 525, 675], [275, 425, 575, 725], [325, 475, 625, 775]]


@given(steps, st.floats(-10, 100), st.floats(0, 100), st.integers(1, 20))
def test_the_one_view_is_the_span_s_frames(gaps, start, length, num):
    timestamps = np.cumsum(gaps)
    (found,) = view_indices(timestamps, start, start + length, num, num_views=1)
    assert found.tolist() == span_indices(timestamps, start, start + length, num).tolist()


@pytest.mark.parametrize(
    ("num_stored", "expected"),
    [
        (8, [[0, 1, 2], [3, 4, 5], [5, 6, 7]]),
        (6, [[0, 1, 2], [3, 4, 5]]),
        (3, [[0, 1, 2]]),
        (2, [[0, 1, 1]]),
        (1, [[0, 0, 0]]),
    ],
)
def test_groups_of_frames_hold_every_stored_frame(num_stored, expected):
    assert frame_groups(num_stored, 3).tolist() == expected
