from itertools import combinations

import numpy as np
import pytest

from stillmotion.metrics.frame_cosine import mean_frame_cosine


def test_pairs_of_frames_of_one_video_count_and_pairs_of_two_videos_do_not():
    x, y = [1.0, 0.0], [0.0, 1.0]
    # Of three pairs one is alike; in the other video all are.
    frames = np.array([[x, x, y], [y, y, y]], np.float32)
    assert mean_frame_cosine(frames) == pytest.approx((1 / 3 + 1) / 2)


def test_it_is_the_mean_over_the_pairs_one_by_one():
    frames = np.random.default_rng(0).standard_normal((4, 7, 5)).astype(np.float32)
    frames /= np.linalg.norm(frames, axis=2, keepdims=True)
    pairs = [float(a.astype(float) @ b.astype(float)) for video in frames for a, b in combinations(video, 2)]
    assert mean_frame_cosine(frames) == pytest.approx(np.mean(pairs), abs=1e-6)


@pytest.mark.parametrize("shape", [(0, 3, 4), (2, 1, 4)])
def test_without_two_frames_there_is_nothing_to_compare(shape):
    assert mean_frame_cosine(np.ones(shape, np.float32)) is None
