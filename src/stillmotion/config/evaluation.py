"""Params of moment selection, evaluation, measurement and the report."""

from typing import Annotated, Literal

from pydantic import Field

from stillmotion.config.section import Count, Fraction, NotNegative, Positive, Section, Seed

Method = Literal["vc1", "vc1_beta", "vc2"]
PostProcessing = Literal["none", "norm", "adjust_norm", "log_smooth_norm"]
Detector = Literal["content", "adaptive"]


class SelectionParams(Section):
    """A method of moment selection."""

    method: Method
    """`vc1_beta` is VC1 with its second threshold, β, searched beside λ. A top window stays where any window does, so
    that β changes R1 only where none is above it: it is for selected frames, and for mAP."""
    post_processing: PostProcessing
    least_cosine: Annotated[float, Field(gt=0, lt=1)]
    """What `log_smooth_norm` raises lower cosines to before the logarithm: 1e-6 for models such as CLIP, whose
    cosines are all above zero."""
    objective: Literal["R1@0.5", "frame_AP@0.5"]
    """What its thresholds are searched for: the windows, or the selected frames."""


class OptimiseThresholdsParams(Section):
    """The search of thresholds, on the train split."""

    trials: Count
    sensitivity_points: Count
    """Values of each parameter, the others at their best, at which the objective is taken again."""
    seed: Seed


class EvaluateParams(Section):
    """What every evaluation needs."""

    bootstrap_samples: Count
    seed: Seed


class EvaluateRetrievalParams(EvaluateParams):
    """Retrieval metrics."""

    ties: Literal["average", "optimistic", "pessimistic"]


class EvaluateMomentsParams(EvaluateParams):
    """Moment retrieval metrics."""

    num_examples: Count
    """Queries, from the best to the worst, whose curves are kept for the report."""


class ShotDetectorParams(Section):
    """Shots of the videos themselves, found by PySceneDetect: proposals of a training-free baseline."""

    detector: Detector
    """ContentDetector or AdaptiveDetector."""
    threshold: Positive
    min_shot_s: NotNegative
    """No shot is shorter."""


class EvaluateReferencesParams(Section):
    """Reference systems of moment retrieval."""

    num_windows: Annotated[int, Field(ge=1, le=10)]
    """Windows a query; the official metrics look at ten."""
    seed: Seed


class AssessBackboneParams(Section):
    """How well a model's frames tell a query's moments from the rest: VC1 with `norm`."""

    split: Literal["train", "validation", "test"]
    thresholds: Annotated[list[Fraction], Field(min_length=1)]


class EvaluateActionsParams(EvaluateParams):
    """Action recognition metrics."""


class MeasureResourcesParams(Section):
    """Cost of a training step."""

    batch_size: Count
    num_frames: Count
    repeats: Count


class MeasureArchitecturesParams(Section):
    """Cost of a training step of full-size architectures with random weights."""

    batch_size: Count
    num_tokens: Count
    keep_rates: Annotated[list[Annotated[float, Field(gt=0, le=1)]], Field(min_length=1)]
    frozen_blocks: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    timed_batch_size: Count
    """Clips of the passes that are run, where the others are counted alone; X-CLIP's are not run."""
    timed_repeats: Count
    """Passes, whose median is taken."""


class ShowAttentionParams(Section):
    """What fine-tuned models attend to in some test videos."""

    num_examples: Count
    """Captions of the test split: the middle ones of equal parts of the list by caption_id."""
    tau: Positive
    """Sharpness τ of Mug, as scorers have it."""


class ReportParams(EvaluateParams):
    """The results page."""

    num_examples: Count
