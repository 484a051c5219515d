"""Params of videos, annotations and stored frames."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from stillmotion.config.bounds import LEAST_CLIP_LENGTH_S
from stillmotion.config.section import Count, Fraction, Name, NotNegative, Positive, Section, Seed


class ToyParams(Section):
    """A generated dataset; data/sources/toy/README.md says what each ingredient is for."""

    seed: Seed
    num_train: Count
    num_validation: Count
    num_test: Count
    size_px: Count
    fps: Count
    min_duration: Positive
    max_duration: Positive
    min_events: Count
    max_events: Count
    distractor_rate: Fraction
    """Share of videos with a span that no caption speaks of."""
    return_rate: Fraction
    """Share of videos in which an event comes back later: one query, two windows."""
    mismatch_rate: Fraction
    """Share of paragraphs with a sentence that matches nothing in the video."""
    similarity_rate: Fraction
    """Chance that an event is the one before it but for one attribute, which may be the motion."""
    undescribed_rate: Fraction
    """Chance that a paragraph leaves an event out; one stays, and dense captions and queries speak of all."""
    narration_shift_s: NotNegative
    """Seconds by which a dense caption's times may differ from its event's, as where narration comes early or late."""

    @model_validator(mode="after")
    def _ranges_are_ranges(self) -> "ToyParams":
        if self.max_duration < self.min_duration:
            raise ValueError("max_duration is below min_duration; swap them")
        if self.max_events < self.min_events:
            raise ValueError("max_events is below min_events; swap them")
        if self.min_duration < self.max_events + 1:
            raise ValueError("min_duration leaves an event less than a second; raise it to max_events + 1")
        if self.size_px % 2:
            raise ValueError("size_px must be even: H.264 stores color for blocks of 2 x 2 pixels")
        return self


class FolderParams(Section):
    """Datasets under data/sources/ that come without a split column."""

    validation_fraction: Fraction
    test_fraction: Fraction

    @model_validator(mode="after")
    def _fractions_are_of_one_whole(self) -> "FolderParams":
        if self.validation_fraction + self.test_fraction > 1:
            raise ValueError("validation_fraction and test_fraction add up to more than 1; lower one")
        return self


class BenchmarksParams(Section):
    """Public benchmarks whose annotation files lie in data/sources/<name>."""

    validation_fraction: Annotated[float, Field(ge=0, lt=1)]
    """Share of the train videos that choose models, where the benchmark names none for that."""
    activitynet_test: Literal["val_1", "val_2"]
    """Which validation file of ActivityNet Captions is the test split; the other one is not used."""


class DownloadParams(Section):
    """Sources of videos."""

    generated: dict[Name, ToyParams]
    """By the dataset's name, which needs a folder under data/sources/ too."""
    folder: FolderParams
    benchmarks: BenchmarksParams


class SampleFramesParams(Section):
    """Which frames are kept, and how large."""

    size_px: Count
    """Height and width of a stored frame; at least what each backbone takes."""
    geometry: Literal["crop", "squash"]
    """`crop`: shortest side to size_px, centre crop, as CLIP does; `squash`: both sides to size_px."""
    num_uniform: Count
    """Frames over the whole video, the middle of equal segments."""
    clip_length_s: Annotated[float, Field(ge=LEAST_CLIP_LENGTH_S)]
    """Length of the clips of moment retrieval: one frame is kept for each."""
    clip_position: Literal["start", "middle"]
    """Where in its clip that frame lies."""
    format: Literal["raw", "jpeg"]
    """How frames are stored: `raw`, or in a seventh of the room as JPEGs of quality 95 (4:4:4)."""
    max_skip_fraction: Fraction
    """The run fails when more than this share of the dataset's videos can't be decoded."""
