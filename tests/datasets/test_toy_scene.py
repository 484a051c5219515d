import itertools
from dataclasses import replace

import numpy as np
import pytest

from stillmotion.datasets.toy_scene import (
    BACKGROUNDS,
    COLORS,
    MOTIONS,
    RADII,
    SCALES,
    SHAPES,
    SIZES,
    Course,
    Pose,
    Subject,
    draw,
    draw_card,
    pose,
    random_pose,
    random_subject,
    sentence,
)

SUBJECT = Subject("large", "red", "circle", "gray")
MIDDLE = Pose(0.5, 0.5, 1.0, 0.0, True)
COURSE = Course(x=0.5, y=0.5, angle=0.3, phase=0.0, period=1.5)


def shown(image: np.ndarray, subject: Subject) -> np.ndarray:
    """Where the image is nearer to the subject's color than to its background."""
    far = [
        np.abs(image.astype(int) - np.asarray(value)).sum(axis=2)
        for value in (COLORS[subject.color], BACKGROUNDS[subject.background])
    ]
    return far[0] < far[1]


def test_a_sentence_names_the_attributes_and_the_motion_if_any():
    assert sentence(SUBJECT, "moves left") == "a large red circle moves left on a gray background"
    assert sentence(SUBJECT) == "a large red circle on a gray background"


def test_the_world_has_what_the_documents_promise():
    assert (len(SIZES), len(MOTIONS), len(set(MOTIONS))) == (2, 8, 8)
    assert (len(SHAPES), len(COLORS), len(BACKGROUNDS)) == (6, 8, 4)


@pytest.mark.parametrize(
    ("shape", "area"),
    # Of radius 1, worked by hand: square of side 1.7, triangle of inradius 0.58, ring from 0.55 to 1, cross of
    # two bars of 2 × 0.6, pentagram of circumradius 1 whose inner corners are at 0.5 (5 · 0.5 · sin 36°).
    [
        ("circle", np.pi),
        ("square", 1.7**2),
        ("triangle", 3 * 3**0.5 * 0.58**2),
        ("ring", np.pi * (1 - 0.55**2)),
        ("cross", 2 * 2 * 0.6 - 0.6**2),
        ("star", 5 * 0.5 * np.sin(np.pi / 5)),
    ],
)
@pytest.mark.parametrize("angle", [0.0, 0.7])
def test_a_shape_has_its_area_at_any_angle(shape, area, angle):
    subject = replace(SUBJECT, shape=shape, color="yellow", background="black")
    image = draw(subject, replace(MIDDLE, angle=angle), 512)
    # The spot is dark; it is still far from black in red and green.
    drawn = (image.astype(int) - np.asarray(BACKGROUNDS["black"]))[..., 0] > 40
    assert drawn.sum() / (RADII["large"] * 512) ** 2 == pytest.approx(area, rel=0.02)


def test_the_subject_stands_where_the_pose_says():
    image = draw(SUBJECT, replace(MIDDLE, x=0.3, y=0.7), 128)
    rows, columns = np.nonzero(shown(image, SUBJECT))
    assert (columns.mean() + 0.5) / 128 == pytest.approx(0.3, abs=0.03)
    assert (rows.mean() + 0.5) / 128 == pytest.approx(0.7, abs=0.03)


def test_an_invisible_subject_leaves_the_bare_background():
    image = draw(SUBJECT, replace(MIDDLE, visible=False), 64)
    assert not shown(image, SUBJECT).any()
    assert np.abs(image.astype(int) - np.asarray(BACKGROUNDS["gray"])).max() <= 18


def test_drawing_leaves_later_drawings_as_they_were():
    bare = draw(SUBJECT, replace(MIDDLE, visible=False), 64)
    draw(SUBJECT, MIDDLE, 64)
    assert (draw(SUBJECT, replace(MIDDLE, visible=False), 64) == bare).all()


def test_a_subject_cut_off_by_the_edge_is_drawn_as_far_as_it_goes():
    image = draw(SUBJECT, Pose(0.0, 0.0, SCALES[1], 0.0, True), 64)
    assert 0.15 < shown(image, SUBJECT)[:22, :22].mean() <= 1
    assert not shown(image, SUBJECT)[32:, 32:].any()


def test_even_a_circle_can_be_seen_to_spin():
    turned = draw(SUBJECT, replace(MIDDLE, angle=np.pi), 64)
    assert np.abs(draw(SUBJECT, MIDDLE, 64).astype(int) - turned).max() > 60


def test_no_two_subjects_look_alike():
    images = {
        draw(Subject(*names), MIDDLE, 64).tobytes() for names in itertools.product(SIZES, COLORS, SHAPES, BACKGROUNDS)
    }
    assert len(images) == 2 * 8 * 6 * 4


def test_no_scale_makes_a_small_subject_as_large_as_a_large_one():
    assert RADII["small"] * SCALES[1] < RADII["large"] * SCALES[0]


@pytest.mark.parametrize(
    ("motion", "field", "sign"),
    [
        ("moves left", "x", -1),
        ("moves right", "x", 1),
        ("moves up", "y", -1),
        ("moves down", "y", 1),
        ("grows", "scale", 1),
        ("shrinks", "scale", -1),
    ],
)
def test_a_motion_changes_its_own_part_of_the_pose_and_hardly_any_other(motion, field, sign):
    poses = [pose(motion, COURSE, progress=step / 10, elapsed=step / 2) for step in range(11)]
    changes = np.diff([getattr(item, field) for item in poses])
    assert (sign * changes > 0.04).all()
    for other in {"x", "y", "scale", "angle"} - {field}:
        assert np.ptp([getattr(item, other) for item in poses]) < 0.04
    assert all(item.visible for item in poses)


def test_spinning_turns_by_the_clock():
    poses = [pose("spins", COURSE, progress=0.5, elapsed=seconds) for seconds in (0.0, 1.5, 3.0)]
    assert np.diff([item.angle for item in poses]) == pytest.approx([np.pi, np.pi])


def test_blinking_hides_the_subject_for_two_fifths_of_the_time():
    seen = [pose("blinks", COURSE, progress=0.5, elapsed=step / 100).visible for step in range(1500)]
    assert np.mean(seen) == pytest.approx(0.6, abs=0.01)
    assert np.abs(np.diff(seen)).sum() == pytest.approx(20, abs=1)


def test_one_frame_in_each_clip_does_not_always_find_a_blinking_subject_or_never():
    for period in (1.3, 1.5, 1.8):
        course = replace(COURSE, period=period)
        seen = [pose("blinks", course, progress=0.5, elapsed=2.0 * clip + 1).visible for clip in range(20)]
        assert 0.3 < np.mean(seen) < 0.9


def test_an_unknown_motion_is_an_error():
    with pytest.raises(ValueError, match="'jumps'"):
        pose("jumps", COURSE, progress=0, elapsed=0)


def test_still_images_depend_on_the_generator_alone():
    first, second = (np.random.default_rng(3) for _ in range(2))
    for _ in range(5):
        assert random_subject(first) == random_subject(second)
        assert random_pose(first) == random_pose(second)


def test_a_title_card_is_diagonal_stripes_of_its_two_colors_that_drift():
    card = draw_card("red", "gray", 0, 16)
    assert card.shape == (16, 16, 3)
    # Pixels of equal x + y share a stripe; stripes are 8 wide along either axis.
    assert card[0, 0].tolist() == card[3, 4].tolist() == [214, 39, 40]
    assert card[0, 8].tolist() == card[8, 0].tolist() == [128, 128, 128]
    assert np.array_equal(draw_card("red", "gray", 3, 16)[:, :-3], card[:, 3:])
