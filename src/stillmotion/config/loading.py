"""params.yaml as frozen, typed models: every value is named here, and none has a default.

A stage script calls `load_params()` once and reads attributes of the result (`params.embed.clip_frames`);
a test holds these reads to the `params:` that dvc.yaml declares for the stage. The comments in params.yaml
say what to expect of a value, the docstrings here what it means.
"""

import difflib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError, ValidationInfo, field_validator, model_validator

from stillmotion.config.data import DownloadParams, SampleFramesParams
from stillmotion.config.evaluation import (
    AssessBackboneParams,
    EvaluateActionsParams,
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
    EmbedParams,
    ExpansionParams,
)
from stillmotion.config.records import (
    ExpandedModel,
    FineTunedModel,
    MadeModel,
    PostPretrainedModel,
    RetrievalSystem,
)
from stillmotion.config.run import Reference, RunParams
from stillmotion.config.scorers import BestLayerParams, HeadParams, ScorerParams, TrainedParams
from stillmotion.config.section import Count, Name, PathName, Section
from stillmotion.config.training import (
    AnyRecipeParams,
    LinearProbeParams,
    LoraRecipeParams,
    RecipeParams,
    TrainAggregatorParams,
)
from stillmotion.config.yaml_files import read_yaml
from stillmotion.errors import InputError


def _classes(union: Any) -> dict[str, type[Section]]:
    """The classes of a discriminated union by the values of the field that tells them apart."""
    members, field = get_args(union)
    return {
        kind: member
        for member in get_args(members)
        for kind in get_args(member.model_fields[field.discriminator].annotation)
    }


