"""The drawn world of the built-in dataset: what there is, what it is called, and what it looks like.

A scene is one subject on a background. Its attributes can be read off any single frame that shows it; its
motion can't, on purpose: position, scale and angle of a still image have the same range whatever the motion,
so that naming the motion takes several frames in order.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]

RADII = {"large": 0.28, "small": 0.15}
"""Radius at scale 1, as a share of the image; no scale in SCALES makes one size look like the other."""
SIZES = tuple(RADII)
COLORS: dict[str, tuple[int, int, int]] = {
    "red": (214, 39, 40),
    "green": (44, 160, 60),
    "blue": (40, 80, 220),
    "yellow": (240, 220, 40),
    "orange": (255, 140, 20),
    "purple": (130, 50, 170),
    "cyan": (40, 200, 220),
    "pink": (250, 130, 190),
}
BACKGROUNDS: dict[str, tuple[int, int, int]] = {
    "gray": (128, 128, 128),
    "white": (236, 236, 236),
    "black": (20, 20, 20),
    "brown": (100, 65, 40),
}
MOTIONS = (
    "moves left",
    "moves right",
    "moves up",
    "moves down",
    "grows",
    "shrinks",
    "spins",
    "blinks",
)
TRAVEL = (0.22, 0.78)
"""Range of the centre's coordinates over a move, as shares of the image."""
REST = (0.35, 0.65)
"""Range of a coordinate along which nothing moves."""
SCALES = (0.75, 1.3)
"""Scale at the two ends of growing and shrinking."""
TILT = 0.2
"""Largest angle of a subject that does not spin, in radians."""
RESTING_SHARE = 0.7
"""Share of still images that show a subject as it is when it neither spins, grows nor shrinks."""
STRIPE_PX = 8
"""Width of a title card's stripes along either axis."""
VISIBLE_SHARE = 0.6
"""Share of each blink for which the subject is there."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What is to be seen, by its names."""

    size: str
    color: str
    shape: str
    background: str


@dataclass(frozen=True, slots=True)
class Pose:
    """Where the subject is in one frame."""

    x: float
    """Centre, as a share of the image's width from the left."""
    y: float
    """Centre, as a share of the image's height from the top."""
    scale: float
    """Factor on the radius that goes with the subject's size."""
    angle: float
    """Clockwise, in radians."""
    visible: bool


@dataclass(frozen=True, slots=True)
class Course:
    """What differs between two events of the same subject and motion."""

    x: float
    """Centre along the axis on which nothing moves, in REST."""
    y: float
    angle: float
    phase: float
    """Of the wobble and of the blinking, as a share of a period."""
    period: float
    """Seconds of a blink, or of half a turn."""


def random_subject(rng: np.random.Generator) -> Subject:
    """A subject whose four attributes are drawn independently."""

    def pick(names: tuple[str, ...]) -> str:
        return names[rng.integers(len(names))]

    return Subject(pick(SIZES), pick(tuple(COLORS)), pick(SHAPES), pick(tuple(BACKGROUNDS)))


def random_course(rng: np.random.Generator) -> Course:
    """A course for one event."""
    return Course(
        x=float(rng.uniform(*REST)),
        y=float(rng.uniform(*REST)),
        angle=float(rng.uniform(-TILT, TILT)),
        phase=float(rng.uniform()),
        # Away from the 2 s of a clip: one frame a clip would else find the subject always or never.
        period=float(rng.uniform(1.3, 1.8)),
    )


def random_pose(rng: np.random.Generator) -> Pose:
    """A pose for a still image: everything that any motion can show, the empty blink left out."""
    resting = rng.uniform() < RESTING_SHARE
    return Pose(
        x=float(rng.uniform(*TRAVEL)),
        y=float(rng.uniform(*TRAVEL)),
        scale=1.0 if resting else float(rng.uniform(*SCALES)),
        angle=float(rng.uniform(-TILT, TILT) if resting else rng.uniform(0, 2 * math.pi)),
        visible=True,
    )


def sentence(subject: Subject, motion: str | None = None) -> str:
    """The subject in words, without a period at the end.

    Example:
        `a large red circle moves left on a gray background`; without a motion
        `a large red circle on a gray background`.
    """
    words = ["a", subject.size, subject.color, subject.shape]
    if motion is not None:
        words.append(motion)
    return " ".join([*words, "on a", subject.background, "background"])


def pose(motion: str, course: Course, *, progress: float, elapsed: float) -> Pose:
    """The pose within an event.

    Args:
        motion: one of MOTIONS.
        course: what is particular to this event.
        progress: share of the event that has passed, 0 to 1; moves, growing and shrinking take all of it.
        elapsed: seconds since the event began; blinking, spinning and the wobble go by the clock.
    """
    wobble = 0.015 * math.sin(2 * math.pi * (elapsed / 3 + course.phase))
    x, y, scale, angle, visible = course.x + wobble, course.y - wobble, 1.0, course.angle, True
    low, high = TRAVEL
    if motion == "moves left":
        x = high + (low - high) * progress
    elif motion == "moves right":
        x = low + (high - low) * progress
    elif motion == "moves up":
        y = high + (low - high) * progress
    elif motion == "moves down":
        y = low + (high - low) * progress
    elif motion == "grows":
        scale = SCALES[0] + (SCALES[1] - SCALES[0]) * progress
    elif motion == "shrinks":
        scale = SCALES[1] + (SCALES[0] - SCALES[1]) * progress
    elif motion == "spins":
        angle = course.angle + math.pi * elapsed / course.period
    elif motion == "blinks":
        visible = (elapsed / course.period + course.phase) % 1 < VISIBLE_SHARE
    else:
        raise ValueError(f"unknown motion {motion!r}; one of {MOTIONS}")
    return Pose(x, y, scale, angle, visible)


