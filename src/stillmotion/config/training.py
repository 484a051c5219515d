"""Params of what is trained: fine-tuning, aggregators, probes."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from stillmotion.config.section import Batch, Count, Fraction, NotNegative, Positive, Section, Seed


class RecipeParams(Section):
    """Fine-tuning: contrastive, or for recognition."""

    captions: Literal["paragraph", "dense", "both", "class_names"]
    """Pairs to train on: whole videos, captioned spans, or both; or for recognition labelled spans, whose texts are
    class names in embed.class_template."""
    num_frames: Count
    """Frames a video or span, one from each of as many equal segments."""
    epochs: Count
    batch_size: Count
    """Pairs that one step contrasts, or labelled spans that it tells apart."""
    micro_batch_size: Count
    """Pairs embedded at once: less needs less memory, and gives the same gradients but for rounding."""
    precision: Literal["fp32", "bf16"]
    optimizer: Literal["adamw", "sgd"]
    """SGD has a momentum of 0.9."""
    learning_rate: Positive
    branch_learning_rate_factor: Positive
    """What a STAN branch or a head of CLIP4Clip trains at, as a multiple of learning_rate."""
    weight_decay: NotNegative
    warmup_fraction: Fraction
    gradient_clip: Positive
    gradient_checkpointing: bool
    """Layers of a STAN branch are computed again for their gradients: less memory, more time."""
    similarity: Literal["cosine", "mug", "mug_cosine"]
    """What the loss compares: a video's and a text's vectors, or their frames and tokens by Mug, as the product of the
    guided embeddings (the source) or as their cosine. With `cosine` a CLIP4Clip's tight transformer is trained by its
    own scores."""
    tau: Positive
    """τ of Mug, as scorers have it."""
    loss_temperature: Annotated[float, Field(ge=0.01)] | Literal["learned"]
    """What scores are divided by in the loss, for good: 0.01 to 0.05 in the releases of Mug-STAN; or `learned` on from
    the model's own."""
    freeze_texts: bool
    """The whole text tower stays as it is, as for recognition with class names as texts."""
    freeze_embeddings: bool
    """Patch, class, position and token embeddings stay as they are."""
    frozen_blocks: Annotated[int, Field(ge=0)]
    """The first blocks of both towers stay as they are; more than 0 implies frozen embeddings."""
    patch_keep_rate: Annotated[float, Field(gt=0, le=1)]
    patch_sampling: Literal["tubelet", "per_frame"]

    @model_validator(mode="after")
    def _frozen_blocks_rest_on_frozen_embeddings(self) -> "RecipeParams":
        if self.frozen_blocks and not self.freeze_embeddings:
            raise ValueError("frozen_blocks above 0 needs freeze_embeddings: true")
        return self

    @model_validator(mode="after")
    def _class_names_are_compared_by_cosine(self) -> "RecipeParams":
        if self.captions == "class_names" and self.similarity != "cosine":
            raise ValueError("captions: class_names needs similarity: cosine; set it, or other captions")
        return self


class LoraParams(Section):
    """Low-rank adapters beside the linear layers that are trained (Hu et al. 2021)."""

    rank: Count
    alpha: Positive
    """What an adapter adds is multiplied by alpha / rank."""
    dropout: Annotated[float, Field(ge=0, lt=1)]
    """Share of an adapter's inputs that a step leaves out, the same ones for all its pairs."""
    targets: Annotated[list[str], Field(min_length=1)]
    """How the names of the adapted layers end: q_proj, v_proj, fc1, fc2 in transformers; c_fc, c_proj, in_proj_weight
    (query, key and value in one) in open_clip. A layer that is frozen gets none."""


class LoraRecipeParams(RecipeParams):
    """A recipe that trains adapters, and saves those alone."""

    lora: LoraParams


def _is_lora(block: Any) -> str:
    return "lora" if isinstance(block, LoraRecipeParams) or (isinstance(block, dict) and "lora" in block) else "whole"


AnyRecipeParams = Annotated[
    Annotated[RecipeParams, Tag("whole")] | Annotated[LoraRecipeParams, Tag("lora")], Discriminator(_is_lora)
]


class SeededRecipe(RecipeParams):
    """A recipe, and what the order of the pairs, the frames and the patches is drawn from."""

    seed: Seed


class SeededLoraRecipe(SeededRecipe, LoraRecipeParams):
    """A recipe of adapters, whose first values are drawn too."""


def seeded_recipe(**values: Any) -> SeededRecipe:
    """A recipe with its seed, of the kind that it is."""
    return SeededLoraRecipe(**values) if "lora" in values else SeededRecipe(**values)


def _each_once(numbers: list[int]) -> list[int]:
    if len(set(numbers)) < len(numbers):
        raise ValueError("a number stands there twice, and would count twice in means and deviations; name each once")
    return numbers


class TrainAggregatorParams(Section):
    """Training of the aggregators over frozen embeddings."""

    epochs: Count
    batch_size: Batch
    learning_rate: Positive
    weight_decay: NotNegative
    warmup_fraction: Fraction
    gradient_clip: Positive
    seeds: Annotated[list[Seed], Field(min_length=1), AfterValidator(_each_once)]


class LinearProbeParams(Section):
    """Few-shot logistic regression."""

    shots: Annotated[list[Count], Field(min_length=1), AfterValidator(_each_once)]
    num_c: Count
    """Values of C between min_c and max_c."""
    min_c: Positive
    max_c: Positive
    spacing: Literal["log", "linear"]
    seeds: Annotated[list[Seed], Field(min_length=1), AfterValidator(_each_once)]

    @model_validator(mode="after")
    def _c_range_is_a_range(self) -> "LinearProbeParams":
        if self.max_c < self.min_c:
            raise ValueError("max_c is below min_c; swap them")
        return self
