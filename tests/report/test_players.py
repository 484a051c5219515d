import base64
import io
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

from stillmotion.report.players import FRAME_PX, Player, best_run, preview, video_source


class Store:
    """Frames of one colour each: the place of a frame is its brightness over ten."""

    def __init__(self, clips):
        self.clips = np.array(clips)

    def clip_indices(self, video_id):
        return self.clips

    def at(self, video_id, indices):
        return np.stack([np.full((8, 8, 3), 10 * index, dtype=np.uint8) for index in indices])


def test_a_preview_shows_frames_of_equal_parts_in_order():
    url, num = preview(Store(range(24)), "v")
    head, _, content = url.partition(",")
    assert head == "data:image/webp;base64"
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(content))).convert("L"))
    assert num == 12
    assert picture.shape == (FRAME_PX, 12 * FRAME_PX)
    # the middles of twelve parts of 24 clips
    middles = picture[FRAME_PX // 2, FRAME_PX // 2 :: FRAME_PX]
    assert middles.tolist() == pytest.approx([10 * clip for clip in range(1, 24, 2)], abs=4)


def test_a_short_video_shows_each_of_its_frames_once():
    assert preview(Store([0, 1, 2]), "v")[1] == 3


def test_the_moment_is_the_run_about_the_highest_score_above_half_way_from_the_mean():
    assert best_run(np.array([0.0, 0.0, 3.0, 5.0, 4.0, 0.0])) == (3, 4)
    assert best_run(np.array([1.0])) == (0, 0)
    assert best_run(np.array([2.0, 2.0, 2.0])) == (0, 2)


@pytest.mark.parametrize("name", ["a b.mp4", "a#1?.mp4", 'x"<b>&.mp4', "ü.mp4", "javascript:alert(1)"])
def test_a_video_is_named_from_the_page_as_a_url_that_holds_nothing_but_its_path(name):
    source = video_source(f"data/raw/{name}", Path("reports/results"))
    assert unquote(source) == f"../../data/raw/{name}"
    assert not set(source) & set(" \"<>#?&'")


def test_a_video_elsewhere_on_the_machine_is_not_named():
    assert video_source("/home/someone/a.mp4", Path("reports/results")) == ""


def test_a_name_that_is_no_text_is_still_a_path():
    assert video_source("data/\udcff.mp4", Path("out")) == "../data/%FF.mp4"


def test_a_player_stands_at_its_moment_and_never_at_zero_where_it_would_show_nothing():
    def url(source, moment):
        return Player("v", source, 9.0, moment, "", 1, [], None, [], []).url

    assert url("v.mp4", (22.004, 28.0)) == "v.mp4#t=22,28"
    assert url("v.mp4", (0.0, 4.5)) == "v.mp4#t=0.01,4.5"
    assert url("", (0.0, 4.5)) == ""
