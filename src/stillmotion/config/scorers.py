"""How texts and videos are scored in retrieval: a kind of scorer is a class here, and a module of retrieval/."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from stillmotion.config.section import Count, Positive, Section


class MeanParams(Section):
    """The mean of a video's clips, which has nothing to train."""

    needs: ClassVar[tuple[str, ...]] = ()
    """Params of `embed` that must be on."""
    kind: Literal["mean"]


class TrainedParams(Section):
    """An aggregator of a video's clips that stage train_aggregator trains; its class is in retrieval/aggregators.py."""

    needs: ClassVar[tuple[str, ...]] = ()
    kind: str


class TransformerParams(TrainedParams):
    """An encoder block over a video's clips: its mean, or its class token."""

    kind: Literal["transformer_mean", "class_token"]
    heads: Count
    mlp_ratio: Positive


class InteractionParams(Section):
    """How the tokens of a text and the frames of a video become one score."""

    needs: ClassVar[tuple[str, ...]] = ("tokens",)
    kind: Literal["interaction"]
    interaction: Literal[
        "mutual", "mutual_cosine", "simple", "frame_text", "video_token", "hard_top_k", "ti", "mean_pooling"
    ]
    """As in stillmotion/retrieval/mug.py."""
    tau: Positive
    """Sharpness τ of the softmaxes over tokens and frames: 100 in the source."""
    top_k: Count
    """For `hard_top_k`."""
    dual_softmax: bool
    """Scores are weighed by the softmax over all queries: it knows the whole test set."""


class ConditionalParams(Section):
    """X-CLIP's texts that depend on the video, as a second look at the best videos."""

    needs: ClassVar[tuple[str, ...]] = ("contexts",)
    kind: Literal["conditional"]
    top_k: Count
    """Videos of each text, and texts of each video, that are scored again."""


class OwnParams(Section):
    """The scores that the model was trained by: those of CLIP4Clip's tight transformer."""

    needs: ClassVar[tuple[str, ...]] = ("tokens",)
    kind: Literal["own"]


ScorerParams = Annotated[
    MeanParams | TransformerParams | InteractionParams | ConditionalParams | OwnParams, Field(discriminator="kind")
]
AggregatorParams = MeanParams | TrainedParams
