"""params.yaml as frozen, typed models: every value is named here, and none has a default.

A stage script calls `load_params()` once and reads attributes of the result (`params.embed.clip_frames`);
a test holds these reads to the `params:` that dvc.yaml declares for the stage. The comments in params.yaml
say what to expect of a value, the docstrings here what it means.
"""

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import ruamel.yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from stillmotion.errors import InputError

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.]*$")]
"""The name of a backbone, recipe or head: it becomes part of a path, and `-` joins two of them."""


class Section(BaseModel):
    """A block of params.yaml: frozen, with no unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class RunParams(Section):
    """Which of the named variants the DAG runs: the lists that dvc.yaml's matrices go over."""

    backbones: list[Name]
    """Keys of `backbones`: fetched or trained."""
    expanded: list[Name]
    """Backbones to which each of `expansions` gives what makes them video models."""
    expansions: list[Name]
    """Keys of `expansions`; the model is called `<backbone>_<expansion>`."""
    embedded: list[Name]
    """What is embedded as it is: backbones, and expanded ones."""
    finetuned: list[Name]
    """Of these, the ones that each recipe fine-tunes."""
    recipes: list[Name]
    """Keys of `recipes`."""
    models: list[str]
    """What is evaluated: one of `embedded`, or `<one of finetuned>-<recipe>`."""
    aggregators: list[Name]
    """Keys of `aggregators`."""
    conditional: list[str]
    """Of `models`, the X-CLIPs that are also scored with texts that depend on the video."""
    selections: list[Name]
    """Keys of `selections`."""
    architectures: list[Name]
    """Keys of `architectures`, whose cost is measured at full size."""


class ToyParams(Section):
    """The generated dataset; data/sources/toy/README.md says what each ingredient is for."""

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

    toy: ToyParams
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
    clip_length_s: Positive
    """Length of the clips of moment retrieval: one frame is kept for each."""
    clip_position: Literal["start", "middle"]
    """Where in its clip that frame lies."""
    max_skip_fraction: Fraction
    """The run fails when more than this share of a split can't be decoded."""


class BuiltinBackboneParams(Section):
    """The small CLIP that the DAG trains itself, on drawn single frames."""

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

    family: Literal["xclip"]
    checkpoint: str
    """Hub id such as microsoft/xclip-base-patch32, or `folder`: data/weights/<backbone>/ in the hub's layout."""
    revision: str
    """Commit, branch or tag of the hub repository."""
    max_tokens: Count
    """A text is cut to this many tokens, at most the checkpoint's context."""


BackboneParams = Annotated[
    BuiltinBackboneParams | OpenClipBackboneParams | XClipBackboneParams, Field(discriminator="family")
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


ExpansionParams = XClipExpansionParams


class ArchitectureParams(Section):
    """A published X-CLIP configuration: that of transformers' XCLIPConfig but for these."""

    patch_size_px: Count
    num_frames: Count


class MeasureArchitecturesParams(Section):
    """Cost of a training step of full-size architectures with random weights."""

    batch_size: Count
    num_tokens: Count
    keep_rates: Annotated[list[Annotated[float, Field(gt=0, le=1)]], Field(min_length=1)]
    frozen_blocks: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]


class EmbedParams(Section):
    """What is embedded."""

    clip_frames: Count
    """Frames a clip or labelled span, for models that take single frames; video models have their own number."""
    clip_counts: Annotated[list[Count], Field(min_length=1)]
    """How many clips stand for a video: each count is embedded, and aggregated, by itself; rising."""
    contexts: bool
    """Keep what X-CLIP's conditional texts need of a video: patches × dimensions."""
    class_template: str
    """The text for a class name, with one `{}`."""
    gpu_precision: Literal["bf16", "fp16", "fp32"]
    """Autocast on a GPU; on a CPU it is always fp32."""

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


