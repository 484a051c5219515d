"""What happens in each video of a generated dataset, and what is said of it: no pixels yet.

data/sources/toy/README.md says what each ingredient is for.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from stillmotion.config.data import ToyParams
from stillmotion.datasets.toy_scene import (
    BACKGROUNDS,
    COLORS,
    MOTIONS,
    SHAPES,
    SIZES,
    Course,
    Pose,
    Subject,
    pose,
    random_course,
    random_subject,
    sentence,
)
from stillmotion.datasets.windows import clip_coverage, covered_clips
from stillmotion.io.records import SPLITS, Action, Caption, Moment, Split

_CHOICES: dict[str, tuple[str, ...]] = {
    "size": SIZES,
    "color": tuple(COLORS),
    "shape": SHAPES,
    "background": tuple(BACKGROUNDS),
    "motion": MOTIONS,
}
NUM_ANNOTATORS = 3


@dataclass(frozen=True, slots=True)
class Event:
    """A span of frames in which one subject makes one motion."""

    subject: Subject
    motion: str
    course: Course
    first_frame: int
    num_frames: int
    described: bool
    """False for the distractor: a title card in the colors of the subject is shown, and nothing speaks of it."""

    @property
    def text(self) -> str:
        return sentence(self.subject, self.motion)

    def pose_at(self, frame: int, *, fps: int) -> Pose:
        """The pose in a frame of the video that lies in this event."""
        index = frame - self.first_frame
        progress = index / max(1, self.num_frames - 1)
        return pose(self.motion, self.course, progress=progress, elapsed=index / fps)


@dataclass(frozen=True, slots=True)
class Story:
    """A video before it is drawn."""

    video_id: str
    split: Split
    item: int
    fps: int
    events: tuple[Event, ...]
    """In time order, without gaps."""
    paragraph: str

    @property
    def num_frames(self) -> int:
        return self.events[-1].first_frame + self.events[-1].num_frames

    def seconds(self, frame: int) -> float:
        """The time at which a frame begins."""
        return round(frame / self.fps, 6)

    def described(self) -> Iterator[tuple[Event, float, float]]:
        """The events that the annotations speak of, each with its start and end."""
        for event in self.events:
            if event.described:
                start, end = event.first_frame, event.first_frame + event.num_frames
                yield event, self.seconds(start), self.seconds(end)


_Scene = tuple[Subject, str]


def _random_scene(rng: np.random.Generator) -> _Scene:
    return random_subject(rng), MOTIONS[rng.integers(len(MOTIONS))]


def _similar_scene(scene: _Scene, rng: np.random.Generator) -> _Scene:
    """The scene with one attribute changed; the motion is one of them."""
    subject, motion = scene
    name = list(_CHOICES)[rng.integers(len(_CHOICES))]
    now = motion if name == "motion" else getattr(subject, name)
    others = [choice for choice in _CHOICES[name] if choice != now]
    other = others[rng.integers(len(others))]
    return (subject, other) if name == "motion" else (replace(subject, **{name: other}), motion)


def _described_scenes(params: ToyParams, rng: np.random.Generator) -> list[_Scene]:
    """The scenes of a video in order, all distinct but for one that may return later."""
    num_events = int(rng.integers(params.min_events, params.max_events + 1))
    # A return needs something between.
    returns = bool(rng.uniform() < params.return_rate) and num_events >= 3
    scenes: list[_Scene] = []
    while len(scenes) < num_events - returns:
        similar = bool(scenes) and rng.uniform() < params.similarity_rate
        scene = _similar_scene(scenes[-1], rng) if similar else _random_scene(rng)
        if scene not in scenes:
            scenes.append(scene)
    if returns:
        first = int(rng.integers(0, len(scenes) - 1))
        scenes.insert(int(rng.integers(first + 2, len(scenes) + 1)), scenes[first])
    return scenes


def _unrelated_scene(scenes: list[_Scene], rng: np.random.Generator) -> _Scene:
    """A scene whose subject shares neither color nor shape with any of the video."""
    colors, shapes = {subject.color for subject, _ in scenes}, {subject.shape for subject, _ in scenes}
    free_colors = [color for color in COLORS if color not in colors] or list(COLORS)
    free_shapes = [shape for shape in SHAPES if shape not in shapes] or list(SHAPES)
    while True:
        subject, motion = _random_scene(rng)
        subject = replace(
            subject,
            color=free_colors[rng.integers(len(free_colors))],
            shape=free_shapes[rng.integers(len(free_shapes))],
        )
        if subject not in {known for known, _ in scenes}:
            return subject, motion


def _random_lengths(num_spans: int, num_frames: int, *, fps: int, rng: np.random.Generator) -> list[int]:
    """Unequal lengths that fill the video, none shorter than 2 s (1 s or less where the video is short)."""
    shortest = min(2 * fps, num_frames // (2 * num_spans))
    free = num_frames - num_spans * shortest
    cuts = np.round(np.cumsum(rng.dirichlet(np.full(num_spans, 2.0)))[:-1] * free).astype(int)
    return [int(length) + shortest for length in np.diff([0, *cuts, free])]


def _told_scenes(scenes: list[_Scene], undescribed_rate: float, rng: np.random.Generator) -> list[_Scene]:
    """The scenes that the paragraph speaks of, in order: one at least."""
    told = rng.uniform(size=len(scenes)) >= undescribed_rate
    told[rng.integers(len(scenes))] = True
    return [scene for scene, is_told in zip(scenes, told, strict=True) if is_told]


def _tell(params: ToyParams, split: Split, item: int, attempt: int) -> Story:
    rng = np.random.default_rng([params.seed, SPLITS.index(split), item, attempt])
    num_frames = round(float(rng.uniform(params.min_duration, params.max_duration)) * params.fps)
    scenes = _described_scenes(params, rng)
    # Drawn apart, so that videos are the same however much is said of them.
    told_rng = np.random.default_rng([params.seed, SPLITS.index(split), item, attempt, 1])
    sentences = [sentence(*scene) for scene in _told_scenes(scenes, params.undescribed_rate, told_rng)]
    spans = [(scene, True) for scene in scenes]
    if rng.uniform() < params.distractor_rate:
        unrelated = _unrelated_scene(scenes, rng)
        spans.insert(int(rng.integers(0, len(spans) + 1)), (unrelated, False))
    if rng.uniform() < params.mismatch_rate:
        mismatch = sentence(*_unrelated_scene([scene for scene, _ in spans], rng))
        sentences.insert(int(rng.integers(0, len(sentences) + 1)), mismatch)
    lengths = _random_lengths(len(spans), num_frames, fps=params.fps, rng=rng)
    events, first_frame = [], 0
    for ((subject, motion), described), length in zip(spans, lengths, strict=True):
        events.append(Event(subject, motion, random_course(rng), first_frame, length, described))
        first_frame += length
    paragraph = " ".join(f"{text}." for text in sentences)
    return Story(f"{split}-{item:04d}", split, item, params.fps, tuple(events), paragraph)


def tell_stories(params: ToyParams, split: Split) -> list[Story]:
    """The videos of a split; no two have the same paragraph.

    Each depends on the seed, the split, its own number and those before it in the split, so that changing
    how many there are changes none of the others.
    """
    counts = {"train": params.num_train, "validation": params.num_validation, "test": params.num_test}
    stories, paragraphs = [], set()
    for item in range(counts[split]):
        attempt = 0
        story = _tell(params, split, item, attempt)
        while story.paragraph in paragraphs:
            attempt += 1
            story = _tell(params, split, item, attempt)
        paragraphs.add(story.paragraph)
        stories.append(story)
    return stories


def story_captions(story: Story, *, seed: int, narration_shift_s: float) -> list[Caption]:
    """The paragraph, and a dense caption for each described event.

    Args:
        story: the video.
        seed: of the shifts.
        narration_shift_s: a caption's start and end are moved together by up to this, either way, and cut off at the
            ends of the video; a second of the span stays in it, or all of a shorter one.
    """
    duration = story.seconds(story.num_frames)
    # Six numbers, where stories have four, what is told of them five, and ratings three: none depends on the shifts.
    rng = np.random.default_rng([seed, SPLITS.index(story.split), story.item, 0, 0, 1])
    captions = [Caption(f"{story.video_id}#000", story.video_id, story.paragraph, None, None)]
    for number, (event, start, end) in enumerate(story.described(), start=1):
        kept = min(1.0, end - start)
        shift = float(np.clip(rng.uniform(-narration_shift_s, narration_shift_s), kept - end, duration - kept - start))
        spoken = round(max(0.0, start + shift), 6), round(min(duration, end + shift), 6)
        captions.append(Caption(f"{story.video_id}#{number:03d}", story.video_id, event.text, *spoken))
    return captions


def story_actions(story: Story) -> list[Action]:
    """The motion of each described event."""
    return [Action(story.video_id, event.motion, start, end) for event, start, end in story.described()]


def story_moments(story: Story, *, seed: int, duration: float, clip_length_s: float) -> list[Moment]:
    """One query for each distinct sentence of the events, with the windows in which it is true.

    Args:
        story: the video.
        seed: of the annotators' disagreement.
        duration: seconds, as the video file states it.
        clip_length_s: length of the clips that are rated.
    """
    windows_of: dict[str, list[list[float]]] = {}
    events_of: dict[str, list[Event]] = {}
    for event, start, end in story.described():
        windows_of.setdefault(event.text, []).append([start, min(end, duration)])
        events_of.setdefault(event.text, []).append(event)
    rng = np.random.default_rng([seed, SPLITS.index(story.split), story.item])
    moments = []
    for number, (text, windows) in enumerate(windows_of.items()):
        clips = covered_clips(windows, duration=duration, clip_length_s=clip_length_s)
        merits = [
            clip_coverage(windows, clip, duration=duration, clip_length_s=clip_length_s)
            * (0.4 + 0.6 * _prominence(story, events_of[text], clip, clip_length_s=clip_length_s))
            for clip in clips
        ]
        moments.append(
            Moment(
                # By split and item: a query keeps its number when the dataset grows.
                qid=(SPLITS.index(story.split) + 1) * 10_000_000 + story.item * 100 + number,
                query=text,
                vid=story.video_id,
                duration=duration,
                relevant_windows=windows,
                relevant_clip_ids=clips,
                saliency_scores=_ratings(merits, rng),
            )
        )
    return moments


def _prominence(story: Story, events: list[Event], clip: int, *, clip_length_s: float) -> float:
    """How well a clip shows its event, 0 to 1: the subject's scale, up to 1, averaged over the frames."""
    shown = []
    for event in events:
        first = max(event.first_frame, round(clip * clip_length_s * story.fps))
        beyond = min(event.first_frame + event.num_frames, round((clip + 1) * clip_length_s * story.fps))
        for frame in range(first, beyond):
            now = event.pose_at(frame, fps=story.fps)
            shown.append(min(1.0, now.scale) if now.visible else 0.0)
    return float(np.mean(shown)) if shown else 0.0


def _ratings(merits: list[float], rng: np.random.Generator) -> list[list[int]]:
    """Ratings of each clip by annotators who differ in strictness and slip now and then."""
    strictness = rng.normal(0, 0.3, size=NUM_ANNOTATORS)
    slips = rng.normal(0, 0.5, size=(len(merits), NUM_ANNOTATORS))
    scores = 4 * np.asarray(merits)[:, None] - strictness + slips
    return [[int(score) for score in row] for row in np.clip(np.rint(scores), 0, 4)]
