"""params.yaml as frozen, typed models: every value is named here, and none has a default.

A stage script calls `load_params()` once and reads attributes of the result (`params.embed.clip_frames`);
a test holds these reads to the `params:` that dvc.yaml declares for the stage. The comments in params.yaml
say what to expect of a value, the docstrings here what it means.
"""

import difflib
from pathlib import Path
from typing import Any, get_args, get_origin

import ruamel.yaml
from pydantic import BaseModel, ValidationError, ValidationInfo, field_validator, model_validator

from stillmotion.config.data import DownloadParams, SampleFramesParams
from stillmotion.config.evaluation import (
    AssessBackboneParams,
    EvaluateActionsParams,
    EvaluateConditionalParams,
    EvaluateMomentsParams,
    EvaluateReferencesParams,
    EvaluateRetrievalParams,
    MeasureArchitecturesParams,
    MeasureResourcesParams,
    OptimiseThresholdsParams,
    ReportParams,
    SelectionParams,
    ShotDetectorParams,
    ShowAttentionParams,
)
from stillmotion.config.models import (
    ArchitectureParams,
    BackboneParams,
    BuiltinBackboneParams,
    Clip4ClipExpansionParams,
    ClipArchitectureParams,
    EmbedParams,
    ExpansionParams,
    OpenClipBackboneParams,
    StanArchitectureParams,
    StanExpansionParams,
    XClipArchitectureParams,
    XClipBackboneParams,
    XClipExpansionParams,
)
from stillmotion.config.run import Reference, RunParams
from stillmotion.config.section import Count, Name, Section
from stillmotion.config.training import (
    AggregatorParams,
    AlignmentParams,
    LinearProbeParams,
    RecipeParams,
    TrainAggregatorParams,
)
from stillmotion.errors import InputError