class RecipeParams(Section):
    """Contrastive fine-tuning."""

    captions: Literal["paragraph", "dense", "both"]
    """Pairs to train on: whole videos, captioned spans, or both."""
    num_frames: Count
    """Frames a video or span, one from each of as many equal segments."""
    epochs: Count
    batch_size: Count
    """Pairs that one step contrasts."""
    micro_batch_size: Count
    """Pairs embedded at once: less needs less memory, and gives the same gradients but for rounding."""
    precision: Literal["fp32", "bf16"]
    optimizer: Literal["adamw", "sgd"]
    """SGD has a momentum of 0.9."""
    learning_rate: Positive
    weight_decay: NotNegative
    warmup_fraction: Fraction
    gradient_clip: Positive
    freeze_embeddings: bool
    """Patch, class, position and token embeddings stay as they are."""
    frozen_blocks: Annotated[int, Field(ge=0)]
    """The first blocks of both towers stay as they are; more than 0 implies frozen embeddings."""
    patch_keep_rate: Annotated[float, Field(gt=0, le=1)]
    patch_sampling: Literal["tubelet", "per_frame"]
    seed: Seed

    @model_validator(mode="after")
    def _frozen_blocks_rest_on_frozen_embeddings(self) -> "RecipeParams":
        if self.frozen_blocks and not self.freeze_embeddings:
            raise ValueError("frozen_blocks above 0 needs freeze_embeddings: true")
        return self


class AggregatorParams(Section):
    """How clip embeddings become one video embedding."""

    kind: Literal["mean", "transformer_mean", "class_token"]
    heads: Count
    mlp_ratio: Positive


class TrainAggregatorParams(Section):
    """Training of the aggregators over frozen embeddings."""

    epochs: Count
    batch_size: Count
    learning_rate: Positive
    weight_decay: NotNegative
    warmup_fraction: Fraction
    gradient_clip: Positive
    seeds: Annotated[list[Seed], Field(min_length=1)]


class SelectionParams(Section):
    """A method of moment selection."""

    method: Literal["vc1", "vc2"]
    post_processing: Literal["none", "norm", "adjust_norm", "log_smooth_norm"]
    least_cosine: Annotated[float, Field(gt=0, lt=1)]
    """What `log_smooth_norm` raises lower cosines to before the logarithm: 1e-6 for models such as CLIP, whose
    cosines are all above zero."""


class OptimiseThresholdsParams(Section):
    """The search of thresholds, on the train split."""

    objective: Literal["R1@0.5", "frame_AP@0.5"]
    trials: Count
    seed: Seed


class LinearProbeParams(Section):
    """Few-shot logistic regression."""

    shots: Annotated[list[Count], Field(min_length=1)]
    num_c: Count
    """Values of C between min_c and max_c."""
    min_c: Positive
    max_c: Positive
    spacing: Literal["log", "linear"]
    seeds: Annotated[list[Seed], Field(min_length=1)]

    @model_validator(mode="after")
    def _c_range_is_a_range(self) -> "LinearProbeParams":
        if self.max_c < self.min_c:
            raise ValueError("max_c is below min_c; swap them")
        return self


class EvaluateParams(Section):
    """What every evaluation needs."""

    bootstrap_samples: Count
    seed: Seed


class EvaluateRetrievalParams(EvaluateParams):
    """Retrieval metrics."""

    ties: Literal["average", "optimistic", "pessimistic"]


class EvaluateMomentsParams(EvaluateParams):
    """Moment retrieval metrics."""


class EvaluateActionsParams(EvaluateParams):
    """Action recognition metrics."""


class EvaluateConditionalParams(EvaluateParams):
    """X-CLIP's texts that depend on the video, as a second look at the best videos."""

    ties: Literal["average", "optimistic", "pessimistic"]
    top_k: Count
    """Videos of each text, and texts of each video, that are scored again."""


class MeasureResourcesParams(Section):
    """Cost of a training step."""

    batch_size: Count
    num_frames: Count
    repeats: Count


class ReportParams(EvaluateParams):
    """The results page."""

    num_examples: Count


class Variants(dict[str, Any]):
    """The blocks of a section such as `backbones`, by name; a name that is not there is the user's mistake."""

    def __init__(self, section: str, blocks: dict[str, Any]):
        super().__init__(blocks)
        self.section = section

    def __missing__(self, name: str) -> Any:
        raise InputError(f"params.yaml: {self.section} has no {name!r}; {_suggestion(name, list(self))}")


