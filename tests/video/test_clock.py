import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillmotion.video.clock import mended_times


def mended(times, *, lasts=0.0, others=(), one_clock=False):
    lasts = np.broadcast_to(np.array(lasts, float), (len(times),))
    found, num_mends = mended_times(np.array(times, float), lasts, np.array(others, float), one_clock=one_clock)
    return found.tolist(), num_mends


def test_stamps_that_start_again_go_on_after_the_usual_step():
    assert mended([0, 1, 2, 0, 1, 2, 0, 1]) == ([0, 1, 2, 3, 4, 5, 6, 7], 2)
    assert mended([50, 51, 52, 7, 8]) == ([50, 51, 52, 53, 54], 1)


def test_a_step_of_more_than_ten_seconds_is_a_jump():
    assert mended([0, 1, 2, 12, 13]) == ([0, 1, 2, 12, 13], 0)
    assert mended([0, 1, 2, 12.5, 13.5]) == ([0, 1, 2, 3, 4], 1)
    assert mended([0, 1, 3602, 3603, 2, 3]) == ([0, 1, 2, 3, 4, 5], 2)


def test_a_frame_that_is_said_to_last_is_no_jump_up_to_ten_minutes():
    assert mended([0, 1, 2, 92, 93], lasts=[1, 1, 90, 1, 1]) == ([0, 1, 2, 92, 93], 0)
    assert mended([0, 1, 2, 3602, 3603], lasts=[1, 1, 3600, 1, 1]) == ([0, 1, 2, 3, 4], 1)


def test_a_step_through_which_another_stream_goes_on_is_no_jump():
    assert mended([0, 1, 41, 42], others=[0, 8, 16, 24, 32, 40]) == ([0, 1, 41, 42], 0)
    assert mended([0, 1, 41, 42], others=[0, 8, 16, 35, 40]) == ([0, 1, 2, 3], 1)


def test_where_there_is_one_clock_only_a_step_longer_than_all_others_is_a_jump():
    assert mended([0, 15, 30, 31], one_clock=True) == ([0, 15, 30, 31], 0)
    assert mended([0, 15, 30, 31]) == ([0, 1, 2, 3], 2)
    assert mended([0, 1, 2, 3602, 3603], one_clock=True) == ([0, 1, 2, 3, 4], 1)


def test_stamps_that_are_merely_out_of_order_wait_for_one_another():
    assert mended([0, 0.08, 0.04, 0.12]) == ([0, 0.08, 0.08, 0.12], 0)


def test_one_frame_has_nothing_to_mend():
    assert mended([3]) == ([3], 0)


@given(st.lists(st.floats(0.001, 9.9), min_size=1, max_size=30), st.integers(2, 4))
def test_joined_copies_are_as_long_as_their_sum(steps, copies):
    times = np.cumsum([0.0, *steps])
    if times[-1] <= 0.2:
        return
    found, num_mends = mended(np.tile(times, copies))
    usual = np.median(np.tile(steps, copies))
    assert num_mends == copies - 1
    assert found[-1] == pytest.approx(copies * times[-1] + (copies - 1) * usual)
