import math
from types import SimpleNamespace

import numpy as np
import pytest

from stillmotion.embedding.reader import EmbeddedVideo
from stillmotion.errors import InputError
from stillmotion.search.ranking import UNTUNED, SelectionRule, find_moments
from stillmotion.search.wholes import Wholes

QUERY = np.array([1.0, 0.0], dtype=np.float32)


def rule(method="vc1", post_processing="none", frozen_range=None, least_cosine=1e-6, **parameters):
    return SelectionRule(method, post_processing, parameters, least_cosine, frozen_range)


def windows(found):
    return [(moment.video_id, moment.start, moment.end, round(moment.score, 5)) for moment in found]


def search(stored, how, top=10):
    return find_moments(*stored, QUERY, how, clip_length_s=2.0, top=top)


def test_windows_are_those_above_the_threshold_and_end_with_the_video(stored):
    # norm of [.1, .8, .6, .2, .9] is [0, .875, .625, .125, 1]; the last clip of 9 s is 1 s long
    found = search(stored({"a": [0.1, 0.8, 0.6, 0.2, 0.9]}, duration=9.0), rule(post_processing="norm", threshold=0.6))
    assert windows(found) == [("a", 8.0, 9.0, 0.9), ("a", 2.0, 6.0, 0.7)]
    assert [(moment.first_clip, moment.end_clip) for moment in found] == [(4, 5), (1, 3)]


def test_moments_of_different_videos_rank_by_raw_cosine_not_by_the_normalised_curve(stored):
    # both curves have their peak at 1 after norm; b is flat and high, so its window is long
    made = stored({"a": [0.1, 0.3, 0.1], "b": [0.2, 0.8, 0.75]})
    assert windows(search(made, rule(post_processing="norm", threshold=0.75))) == [
        ("b", 2.0, 6.0, 0.775),
        ("a", 2.0, 4.0, 0.3),
    ]


def test_a_whole_video_counts_as_much_as_its_window(stored):
    made = stored({"a": [0.1, 0.9, 0.1], "b": [0.1, 0.5, 0.1]})
    found = find_moments(
        *made, QUERY, rule(threshold=0.4), clip_length_s=2.0, top=10, wholes_V=np.array([0.1, 0.8], dtype=np.float32)
    )
    assert windows(found) == [("b", 2.0, 4.0, 0.65), ("a", 2.0, 4.0, 0.5)]


def test_the_best_frame_of_a_window_counts_for_an_image(stored):
    made = stored({"a": [0.7, 0.7, 0.1], "b": [0.9, 0.4, 0.1]})
    how = rule(threshold=0.3)
    assert windows(search(made, how)) == [("a", 0.0, 4.0, 0.7), ("b", 0.0, 4.0, 0.65)]
    found = find_moments(*made, QUERY, how, clip_length_s=2.0, top=10, by_best_frame=True)
    assert windows(found) == [("b", 0.0, 4.0, 0.9), ("a", 0.0, 4.0, 0.7)]


def test_equal_scores_are_in_order_of_video_and_time(stored):
    made = stored({"b": [0.9, 0.1, 0.9], "a": [0.1, 0.9, 0.1]})
    assert [found[:2] for found in windows(search(made, rule(threshold=0.5)))] == [("a", 2.0), ("b", 0.0), ("b", 4.0)]


def test_at_most_top_moments_and_more_than_ten_of_one_video(stored):
    made = stored({"a": [0.9, 0.1] * 15})
    assert len(search(made, rule(threshold=0.5), top=20)) == 15
    assert len(search(made, rule(threshold=0.5), top=4)) == 4


def test_a_video_without_a_window_gives_the_one_around_its_best_frame(stored):
    made = stored({"a": [0.1, 0.3, 0.2]})
    assert windows(search(made, rule(threshold=0.9))) == [("a", 2.0, 4.0, 0.3)]


def test_adjust_norm_takes_the_range_of_the_train_split(stored):
    # with the range [0, 0.5], 0.3 becomes 0.6 and 0.2 becomes 0.4
    made = stored({"a": [0.3, 0.3, 0.2, 0.1]})
    how = rule(post_processing="adjust_norm", threshold=0.5, frozen_range=(0.0, 0.5))
    assert windows(search(made, how)) == [("a", 0.0, 4.0, 0.3)]


def test_log_smooth_norm_takes_its_window_and_its_floor(stored):
    # Savitzky-Golay of order 2 over 3 points changes nothing; the floor 0.25 makes the first three equal:
    # the logarithms' norm is [0, 0, 0, ln(.5/.25)/ln(4), 1] = [0, 0, 0, .5, 1]
    made = stored({"a": [0.01, 0.2, 0.25, 0.5, 0.999999]})
    how = rule(post_processing="log_smooth_norm", threshold=0.49, window=3, least_cosine=0.25)
    assert windows(search(made, how)) == [("a", 6.0, 10.0, 0.75)]


def test_vc2_keeps_scenes_between_cuts(stored):
    # successive frames at the same cosine are the same vector, so CFSc is 1 but for the cut between .9 and .1
    made = stored({"a": [0.9, 0.9, 0.1, 0.1, 0.1]})
    how = rule("vc2", threshold=0.5, change=0.8, share=1.0)
    assert windows(search(made, how)) == [("a", 0.0, 4.0, 0.9)]


