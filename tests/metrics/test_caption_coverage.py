import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillmotion.metrics.caption_coverage import GROUPS, coverage_groups, covered_shares


def test_shares_worked_by_hand():
    texts = np.eye(2)
    # own cosines .3, .1 and .3, .3 (mean .25), the others' all .1: aligned is what is above .175
    frames = np.array([[[0.3, 0.1], [0.1, 0.1]], [[0.1, 0.3], [0.1, 0.3]]])
    assert covered_shares(texts, np.array([0, 1]), lambda video: frames[video], 2).tolist() == [0.5, 1.0]


def brute_force(texts, video_of, frames):
    """All cosines of all pairs, own and others apart."""
    cosines_TVF = np.einsum("td,vfd->tvf", texts, frames)
    is_own_TV = np.arange(len(frames)) == np.asarray(video_of)[:, None]
    own, others = cosines_TVF[is_own_TV], cosines_TVF[~is_own_TV]
    centre = (own.mean() + others.mean()) / 2
    return (own > centre).mean(axis=1)


@given(st.integers(0, 2**32 - 1), st.integers(2, 5), st.integers(0, 4), st.floats(0, 3))
def test_shares_are_those_of_the_means_over_all_pairs(seed, num_videos, more_texts, offset):
    generator = np.random.default_rng(seed)
    # with an offset all cosines are positive, as CLIP's are
    frames = generator.normal(size=(num_videos, 4, 6)) + offset
    frames /= np.linalg.norm(frames, axis=-1, keepdims=True)
    video_of = np.concatenate([np.arange(num_videos), generator.integers(num_videos, size=more_texts)])
    texts = generator.normal(size=(len(video_of), 6)) + offset
    found = covered_shares(texts, video_of, lambda video: frames[video], num_videos)
    np.testing.assert_allclose(found, brute_force(texts, video_of, frames))


def test_where_all_cosines_are_positive_not_everything_is_aligned():
    frames = np.array([[[0.9, 0.5], [0.5, 0.5], [0.5, 0.5]], [[0.5, 0.9]] * 3])
    shares = covered_shares(np.eye(2), np.array([0, 1]), lambda video: frames[video], 2)
    assert coverage_groups(shares) == ["middle", "up"]


def test_a_single_video_is_held_to_zero():
    frames = np.array([[0.5, 0.0], [-0.5, 0.0], [0.1, 0.0], [0.2, 0.0]])
    assert covered_shares(np.array([[1.0, 0.0]]), np.array([0]), lambda video: frames, 1).tolist() == [0.75]


def test_one_video_s_frames_are_asked_for_at_a_time_and_once():
    asked = []

    def frames_of(video):
        asked.append(video)
        return np.ones((2, 3))

    covered_shares(np.ones((5, 3)), np.array([2, 0, 1, 0, 2]), frames_of, 3)
    assert asked == [0, 1, 2]


@pytest.mark.parametrize(
    ("aligned", "group"),
    [(9, "up"), (7, "up"), (6, "middle"), (5, "middle"), (3, "middle"), (2, "bottom"), (0, "bottom")],
)
def test_more_than_two_thirds_are_up_and_less_than_one_third_bottom(aligned, group):
    assert coverage_groups(np.array([aligned / 9])) == [group]
    assert group in GROUPS