class Params(Section):
    """The whole of params.yaml."""

    dataset: str
    run: RunParams
    download: DownloadParams
    sample_frames: SampleFramesParams
    backbones: dict[Name, BackboneParams]
    expansions: dict[Name, ExpansionParams]
    embed: EmbedParams
    recipes: dict[Name, RecipeParams]
    aggregators: dict[Name, AggregatorParams]
    train_aggregator: TrainAggregatorParams
    selections: dict[Name, SelectionParams]
    optimise_thresholds: OptimiseThresholdsParams
    linear_probe: LinearProbeParams
    evaluate_retrieval: EvaluateRetrievalParams
    evaluate_conditional: EvaluateConditionalParams
    evaluate_moments: EvaluateMomentsParams
    evaluate_actions: EvaluateActionsParams
    measure_resources: MeasureResourcesParams
    architectures: dict[Name, ArchitectureParams]
    measure_architectures: MeasureArchitecturesParams
    report: ReportParams

    @field_validator("backbones", "expansions", "recipes", "aggregators", "selections", "architectures", mode="after")
    @classmethod
    def _unknown_names_are_told(cls, blocks: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        return Variants(str(info.field_name), blocks)

    @model_validator(mode="after")
    def _run_names_what_exists(self) -> "Params":
        finetuned = [f"{backbone}-{recipe}" for backbone in self.run.finetuned for recipe in self.run.recipes]
        expanded = [f"{backbone}_{expansion}" for backbone in self.run.expanded for expansion in self.run.expansions]
        _check_names("run.backbones", self.run.backbones, list(self.backbones))
        _check_names("run.expanded", self.run.expanded, self.run.backbones)
        _check_names("run.expansions", self.run.expansions, list(self.expansions))
        _check_names("run.embedded", self.run.embedded, self.run.backbones + expanded)
        _check_names("run.finetuned", self.run.finetuned, self.run.embedded)
        _check_names("run.recipes", self.run.recipes, list(self.recipes))
        _check_names("run.models", self.run.models, self.run.embedded + finetuned)
        _check_names("run.conditional", self.run.conditional, self.run.models)
        _check_names("run.aggregators", self.run.aggregators, list(self.aggregators))
        _check_names("run.selections", self.run.selections, list(self.selections))
        _check_names("run.architectures", self.run.architectures, list(self.architectures))
        most = self.embed.clip_counts[-1] * self.embed.clip_frames
        if most > self.sample_frames.num_uniform:
            raise ValueError(
                f"embed.clip_counts × embed.clip_frames is {most} frames; sample_frames.num_uniform must be that many"
            )
        return self


def _check_names(param: str, names: list[str], known: list[str]) -> None:
    for name in names:
        if name not in known:
            raise ValueError(f"{param}: unknown {name!r}; {_suggestion(name, known)}")
    if len(set(names)) < len(names):
        raise ValueError(f"{param}: a name stands there twice; name each once")


def _suggestion(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(sorted(known)) or 'none'}"


def _known_keys(location: tuple[Any, ...]) -> list[str]:
    """Keys that the model at `location` has, found by walking the annotations along the path."""
    model: Any = Params
    for part in location:
        if isinstance(model, type) and issubclass(model, BaseModel):
            field = model.model_fields.get(str(part))
            model = None if field is None else field.annotation
        elif get_origin(model) is dict:
            model = get_args(model)[1]
        elif model == BackboneParams:
            families = {
                "builtin": BuiltinBackboneParams,
                "open_clip": OpenClipBackboneParams,
                "xclip": XClipBackboneParams,
            }
            model = families.get(str(part))
    return list(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []


def _first_line(path: Path, error: ValidationError) -> str:
    # A misspelt param is both unknown and missing: the unknown one says more.
    first = min(error.errors(), key=lambda item: item["type"] != "extra_forbidden")
    where = [str(part) for part in first["loc"]]
    kind = first["type"]
    if kind.startswith("union_tag"):
        return f"{path}: param {'.'.join(where)}.family is wrong or missing; set builtin, open_clip or xclip"
    if where[:1] == ["backbones"]:
        del where[2:3]  # pydantic puts the family there
    name = ".".join(where) or "at the top level"
    if kind == "extra_forbidden":
        return f"{path}: unknown param {name}; {_suggestion(where[-1], _known_keys(first['loc'][:-1]))}"
    if kind == "missing":
        return f"{path}: param {name} is missing; add it"
    if kind == "value_error":
        inner = str(first["ctx"]["error"])
        return f"{path}: {name + ': ' if where else ''}{inner}"
    return f"{path}: param {name} is {first['input']!r}: {first['msg']}"


def load_params(path: Path = Path("params.yaml")) -> Params:
    """Read and check the whole of params.yaml.

    Raises:
        InputError: the file is missing or not YAML, or a param is unknown, missing or out of range; one line
            that names the param and the mend.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; run this from the root of the repository") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8") from None
    try:
        data = ruamel.yaml.YAML(typ="safe", pure=True).load(text)
    except ruamel.yaml.YAMLError as error:
        raise InputError(f"{path}: not YAML ({' '.join(str(error).split())}); mend that line") from None
    try:
        return Params.model_validate(data)
    except ValidationError as error:
        raise InputError(_first_line(path, error)) from None
