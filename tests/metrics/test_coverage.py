import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillmotion.metrics.coverage import coverage, selected_share, union_length
from stillmotion.metrics.submission import pad_windows


def predicted(*lists):
    return pad_windows([[[*window, 0.5] for window in windows] for windows in lists], columns=3, name="p", key="w")


def true(*lists):
    return pad_windows([[list(window) for window in windows] for windows in lists], columns=2, name="t", key="w")


def test_windows_that_overlap_count_once():
    assert union_length(true([(2, 6), (10, 11), (0, 4)], [(1, 2)])).tolist() == [7.0, 1.0]


def test_coverage_is_the_share_of_the_true_seconds_in_any_window():
    shares = coverage(predicted([(2, 9)], [(0, 4), (2, 6)], []), true([(0, 4), (8, 10)], [(3, 8)], [(0, 1)]))
    assert shares == pytest.approx([3 / 6, 3 / 5, 0])


def test_only_the_first_ten_windows_cover():
    lists = [[(50 + n, 51 + n) for n in range(10)] + [(0, 10)]]
    assert coverage(predicted(*lists), true([(0, 10)])).tolist() == [0.0]
    assert selected_share(predicted(*lists), np.array([100.0])) == pytest.approx([0.1])


def test_what_lies_outside_the_video_is_no_share_of_it():
    shares = selected_share(predicted([(-5, 5), (8, 40)], [(20, 30)]), np.array([10.0, 10.0]))
    assert shares == pytest.approx([0.7, 0.0])


def test_true_windows_of_no_length_are_not_covered():
    assert coverage(predicted([(0, 10)]), true([(3, 3)])).tolist() == [0.0]


spans = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 10)).map(lambda w: (w[0], w[0] + w[1])), min_size=1)


@given(spans, spans)
def test_shares_are_those_of_seconds_counted_one_by_one(windows, truth):
    def seconds(lists):
        return {second for start, end in lists for second in range(start, end)}

    found, expected = seconds(windows[:10]), seconds(truth)
    share = coverage(predicted(windows), true(truth))[0]
    assert share == pytest.approx(len(found & expected) / len(expected) if expected else 0)
    assert selected_share(predicted(windows), np.array([40.0]))[0] == pytest.approx(len(found) / 40)