FAMILIES: dict[str, dict[str, type[Section]]] = {
    "backbones": {
        "builtin": BuiltinBackboneParams,
        "open_clip": OpenClipBackboneParams,
        "xclip": XClipBackboneParams,
    },
    "expansions": {
        "xclip": XClipExpansionParams,
        "stan": StanExpansionParams,
        "clip4clip": Clip4ClipExpansionParams,
    },
    "architectures": {
        "xclip": XClipArchitectureParams,
        "clip": ClipArchitectureParams,
        "stan": StanArchitectureParams,
    },
}
"""Of the sections whose blocks are of several kinds."""


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
    threads: Count
    """Of torch in a stage, which its processes share: they decide last digits, and so are the same everywhere."""
    run: RunParams
    download: DownloadParams
    sample_frames: SampleFramesParams
    backbones: dict[Name, BackboneParams]
    expansions: dict[Name, ExpansionParams]
    embed: EmbedParams
    recipes: dict[Name, RecipeParams]
    aggregators: dict[Name, AggregatorParams]
    alignments: dict[Name, AlignmentParams]
    train_aggregator: TrainAggregatorParams
    selections: dict[Name, SelectionParams]
    shot_detectors: dict[Name, ShotDetectorParams]
    optimise_thresholds: OptimiseThresholdsParams
    linear_probe: LinearProbeParams
    evaluate_retrieval: EvaluateRetrievalParams
    evaluate_conditional: EvaluateConditionalParams
    evaluate_moments: EvaluateMomentsParams
    evaluate_references: EvaluateReferencesParams
    assess_backbone: AssessBackboneParams
    evaluate_actions: EvaluateActionsParams
    measure_resources: MeasureResourcesParams
    architectures: dict[Name, ArchitectureParams]
    measure_architectures: MeasureArchitecturesParams
    show_attention: ShowAttentionParams
    report: ReportParams

    @field_validator(
        "backbones",
        "expansions",
        "recipes",
        "aggregators",
        "alignments",
        "selections",
        "shot_detectors",
        "architectures",
        mode="after",
    )
    @classmethod
    def _unknown_names_are_told(cls, blocks: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        return Variants(str(info.field_name), blocks)

    @model_validator(mode="after")
    def _corpora_are_other_datasets(self) -> "Params":
        _check_once("run.corpora", self.run.corpora)
        if self.dataset in self.run.corpora:
            raise ValueError(
                f"run.corpora: {self.dataset!r} is the active dataset, and two stages would write its folders; "
                "take it out, or set another dataset"
            )
        return self

    @model_validator(mode="after")
    def _run_names_what_exists(self) -> "Params":
        finetuned = [f"{backbone}-{recipe}" for backbone in self.run.finetuned for recipe in self.run.recipes]
        expanded = [f"{backbone}_{expansion}" for backbone in self.run.expanded for expansion in self.run.expansions]
        _check_names("run.backbones", self.run.backbones, list(self.backbones))
        _check_names("run.expanded", self.run.expanded, self.run.backbones)
        _check_names("run.expansions", self.run.expansions, list(self.expansions))
        _check_names("run.post_pretrained", self.run.post_pretrained, self.run.backbones + expanded)
        _check_names("run.post_pretraining", self.run.post_pretraining, list(self.recipes))
        post_pretraining = (self.run.corpora, self.run.post_pretrained, self.run.post_pretraining)
        if any(post_pretraining) and not all(post_pretraining):
            raise ValueError("run: corpora, post_pretrained and post_pretraining need one another; set all or none")
        backbones = [*self.run.backbones, *expanded, *_post_pretrained(self.run)]
        for name in backbones:
            if backbones.count(name) > 1:
                raise ValueError(f"run: two backbones are called {name!r}; rename one")
        _check_names("run.embedded", self.run.embedded, backbones)
        _check_names("run.finetuned", self.run.finetuned, self.run.embedded)
        _check_names("run.recipes", self.run.recipes, list(self.recipes))
        _check_names("run.models", self.run.models, self.run.embedded + finetuned)
        _check_names("run.conditional", self.run.conditional, self.run.models)
        _check_names("run.aggregators", self.run.aggregators, list(self.aggregators))
        _check_names("run.aligned", self.run.aligned, self.run.embedded + finetuned)
        _check_names("run.alignments", self.run.alignments, list(self.alignments))
        scored_by = [*self.run.aggregators, "conditional", *self.run.alignments, "tight_transformer"]
        for name in scored_by:
            if scored_by.count(name) > 1:
                raise ValueError(f"run: two ways of scoring retrieval are called {name!r}; rename one")
        if self.run.aligned and self.run.alignments and not self.embed.tokens:
            raise ValueError("run.alignments needs embed.tokens: true")
        _check_names("run.tight", self.run.tight, finetuned)
        for model in self.run.tight:
            if not self._is_trained_tight(model):
                raise ValueError(
                    f"run.tight: {model!r} is no CLIP4Clip with head: tight_transformer, fine-tuned by a recipe for "
                    "retrieval; take it out"
                )
        if self.run.tight and not self.embed.tokens:
            raise ValueError("run.tight needs embed.tokens: true")
        _check_names("run.attended", self.run.attended, finetuned)
        _check_names("run.probed", self.run.probed, self.run.embedded + finetuned)
        if self.run.probed and not self.embed.spans:
            raise ValueError("run.probed needs embed.spans: true")
        _check_names("run.assessed", self.run.assessed, self.run.embedded + finetuned)
        _check_names("run.selected", self.run.selected, self.run.embedded + finetuned)
        for param, models in (("run.assessed", self.run.assessed), ("run.selected", self.run.selected)):
            video_models = [] if self.embed.single_frames else [name for name in models if self._is_video_model(name)]
            if video_models:
                raise ValueError(
                    f"{param}: {video_models[0]!r} is a video model, whose frames are embedded by themselves with "
                    "embed.single_frames: true alone; set that, or take the model out"
                )
        _check_names("run.selections", self.run.selections, list(self.selections))
        _check_names("run.shot_detectors", self.run.shot_detectors, list(self.shot_detectors))
        _check_names("run.references", list(self.run.references), list(get_args(Reference)))
        kinds = self.run.selections + self.run.shot_detectors
        selected = [f"{model}-{kind}" for model in self.run.selected for kind in kinds]
        systems = [*selected, *self.run.references, *self.run.submissions]
        for name in systems:
            if systems.count(name) > 1:
                raise ValueError(f"run: two systems of moment retrieval are called {name!r}; rename one")
        _check_names("run.architectures", self.run.architectures, list(self.architectures))
        most = self.embed.clip_counts[-1] * self.embed.clip_frames
        if most > self.sample_frames.num_uniform:
            raise ValueError(
                f"embed.clip_counts × embed.clip_frames is {most} frames; sample_frames.num_uniform must be that many"
            )
        return self

    @model_validator(mode="after")
    def _what_is_trained_on_is_embedded(self) -> "Params":
        trained = [name for name in self.run.aggregators if self.aggregators[name].kind != "mean"]
        needed: dict[str, tuple[list[str], tuple[str, ...]]] = {
            "run.aggregators": (trained if self.run.models else [], ("train", "validation")),
            "run.assessed": (self.run.assessed, (self.assess_backbone.split,)),
            "run.selections": (self.run.selections if self.run.selected else [], ("train",)),
        }
        for param, (names, splits) in needed.items():
            missing = [split for split in splits if split not in self.embed.splits]
            if names and missing:
                raise ValueError(f"{param}: {names[0]!r} needs the split {missing[0]}; add it to embed.splits")
        return self

    def _is_trained_tight(self, model: str) -> bool:
        """Whether a fine-tuned model is a tight transformer, trained to score pairs."""
        backbone, _, recipe = model.partition("-")
        tight = [
            f"{base}_{name}"
            for base in self.run.expanded
            for name in self.run.expansions
            if (expansion := self.expansions[name]).family == "clip4clip" and expansion.head == "tight_transformer"
        ]
        return backbone in tight and self.recipes[recipe].captions != "class_names"

    def _is_video_model(self, model: str) -> bool:
        """Whether a model named as in run.models sees the frames of a clip together: an expansion, or an X-CLIP."""
        images = [name for name in self.run.backbones if self.backbones[name].family != "xclip"]
        images += [made for name in images for made in _post_pretrained_of(name, self.run)]
        return model.partition("-")[0] not in images


def _post_pretrained(run: RunParams) -> list[str]:
    """The models that stage post_pretrain makes."""
    return [made for backbone in run.post_pretrained for made in _post_pretrained_of(backbone, run)]


def _post_pretrained_of(backbone: str, run: RunParams) -> list[str]:
    return [f"{backbone}_{corpus}_{recipe}" for corpus in run.corpora for recipe in run.post_pretraining]


def _check_names(param: str, names: list[str], known: list[str]) -> None:
    for name in names:
        if name not in known:
            raise ValueError(f"{param}: unknown {name!r}; {_suggestion(name, known)}")
    _check_once(param, names)


def _check_once(param: str, names: list[str]) -> None:
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
        else:
            model = FAMILIES.get(str(location[0]), {}).get(str(part))
    return list(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []


def _first_line(path: Path, error: ValidationError) -> str:
    # A misspelt param is both unknown and missing: the unknown one says more.
    first = min(error.errors(), key=lambda item: item["type"] != "extra_forbidden")
    where = [str(part) for part in first["loc"]]
    kind = first["type"]
    if kind.startswith("union_tag"):
        families = ", ".join(FAMILIES[where[0]])
        return f"{path}: param {'.'.join(where)}.family is wrong or missing; set one of: {families}"
    if where[:1] and where[0] in FAMILIES:
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
