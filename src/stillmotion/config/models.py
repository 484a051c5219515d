"""Params of backbones, what expands them, and what they embed."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from stillmotion.config.section import Count, Fraction, NotNegative, Positive, Section, Seed
from stillmotion.config.video_llms import (
    VideoLLMArchitectureParams,
    VideoLLMBackboneParams,
    VideoLLMLayerParams,
    VideoLLMSettings,
)


class BuiltinBackboneParams(Section):
    """The small CLIP that the DAG trains itself, on drawn single frames."""

    sees_clips_whole: ClassVar = False
    """Whether the model looks at the frames of a clip together, and at one by itself only where it is asked to."""
    family: Literal["builtin"]
    image_size_px: Count
    patch_size_px: Count
    width: Count
    layers: Count
    text_layers: Count
    heads: Count
    embed_dim: Count
    steps: Count
    batch_size: Count
    learning_rate: Positive
    weight_decay: NotNegative
    warmup_fraction: Fraction
    max_sentences: Count
    """A training caption has up to this many sentences, one of which describes the image."""
    seed: Seed

    @model_validator(mode="after")
    def _sizes_divide(self) -> "BuiltinBackboneParams":
        if self.width % self.heads:
            raise ValueError(f"heads must divide width; {self.heads} does not divide {self.width}")
        if self.image_size_px % self.patch_size_px:
            raise ValueError(
                f"patch_size_px must divide image_size_px; {self.patch_size_px} does not divide {self.image_size_px}"
            )
        return self


class OpenClipBackboneParams(Section):
    """Any model of open_clip."""

    sees_clips_whole: ClassVar = False
    family: Literal["open_clip"]
    architecture: str
    """open_clip's model name, such as ViT-B-32."""
    pretrained: str
    """open_clip's pretrained tag; `file`: the file data/weights/<backbone>.safetensors or .pt;
    `random`: initial weights from `seed`, for measuring and testing."""
    revision: str
    """Commit, branch or tag of the hub repository that holds the weights."""
    seed: Seed


class XClipBackboneParams(Section):
    """An X-CLIP in the layout of transformers."""

    sees_clips_whole: ClassVar = True
    family: Literal["xclip"]
    checkpoint: str
    """Hub id such as microsoft/xclip-base-patch32, or `folder`: data/weights/<backbone>/ in the hub's layout."""
    revision: str
    """Commit, branch or tag of the hub repository."""
    max_tokens: Count
    """A text is cut to this many tokens, at most the checkpoint's context."""


BackboneParams = Annotated[
    BuiltinBackboneParams | OpenClipBackboneParams | XClipBackboneParams | VideoLLMBackboneParams,
    Field(discriminator="family"),
]


class XClipExpansionParams(Section):
    """X-CLIP's modules around a CLIP of open_clip, so that they change nothing before they are trained."""

    family: Literal["xclip"]
    num_frames: Count
    """Frames a clip; the model takes no other number."""
    integration_layers: Count
    """Layers of the transformer over the frames of a clip."""
    prompt_layers: Count
    """Layers of the decoder that makes a text depend on the video."""
    max_tokens: Count
    seed: Seed


class StanExpansionParams(Section):
    """A STAN branch beside the vision tower of an open_clip model (Liu et al. 2023, section III)."""

    family: Literal["stan"]
    num_layers: Count
    """K: 4; 6 for motions that differ little."""
    skipped_layers: Annotated[int, Field(ge=0)]
    """The branch's last layer reads this many layers below the top of the tower."""
    interval: Count
    """Layers of the tower between two that the branch reads."""
    structure: Literal["branch", "last_level_branch", "posterior"]
    """Beside the tower on several of its levels, beside it on the last one alone, or behind it."""
    temporal: Literal["self_attention", "conv", "joint"]
    """What looks along time; `joint` looks over space and time at once."""
    inter_proj: Literal["linear", "none"]
    """What a level of the tower passes before it is added."""
    class_token: Literal["clip", "frame"]
    """What has a class token in the branch: the clip, as in the source, or each frame."""
    class_token_mean: Literal["after_attention", "after_mlp"]
    """Where a layer makes one class token of the frames': before the MLP, as in the source, or after it."""
    max_frames: Count
    """Rows of the time table: no clip may have more frames."""
    context_frames: Count
    """Stored frames are embedded in runs of this many."""
    drop_path: Annotated[float, Field(ge=0, lt=1)]
    """Of the last layer; it rises linearly from 0 at the first."""
    seed: Seed

    @model_validator(mode="after")
    def _contexts_fit(self) -> "StanExpansionParams":
        if self.context_frames > self.max_frames:
            raise ValueError(f"context_frames must be at most max_frames, {self.max_frames}")
        return self

    @model_validator(mode="after")
    def _classes_fit(self) -> "StanExpansionParams":
        if self.temporal == "joint" and self.class_token == "frame":
            raise ValueError("class_token must be clip with temporal: joint")
        return self


