from pathlib import Path

import numpy as np
import pytest

from stillmotion.embedding.reader import EmbeddedVideo
from stillmotion.io.records import Caption, Video
from stillmotion.report.examples import Examples, Gallery, marked, moments_located, ranked_videos, rankings


def test_the_ranking_is_the_hardest_negatives_with_the_right_one_in_its_place():
    row = {"video_id": "r", "hardest_negatives": list("abcde")}
    assert ranked_videos(row | {"rank": [2.0]}) == [(1.0, "a"), (2.0, "r"), (3.0, "b")]
    assert ranked_videos(row | {"rank": [1.0, 7.0]}) == [(1.0, "r"), (2.0, "a"), (3.0, "b")]
    assert ranked_videos(row | {"rank": [9.0]}) == [(1.0, "a"), (2.0, "b"), (3.0, "c"), (9.0, "r")]
    # of a tie with one other the mean rank
    assert ranked_videos(row | {"rank": [1.5]}) == [(1.0, "a"), (1.5, "r"), (3.0, "b")]
    assert ranked_videos({"video_id": "r", "hardest_negatives": [], "rank": [1.0]}) == [(1.0, "r")]


def test_words_are_marked_that_the_most_alike_sentence_has_and_that_tell_something():
    found = marked("A man sits. He falls down", "a man runs. he falls", usual={"a", "he"})
    assert found == [[("A", False), ("man", True), ("sits", False)], [("He", False), ("falls", True), ("down", False)]]
    assert marked("", "a man") == []
    assert marked("a man", "") == [[("a", False), ("man", False)]]


class Store:
    def clip_indices(self, video_id):
        return np.array([0, 1, 2])

    def timestamps(self, video_id):
        return np.array([1.0, 3.0, 5.0])

    def at(self, video_id, indices):
        return np.zeros((len(indices), 8, 8, 3), np.uint8)


class Embedded:
    """Two dimensions; the frames of `b` fit the caption in their middle, those of `a` at their end."""

    has_frames = True
    videos = [EmbeddedVideo(name, "test", 6.0, 3 * row, 3, [0], [0, 1, 2]) for row, name in enumerate("ab")]
    row_of = {"a": 0, "b": 1}
    captions = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]], np.float32)
    frames = np.array([[0, 1], [0, 1], [0.5, 0], [0, 0], [0.75, 0], [0, 0]], np.float32)

    def video_frames(self, video):
        return self.frames[video.offset : video.offset + video.count]


CAPTIONS = [
    Caption("a0", "a", "A ball rolls. It stops", None, None),
    Caption("a1", "a", "a ball rolls", 2.0, 4.0),
    Caption("b0", "b", "A cat runs", None, None),
]


@pytest.fixture
def gallery():
    videos = [Video(name, f"data/{name}.mp4", "test", 6.0, 1.0, 6, 8, 8, "h264", "ok") for name in "ab"]
    return Gallery(videos, CAPTIONS, Store(), Embedded(), Path("reports"))


def test_a_ranking_says_how_each_video_fits_and_where_the_caption_is_told(gallery):
    row = {"caption_id": "a0", "video_id": "a", "text": "A ball rolls. It stops", "hardest_negatives": ["b"]}
    ranks = {"best": [row | {"rank": [2.0]}], "other": [row | {"rank": [1.0]}]}
    (found,) = rankings(gallery, Examples(ranks, [], 3), {"best": ["neither"]}, "best")
    assert (found.rank, found.ranks, found.shows) == (2.0, {"best": 2.0, "other": 1.0}, "neither")
    wrong, right = found.hits
    assert (wrong.rank, wrong.is_right, wrong.fit) == (1.0, False, 0.25)
    # clips reach half way to their neighbours: the middle one of three from 2 s to 4 s
    assert wrong.player.moment == (2.0, 4.0)
    assert wrong.player.curve == [(1.0, 0.0), (3.0, 0.75), (5.0, 0.0)]
    assert wrong.player.url == "../data/b.mp4#t=2,4"
    assert right.player.moment == (4.0, 6.0)
    assert right.player.true == [(2.0, 4.0)]
    assert wrong.player.true == []


def test_one_that_is_found_at_once_comes_first_then_misses_from_the_nearest_to_the_farthest(gallery):
    one = {"video_id": "a", "caption_id": "a0", "hardest_negatives": ["b"]}
    places = {"q0": 5.0, "q1": 1.0, "q2": 2.0, "q3": 9.0, "q4": 1.0, "q5": 7.0}
    rows = [one | {"text": name, "rank": [rank]} for name, rank in places.items()]
    found = rankings(gallery, Examples({"best": rows}, [], 3), {}, "best")
    assert [row.text for row in found] == ["q1", "q2", "q5", "q3"]
    assert {row.shows for row in found} == {""}


def test_a_moment_has_the_highest_score_within_the_first_window_and_within_the_true_ones(gallery):
    row = {"query": "q", "place": "worst", "vid": "a", "duration": 5.0, "top1_iou": 0.0, "clip_length_s": 2.0}
    row |= {"processed": [0.25, 0.5, 0.75], "threshold": 0.6, "true_windows": [[0.0, 3.0]]}
    (found,) = moments_located(gallery, [row | {"predicted_windows": [[4.0, 5.0, 0.75], [2.0, 3.0, 0.5]]}])
    # the last clip is short: its middle is at 4.5 s
    assert found.player.curve == [(1.0, 0.25), (3.0, 0.5), (4.5, 0.75)]
    assert (found.score_found, found.score_true) == (0.75, 0.5)
    assert (found.player.moment, found.player.found) == ((4.0, 5.0), [(4.0, 5.0), (2.0, 3.0)])
    (empty,) = moments_located(gallery, [row | {"predicted_windows": []}])
    assert (empty.score_found, empty.player.moment) == (None, (0.0, 3.0))


def test_words_of_most_captions_are_usual(gallery):
    assert gallery.usual == {"a"}
