import numpy as np
import pytest

from stillmotion.moments.example_figure import example_panels
from stillmotion.report.figures import save_figure
from stillmotion.video.thumbnails import MOST, MOST_IN_A_FIGURE, THUMBNAIL_PX, thumbnail_strip


def plain_frames(values, size=64):
    """A frame of one gray for each value."""
    return np.stack([np.full((size, size, 3), value, dtype=np.uint8) for value in values])


def grays(strip):
    """The gray of each thumbnail."""
    assert strip.shape[0] == THUMBNAIL_PX
    assert strip.shape[1] % THUMBNAIL_PX == 0
    parts = np.split(strip, strip.shape[1] // THUMBNAIL_PX, axis=1)
    assert all(part.min() == part.max() for part in parts)
    return [int(part[0, 0, 0]) for part in parts]


@pytest.mark.parametrize(
    ("num_clips", "num", "expected"),
    [(4, 2, [1, 3]), (3, 3, [0, 1, 2]), (5, 1, [2]), (9, 3, [1, 4, 7]), (2, 12, [0, 1])],
)
def test_the_clips_in_the_middle_of_equal_parts_are_shown(num_clips, num, expected):
    assert grays(thumbnail_strip(plain_frames(range(num_clips)), list(range(num_clips)), num)) == expected


def test_a_clip_is_shown_by_the_frame_that_stands_for_it():
    assert grays(thumbnail_strip(plain_frames([10, 20, 30]), [2, 2, 0], 3)) == [30, 30, 10]


def test_a_frame_of_any_size_keeps_its_colours_in_place():
    frame = np.zeros((224, 224, 3), dtype=np.uint8)
    frame[:, 112:] = (200, 100, 50)
    strip = thumbnail_strip(frame[None], [0], 1)
    assert strip.shape == (THUMBNAIL_PX, THUMBNAIL_PX, 3)
    assert strip[0, 0].tolist() == [0, 0, 0]
    assert strip[-1, -1].tolist() == [200, 100, 50]


def test_a_figure_of_grainy_frames_is_below_300_kib(tmp_path):
    rng = np.random.default_rng(0)
    # grain of 12 levels over plain colours
    plain = rng.integers(40, 216, size=(12, 1, 1, 3))
    grain = rng.normal(0, 12, size=(12, THUMBNAIL_PX, THUMBNAIL_PX, 3))
    frames = (plain + grain).clip(0, 255).astype(np.uint8)
    strip = thumbnail_strip(frames, list(range(12)), MOST)
    curve = rng.uniform(size=75).tolist()
    row = {
        "query": "q",
        "vid": "v",
        "duration": 150.0,
        "place": "best",
        "top1_iou": 1.0,
        "clip_length_s": 2.0,
        "sc": curve,
        "processed": curve[::-1],
        "cfsc": curve[1:],
        "cuts": list(range(1, 75, 3)),
        "threshold": 0.5,
        "true_windows": [[0.0, 2.0]],
        "predicted_windows": [[0.0, 2.0, 0.5]] * 10,
    }
    num = MOST_IN_A_FIGURE // MOST
    save_figure(example_panels([row] * num, [strip] * num, 0.5), tmp_path / "x.svg")
    assert (tmp_path / "x.svg").stat().st_size < 300 * 1024