FAMILIES: dict[str, dict[str, type[Section]]] = {
    "backbones": _classes(BackboneParams),
    "expansions": _classes(ExpansionParams),
    "scorers": _classes(ScorerParams),
    "architectures": _classes(ArchitectureParams),
    "recipes": {"whole": RecipeParams, "lora": LoraRecipeParams},
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

    dataset: PathName
    threads: Count
    """Of torch in a stage, which its processes share: they decide last digits, and so are the same everywhere."""
    run: RunParams
    download: DownloadParams
    sample_frames: SampleFramesParams
    backbones: dict[Name, BackboneParams]
    expansions: dict[Name, ExpansionParams]
    embed: EmbedParams
    expanded: dict[PathName, ExpandedModel]
    post_pretrained: dict[PathName, PostPretrainedModel]
    finetuned: dict[PathName, FineTunedModel]
    retrieval: dict[PathName, RetrievalSystem]
    recipes: dict[Name, AnyRecipeParams]
    scorers: dict[Name, ScorerParams]
    train_aggregator: TrainAggregatorParams
    selections: dict[Name, SelectionParams]
    shot_detectors: dict[Name, ShotDetectorParams]
    optimise_thresholds: OptimiseThresholdsParams
    linear_probe: LinearProbeParams
    evaluate_retrieval: EvaluateRetrievalParams
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
        "scorers",
        "selections",
        "shot_detectors",
        "architectures",
        mode="after",
    )
    @classmethod
    def _unknown_names_are_told(cls, blocks: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        return Variants(str(info.field_name), blocks)

    @field_validator("expanded", "post_pretrained", "finetuned", "retrieval", mode="after")
    @classmethod
    def _names_lead_nowhere_else(cls, records: dict[str, Any]) -> dict[str, Any]:
        # dvc looks for a key such as `a.b` below another key.
        dotted = next((name for name in records if "." in name), None)
        if dotted is not None:
            raise ValueError(f"the name {dotted!r} has a dot in it, at which dvc splits params; use - or _")
        return records

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
    def _models_are_made_of_what_exists(self) -> "Params":
        _check_names("run.backbones", self.run.backbones, list(self.backbones))
        names = [*self.run.backbones, *(name for _, records in self._made_sections for name in records)]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two models are called {name!r}; rename one")
        for section, records in self._made_sections:
            for name, record in records.items():
                where = f"{section}.{name}"
                _check_names(f"{where}.from", [record.base_model], names, all_of="run.backbones", there=self.backbones)
                if isinstance(record, ExpandedModel):
                    _check_names(f"{where}.expansion", [record.expansion], list(self.expansions))
                if isinstance(record, FineTunedModel):
                    _check_names(f"{where}.recipe", [record.recipe], list(self.recipes))
                if isinstance(record, PostPretrainedModel):
                    _check_names(f"{where}.dataset", [record.dataset], self.run.corpora, all_of="run.corpora")
                self._ancestors(name, where)
        return self

    @model_validator(mode="after")
    def _run_names_what_exists(self) -> "Params":
        run, models = self.run, [*self.run.backbones, *self.made]
        _check_names("run.embedded", run.embedded, models, all_of="run.backbones", there=self.backbones)
        _check_names("run.attended", run.attended, list(self.finetuned))
        for param in ("probed", "assessed", "selected"):
            _check_names(f"run.{param}", getattr(run, param), run.embedded, all_of="run.embedded", there=models)
        if run.probed and not self.embed.spans:
            raise ValueError("run.probed needs embed.spans: true")
        for param, names in (("run.assessed", run.assessed), ("run.selected", run.selected)):
            video_models = [] if self.embed.single_frames else [name for name in names if self._is_video_model(name)]
            if video_models:
                raise ValueError(
                    f"{param}: {video_models[0]!r} is a video model, whose frames are embedded by themselves with "
                    "embed.single_frames: true alone; set that, or take the model out"
                )
        _check_names("run.selections", run.selections, list(self.selections))
        _check_names("run.shot_detectors", run.shot_detectors, list(self.shot_detectors))
        _check_names("run.references", list(run.references), list(get_args(Reference)))
        selected = [f"{model}-{kind}" for model in run.selected for kind in (*run.selections, *run.shot_detectors)]
        systems = [*selected, *run.references, *run.submissions]
        for name in systems:
            if systems.count(name) > 1:
                raise ValueError(f"run: two systems of moment retrieval are called {name!r}; rename one")
        _check_names("run.architectures", run.architectures, list(self.architectures))
        most = self.embed.clip_counts[-1] * self.embed.clip_frames
        if most > self.sample_frames.num_uniform:
            raise ValueError(
                f"embed.clip_counts × embed.clip_frames is {most} frames; sample_frames.num_uniform must be that many"
            )
        return self

    @model_validator(mode="after")
    def _systems_score_what_is_embedded(self) -> "Params":
        models = [*self.run.backbones, *self.made]
        for name, system in self.retrieval.items():
            where = f"retrieval.{name}.model"
            _check_names(where, [system.model], self.run.embedded, all_of="run.embedded", there=models)
            _check_names(f"retrieval.{name}.scorer", [system.scorer], list(self.scorers))
            scorer = self.scorers[system.scorer]
            for needed in scorer.needs:
                if not getattr(self.embed, needed):
                    raise ValueError(f"retrieval.{name}: scorer {system.scorer!r} needs embed.{needed}: true")
            if scorer.kind == "own" and not self._is_trained_tight(system.model):
                raise ValueError(
                    f"retrieval.{name}: {system.model!r} is no CLIP4Clip with head: tight_transformer, fine-tuned by a "
                    "recipe for retrieval; score it by another scorer"
                )
        return self

    @model_validator(mode="after")
    def _what_is_trained_on_is_embedded(self) -> "Params":
        kinds = (TrainedParams, HeadParams)
        trained = [name for name, system in self.retrieval.items() if isinstance(self.scorers[system.scorer], kinds)]
        chosen = [
            name for name, system in self.retrieval.items() if isinstance(self.scorers[system.scorer], BestLayerParams)
        ]
        needed: dict[str, tuple[list[str], tuple[str, ...]]] = {
            "retrieval": (trained, ("train", "validation")),
            "retrieval, whose layer is chosen": (chosen, ("validation",)),
            "run.assessed": (self.run.assessed, (self.assess_backbone.split,)),
            "run.selections": (self.run.selections if self.run.selected else [], ("train",)),
        }
        for param, (names, splits) in needed.items():
            missing = [split for split in splits if split not in self.embed.splits]
            if names and missing:
                raise ValueError(f"{param}: {names[0]!r} needs the split {missing[0]}; add it to embed.splits")
        return self

    @property
    def _made_sections(self) -> tuple[tuple[str, Mapping[str, MadeModel]], ...]:
        return (
            ("expanded", self.expanded),
            ("post_pretrained", self.post_pretrained),
            ("finetuned", self.finetuned),
        )

    @property
    def made(self) -> dict[str, MadeModel]:
        """Every model that is made of another one, by its name."""
        return {name: record for _, records in self._made_sections for name, record in records.items()}

    def _ancestors(self, model: str, where: str = "") -> list[str]:
        """The model itself, whose record is at `where`, and what it is made of, down to a backbone."""
        line = [model]
        while line[-1] in self.made:
            line.append(self.made[line[-1]].base_model)
            if line.count(line[-1]) > 1:
                raise ValueError(f"{where}.from: a model is made of itself ({' from '.join(line)}); set another model")
        return line

    def _is_trained_tight(self, model: str) -> bool:
        """Whether a fine-tuned model is a tight transformer, trained to score pairs."""
        made = [self.made.get(name) for name in self._ancestors(model)]
        expansions = [self.expansions[record.expansion] for record in made if isinstance(record, ExpandedModel)]
        is_tight = any(found.family == "clip4clip" and found.head == "tight_transformer" for found in expansions)
        last = made[0]
        return is_tight and isinstance(last, FineTunedModel) and self.recipes[last.recipe].captions != "class_names"

    def _is_video_model(self, model: str) -> bool:
        """Whether a model sees the frames of a clip together: an expansion, or an X-CLIP."""
        line = self._ancestors(model)
        expanded = any(isinstance(self.made.get(name), ExpandedModel) for name in line)
        return expanded or self.backbones[line[-1]].sees_clips_whole


def _check_names(
    param: str, names: list[str], known: list[str], *, all_of: str = "", there: Collection[str] = ()
) -> None:
    """Names must be known, and each there once; one that is `there` alone, or anywhere, can be added to `all_of`."""
    for name in names:
        if name not in known and name in there:
            raise ValueError(f"{param}: {name!r} is not in {all_of}; add it there")
        if name not in known:
            add = f", or add it to {all_of}" if all_of and not there else ""
            raise ValueError(f"{param}: unknown {name!r}; {_suggestion(name, known)}{add}")
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
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        return []
    return [field.alias or name for name, field in model.model_fields.items()]


def _first_line(path: Path | str, error: ValidationError) -> str:
    # A misspelt param is both unknown and missing: the unknown one says more.
    first = min(error.errors(), key=lambda item: item["type"] != "extra_forbidden")
    # A key may hold anything, a line break too.
    where = [str(part) if str(part).isprintable() else repr(part) for part in first["loc"]]
    kind = first["type"]
    if where[-1:] == ["[key]"]:
        del where[-2:]
    if kind.startswith("union_tag"):
        kinds, field = ", ".join(FAMILIES[where[0]]), "kind" if where[0] == "scorers" else "family"
        return f"{path}: param {'.'.join(where)}.{field} is wrong or missing; set one of: {kinds}"
    if where[:1] and where[0] in FAMILIES:
        del where[2:3]  # pydantic puts the family there
    if not where and kind != "value_error":
        found = "nothing" if first["input"] is None else f"no section but {first['input']!r:.40}"
        return f"{path}: holds {found}; write `name: value` lines, as `git checkout {path}` has them"
    name = ".".join(where) or "at the top level"
    if kind == "extra_forbidden":
        return f"{path}: unknown param {name}; {_suggestion(where[-1], _known_keys(first['loc'][:-1]))}"
    if kind == "missing":
        return f"{path}: param {name} is missing; add it"
    if kind == "value_error":
        inner = str(first["ctx"]["error"])
        return f"{path}: {name + ': ' if where else ''}{inner}"
    return f"{path}: param {name} is {_shown(first['input'])}: {_WANTED.get(kind, first['msg'])}"


_WANTED = {
    **dict.fromkeys(
        ("model_type", "model_attributes_type", "dict_type"), "it must be a section, of lines `name: value`"
    ),
    "list_type": "it must be a list, [] where nothing is in it",
}
"""Of errors whose text speaks of Python."""


def _shown(value: Any) -> str:
    if isinstance(value, dict | list) and len(value) > 1:
        return f"a {'section' if isinstance(value, dict) else 'list'} of {len(value)}"
    return "empty" if value is None else repr(value) if len(repr(value)) <= 60 else f"{value!r:.60}…"


def load_params(path: Path = Path("params.yaml")) -> Params:
    """Read and check the whole of params.yaml.

    Raises:
        InputError: the file is missing or not YAML, or a param is unknown, missing or out of range; one line
            that names the param and the mend.
    """
    return validate_params(read_yaml(path), path)


def validate_params(data: Any, source: Path | str) -> Params:
    """Check the content of a params.yaml.

    Raises:
        InputError: as `load_params`; the line begins with `source`.
    """
    try:
        return Params.model_validate(data)
    except ValidationError as error:
        raise InputError(_first_line(source, error)) from None
