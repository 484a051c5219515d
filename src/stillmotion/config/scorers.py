"""How texts and videos are scored in retrieval: a kind of scorer is a class here, and a module of retrieval/."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from stillmotion.config.section import Count, Positive, Section
from stillmotion.config.video_llms import LayerName, Pooling


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


class PooledStatesParams(Section):
    """What a video LLM's layer makes of videos and texts, pooled over their tokens."""

    needs: ClassVar[tuple[str, ...]] = ()
    layer: LayerName
    video_pooling: Pooling
    text_pooling: Pooling


class HiddenStatesParams(PooledStatesParams):
    """Their cosines."""

    kind: Literal["hidden_states"]


class BestLayerParams(Section):
    """Such cosines, by the layer and the poolings that are best on the validation split, of all that are kept."""

    needs: ClassVar[tuple[str, ...]] = ()
    kind: Literal["best_layer"]


class RerankParams(PooledStatesParams):
    """Their cosines, and for the best pairs what a video LLM answers when it is asked whether they fit."""

    kind: Literal["rerank"]
    top_k: Count
    """Videos of each text, and texts of each video, that are asked of."""
    prompt: str
    """The question; `{video}` and `{text}` are their places."""
    yes: Annotated[list[str], Field(min_length=1)]
    """Words of one token that say so: the score is the logarithm of their probability …"""
    no: list[str]
    """… against that of these words, or of all there are where none is here."""
    batch_size: Count
    """Pairs that are asked of at once: it changes rounding alone."""

    @model_validator(mode="after")
    def _prompt_has_its_places(self) -> "RerankParams":
        for place in ("{video}", "{text}"):
            if self.prompt.count(place) != 1:
                raise ValueError(f"prompt is {self.prompt!r} and must hold {place} once; put it where it goes")
        return self


class HeadParams(Section):
    """A network over a video LLM's hidden states that is trained to align videos and texts."""

    needs: ClassVar[tuple[str, ...]] = ()
    kind: str
    layer: LayerName
    towers: Literal["shared", "separate"]
    """One network for videos and texts, or one for each."""
    dropout: Annotated[float, Field(ge=0, lt=1)]
    loss: Literal["mse", "contrastive", "infonce"]
    """On labelled pairs the squared error of the cosine to 1 or 0, or 1 less the cosine and what it has above the
    margin; or the contrast of the pairs of a batch, whose temperature is learned."""
    margin: Annotated[float, Field(ge=-1, lt=1)]
    """Of `contrastive`; a cosine below it is far enough."""
    positives: Count
    """Captions of its own that a video is paired with; one with fewer is paired again, but for `infonce`."""
    negatives: Annotated[int, Field(ge=0)]
    """Captions of other videos that a video is paired with: as many as positives, but none for `infonce`."""
    redraw: bool
    """Other videos' captions are drawn anew in each epoch; or once."""
    precision: Literal["float32", "float64"]
    epochs: Count
    batch_size: Count
    """Pairs a step."""
    learning_rate: Positive
    schedule: Literal["constant", "one_cycle"]

    @model_validator(mode="after")
    def _pairs_fit_the_loss(self) -> "HeadParams":
        if (self.loss == "infonce") != (self.negatives == 0):
            raise ValueError("negatives must be 0 with loss: infonce, whose batch has them, and more with another loss")
        if self.loss == "infonce" and self.batch_size < 2:
            raise ValueError("batch_size must be 2 or more with loss: infonce, which tells the pairs of a batch apart")
        return self


class MlpHeadParams(HeadParams):
    """Linear layers with ReLU, layer norm and dropout over pooled states, and a linear one behind them."""

    kind: Literal["mlp_head"]
    video_pooling: Pooling
    text_pooling: Pooling
    inputs: Literal["raw", "standardised"]
    """As the model has them; or less the mean and divided by the deviation of each dimension over the train split."""
    hidden: Annotated[list[Count], Field(min_length=1)]
    """Width of each of the layers."""


class TransformerHeadParams(HeadParams):
    """An encoder over a class token and the states of all tokens, which the model has to keep."""

    kind: Literal["transformer_head"]
    blocks: Count
    heads: Count
    mlp_width: Count


ScorerParams = Annotated[
    MeanParams
    | TransformerParams
    | InteractionParams
    | ConditionalParams
    | OwnParams
    | HiddenStatesParams
    | BestLayerParams
    | RerankParams
    | MlpHeadParams
    | TransformerHeadParams,
    Field(discriminator="kind"),
]
AggregatorParams = MeanParams | TrainedParams