# Signed distances to the outline of a shape of radius about 1 around the origin, negative inside; u goes
# right and v down. They need not be exact far from the outline: only their sign and slope there are seen.


def _circle(u: FloatArray, v: FloatArray) -> FloatArray:
    return np.sqrt(u * u + v * v) - np.float32(1)


def _square(u: FloatArray, v: FloatArray) -> FloatArray:
    return np.maximum(np.abs(u), np.abs(v)) - np.float32(0.85)


def _triangle(u: FloatArray, v: FloatArray) -> FloatArray:
    return np.maximum(v, np.float32(0.866) * np.abs(u) - np.float32(0.5) * v) - np.float32(0.58)


def _ring(u: FloatArray, v: FloatArray) -> FloatArray:
    return np.abs(np.sqrt(u * u + v * v) - np.float32(0.775)) - np.float32(0.225)


def _cross(u: FloatArray, v: FloatArray) -> FloatArray:
    across, along = np.abs(u), np.abs(v)
    long_side, arm = np.maximum(across, along) - np.float32(1), np.minimum(across, along) - np.float32(0.3)
    return np.maximum(long_side, arm)


def _star(u: FloatArray, v: FloatArray) -> FloatArray:
    # Mirror the five points onto the upper one, then take the distance to its right edge.
    cos, sin = np.float32(math.cos(math.pi / 5)), np.float32(math.sin(math.pi / 5))
    x, y = np.abs(u), -v
    for side in (cos, -cos):
        beyond: FloatArray = np.float32(2) * np.maximum(side * x - sin * y, np.float32(0))
        x, y = x - beyond * side, y + beyond * sin
    folded: FloatArray = np.abs(x)
    # That edge runs from the tip at (0, 1) to an inner corner at half the radius, 36 degrees to the right.
    edge_x, edge_y = 0.5 * math.sin(math.pi / 5), 0.5 * math.cos(math.pi / 5) - 1
    length = math.hypot(edge_x, edge_y)
    along_x, along_y = np.float32(edge_x / length), np.float32(edge_y / length)
    return along_x * (y - np.float32(1)) - along_y * folded


_DISTANCES: dict[str, Callable[[FloatArray, FloatArray], FloatArray]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "cross": _cross,
    "ring": _ring,
}
SHAPES = tuple(_DISTANCES)


@lru_cache(maxsize=32)
def _canvas(background: str, size_px: int) -> npt.NDArray[np.uint8]:
    """The bare background, with a gradient so that it is no constant: (size, size, 3)."""
    ramp = np.linspace(-12, 12, size_px)
    shade = ramp[:, None, None] + 0.5 * ramp[None, :, None]
    return np.clip(np.asarray(BACKGROUNDS[background]) + shade, 0, 255).astype(np.uint8)


def draw_card(color: str, background: str, shift_px: int, size_px: int) -> npt.NDArray[np.uint8]:
    """Draw one frame of a title card: drifting diagonal stripes, unlike any subject.

    Returns:
        RGB of shape (size_px, size_px, 3).
    """
    places = np.arange(size_px)
    striped = (places[:, None] + places[None, :] + shift_px) // STRIPE_PX % 2 == 0
    image = np.where(striped[..., None], np.asarray(COLORS[color]), np.asarray(BACKGROUNDS[background]))
    return image.astype(np.uint8)


def draw(subject: Subject, pose: Pose, size_px: int) -> npt.NDArray[np.uint8]:
    """Draw one frame.

    A dark spot near the edge of the subject shows which way up it is: without it nobody could see a circle
    spin.

    Returns:
        RGB of shape (size_px, size_px, 3).
    """
    image = _canvas(subject.background, size_px).copy()
    if not pose.visible:
        return image
    radius = RADII[subject.size] * pose.scale * size_px
    # Corners of a square reach 1.2 radii, and a pixel is for the soft edge.
    reach = 1.21 * radius + 1
    left, right = max(0, int(pose.x * size_px - reach)), min(size_px, int(pose.x * size_px + reach) + 1)
    top, bottom = max(0, int(pose.y * size_px - reach)), min(size_px, int(pose.y * size_px + reach) + 1)
    x = (np.arange(left, right, dtype=np.float32) + np.float32(0.5 - pose.x * size_px)) / np.float32(radius)
    y = (np.arange(top, bottom, dtype=np.float32) + np.float32(0.5 - pose.y * size_px)) / np.float32(radius)
    cos, sin = np.float32(math.cos(pose.angle)), np.float32(math.sin(pose.angle))
    u = (cos * x)[None, :] + (sin * y)[:, None]
    v = (cos * y)[:, None] - (sin * x)[None, :]
    soft = np.float32(radius)
    inside = np.clip(np.float32(0.5) - soft * _DISTANCES[subject.shape](u, v), 0, 1)
    spot = np.clip(np.float32(0.5) - soft * (np.sqrt(u * u + (v + np.float32(0.62)) ** 2) - np.float32(0.2)), 0, 1)
    shade = np.float32(1) - np.float32(0.65) * spot
    patch = image[top:bottom, left:right]
    for channel, value in enumerate(COLORS[subject.color]):
        below = patch[..., channel]
        patch[..., channel] = below + inside * (shade * np.float32(value) - below)
    return image