class Clip4ClipExpansionParams(Section):
    """A head of CLIP4Clip over the frames of a clip, behind an open_clip model (Luo et al. 2021, section 3.3)."""

    family: Literal["clip4clip"]
    head: Literal["mean_pooling", "seq_lstm", "seq_transf", "tight_transformer"]
    """`mean_pooling` is the image model as it is; `tight_transformer` scores pairs, which the scorer `own` ranks by."""
    num_layers: Annotated[int, Field(ge=0)]
    """Of the transformers, copied from the first ones of the text tower: 4 in the source. The others have none."""
    seed: Seed

    @model_validator(mode="after")
    def _only_transformers_have_layers(self) -> "Clip4ClipExpansionParams":
        if self.num_layers and self.head not in ("seq_transf", "tight_transformer"):
            raise ValueError(f"num_layers must be 0: {self.head} has no layers to copy")
        return self


class BuiltinVideoLLMParams(VideoLLMSettings):
    """A small language model behind the frames of an open_clip model, with initial weights: finetune trains it."""

    family: Literal["builtin_video_llm"]
    width: Count
    """D."""
    blocks: Count
    """L."""
    heads: Count
    mlp_width: Count
    seed: Seed

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> "BuiltinVideoLLMParams":
        if self.width % (2 * self.heads):
            raise ValueError(f"heads must divide half of the width, {self.width}; {self.heads} does not")
        return self


ExpansionParams = Annotated[
    XClipExpansionParams | StanExpansionParams | Clip4ClipExpansionParams | VideoLLMLayerParams | BuiltinVideoLLMParams,
    Field(discriminator="family"),
]


class XClipArchitectureParams(Section):
    """A published X-CLIP configuration: that of transformers' XCLIPConfig but for these."""

    family: Literal["xclip"]
    patch_size_px: Count
    num_frames: Count


class ClipArchitectureParams(Section):
    """A CLIP of open_clip on the frames of a clip, each by itself."""

    family: Literal["clip"]
    architecture: str
    """open_clip's model name, such as ViT-B-32."""
    num_frames: Count


class StanArchitectureParams(StanExpansionParams):
    """A CLIP of open_clip with a STAN branch, whose settings are those of an expansion."""

    architecture: str
    """open_clip's model name, such as ViT-B-32."""
    num_frames: Count

    @model_validator(mode="after")
    def _frames_fit(self) -> "StanArchitectureParams":
        if self.num_frames > self.max_frames:
            raise ValueError(f"num_frames must be at most max_frames, {self.max_frames}")
        return self


ArchitectureParams = Annotated[
    XClipArchitectureParams | ClipArchitectureParams | StanArchitectureParams | VideoLLMArchitectureParams,
    Field(discriminator="family"),
]


class EmbedParams(Section):
    """What is embedded."""

    splits: list[Literal["train", "validation", "test"]]
    """Videos of these splits, and their texts: aggregators, probes and thresholds need `train`, and the choice of an
    aggregator's epoch or a probe's C `validation`. A text is the same whatever is embedded beside it but for rounding,
    as it shares its batch with others."""
    clip_frames: Count
    """Frames a clip or labelled span, for models that take single frames; video models have their own number."""
    clip_counts: Annotated[list[Count], Field(min_length=1)]
    """How many clips stand for a video: each count is embedded, and aggregated, by itself; rising."""
    span_views: Count
    """Temporal views of a labelled span, whose mean is its embedding; there are no spatial ones, as no crops are
    stored."""
    spans: bool
    """Embed labelled spans, which probes are fitted to and actions are named for."""
    single_frames: bool
    """Embed each stored frame by itself too, for moment retrieval and its assessment. Image models, whose clips are
    means of frames, have them anyway."""
    tokens: bool
    """Keep the frames of each video's one clip, and the tokens of its captions, for interactions and `own` scores;
    X-CLIPs have none."""
    contexts: bool
    """Keep what X-CLIP's conditional texts need of a video: patches × dimensions."""
    class_template: str
    """The text for a class name, with one `{}`."""
    gpu_precision: Literal["bf16", "fp16", "fp32"]
    """Autocast on a GPU; on a CPU it is always fp32."""

    @model_validator(mode="after")
    def _test_is_embedded(self) -> "EmbedParams":
        if "test" not in self.splits:
            raise ValueError("splits must hold test, which is what is evaluated")
        if len(set(self.splits)) < len(self.splits):
            raise ValueError("splits names a split twice; name each once")
        return self

    @model_validator(mode="after")
    def _clip_counts_rise(self) -> "EmbedParams":
        if sorted(set(self.clip_counts)) != self.clip_counts:
            raise ValueError("clip_counts must rise, without a number twice; sort them")
        return self

    @model_validator(mode="after")
    def _template_has_one_slot(self) -> "EmbedParams":
        if self.class_template.count("{}") != 1:
            raise ValueError("class_template must hold {} once, where the class name goes")
        return self