def random_videos(num_videos, seed):
    """Unit vectors with scenes of 3 clips, so that windows are longer than a frame."""
    rng = np.random.default_rng(seed)
    frames, videos, offset = [], [], 0
    for row in range(num_videos):
        num_clips = int(rng.integers(1, 20))
        scenes = np.repeat(rng.standard_normal((math.ceil(num_clips / 3), 8)), 3, axis=0)[:num_clips]
        vectors = scenes + 0.3 * rng.standard_normal(scenes.shape)
        frames.append(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
        clips = list(range(num_clips))
        videos.append(EmbeddedVideo(f"v{row:04d}", "test", 2.0 * num_clips - 0.5, offset, num_clips, [0], clips))
        offset += num_clips
    return np.concatenate(frames).astype(np.float32), videos


def every_moment(frames_ND, videos, query_D, threshold):
    """VC1 on `norm` of all videos, from the formulas, best first."""
    found = []
    for video in videos:
        curve = [
            float(np.dot(frames_ND[row].astype(float), query_D))
            / float(np.linalg.norm(frames_ND[row].astype(float)) * np.linalg.norm(query_D))
            for row in range(video.offset, video.offset + video.count)
        ]
        span = max(curve) - min(curve)
        chosen = [span > 0 and (value - min(curve)) / span > threshold for value in curve]
        if span == 0:
            chosen = [True, *[False] * (len(curve) - 1)]
        start = None
        for place, is_chosen in enumerate([*chosen, False]):
            if is_chosen and start is None:
                start = place
            elif not is_chosen and start is not None:
                score = sum(curve[start:place]) / (place - start)
                found.append((-score, video.video_id, 2.0 * start, min(2.0 * place, video.duration)))
                start = None
    return sorted(found)


@pytest.mark.parametrize("top", [1, 10, 300])
@pytest.mark.parametrize("threshold", [0.3, 0.75])
def test_stopping_early_finds_what_looking_at_all_videos_finds(top, threshold):
    frames_ND, videos = random_videos(700, seed=3)
    query_D = np.random.default_rng(4).standard_normal(8)
    query_D /= np.linalg.norm(query_D)
    how = rule(post_processing="norm", threshold=threshold)
    found = find_moments(frames_ND, videos, query_D.astype(np.float32), how, clip_length_s=2.0, top=top)
    expected = every_moment(frames_ND, videos, query_D, threshold)[:top]
    assert [moment.video_id for moment in found] == [row[1] for row in expected]
    assert [(moment.start, moment.end) for moment in found] == [row[2:] for row in expected]
    np.testing.assert_allclose([moment.score for moment in found], [-row[0] for row in expected], atol=1e-6)


def test_a_part_of_the_videos_can_be_searched(stored):
    frames, videos = stored({"a": [0.9, 0.9], "b": [0.1, 0.5], "c": [0.8, 0.1]})
    assert [found[0] for found in windows(search((frames, videos[1:]), rule(threshold=0.4)))] == ["c", "b"]
    assert windows(search((frames, [videos[1]]), rule(threshold=0.4))) == [("b", 2.0, 4.0, 0.5)]
    assert search((frames, []), rule(threshold=0.4)) == []


def test_clips_of_another_length_are_refused_with_the_mend(stored):
    frames, videos = stored({"a": [0.9, 0.9, 0.9]})
    with pytest.raises(InputError, match="clip_length_s is 1, but a of 6 s is embedded in 3 clips; run `dvc repro`"):
        find_moments(frames, videos, QUERY, UNTUNED, clip_length_s=1.0, top=1)


@pytest.mark.parametrize(
    "damage",
    [
        lambda frames: frames[:, :1],
        lambda frames: frames[:0],
        lambda frames: frames[:-1],
        lambda frames: frames.astype(np.int64),
        lambda frames: frames.ravel(),
    ],
    ids=["another width", "no rows", "a row less", "another type", "another shape"],
)
def test_a_table_that_the_videos_are_not_of_is_refused(stored, damage):
    frames, videos = stored({"a": [0.9, 0.9]})
    with pytest.raises(InputError, match="frames.npy: holds .* remove the folder and run `dvc repro`"):
        search((damage(frames), videos), UNTUNED)


def test_an_embedding_that_is_not_finite_is_refused(stored):
    frames, videos = stored({"a": [0.9, 0.9]})
    frames[2] = np.nan
    with pytest.raises(InputError, match="not finite"):
        search((frames, videos), UNTUNED)


def test_equal_videos_have_equal_cosines_with_a_text():
    rng = np.random.default_rng(0)
    videos = [EmbeddedVideo(f"v{number}", "test", 2.0, number, 1, [0], [0]) for number in range(53)]
    vectors = np.tile(rng.standard_normal(128).astype(np.float32), (53, 1))
    embedded = SimpleNamespace(row_of={video.video_id: row for row, video in enumerate(videos)})
    found = Wholes("key", "model", 50.0, embedded, vectors).cosines(videos, rng.standard_normal(128))
    assert len(set(found.tolist())) == 1
