"""ablations.yaml as frozen, typed models: which param an ablation varies, and what it measures."""

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal

import ruamel.yaml
from pydantic import Field, TypeAdapter, ValidationError, model_validator

from stillmotion.config.section import Count, Name, Section, Seed
from stillmotion.errors import InputError

Value = bool | int | float | Name
"""What a param is set to, or the name of one of `others`."""
Setting = bool | int | float | str | list[bool | int | float | str]
Settings = dict[str, Setting]
"""Values of params by dotted name."""


class Ablation(Section):
    """One param, varied while the others stay as params.yaml and `settings` have them."""

    title: str
    param: str
    """Dotted name of the param that varies."""
    values: list[Value]
    others: dict[Name, Settings]
    """Points beside `values`, by what they are called: `param` stays as it is, these are set."""
    seed_param: str
    """Dotted name of the param that takes the seed."""
    seeds: Annotated[list[Seed], Field(min_length=1)]
    settings: Settings
    """Set in every experiment."""
    model: str
    """One of `run.models`; with evaluate_alignment, one of `run.aligned`."""
    evaluation: Literal["evaluate_retrieval", "evaluate_alignment"]
    """The stage that ranks the test videos."""
    aggregator: Name
    """One of `run.aggregators`; with evaluate_alignment, one of `run.alignments`."""
    num_clips: Count
    """The number of clips a video, of those in embed.clip_counts, whose results are collected; 1 with
    evaluate_alignment."""
    recall_at: Literal[1, 5, 10]
    """K of the recall of the test queries."""
    validation: Literal["finetune", "train_aggregator"]
    """The stage whose best validation R@1 is collected: `finetune` has a seed an experiment, `train_aggregator` trains
    all of them in one."""
    cost: bool
    """Measure the training step too: for what changes its FLOPs."""

    @model_validator(mode="after")
    def _points_differ(self) -> "Ablation":
        points = [*self.values, *self.others]
        if not points:
            raise ValueError("values and others are both empty; name a value")
        for names, what in ((points, "values and others"), (self.seeds, "seeds")):
            # 1 and 1.0 are one value, 1 and "1" have one name
            if min(len(set(names)), len({str(name) for name in names})) < len(names):
                raise ValueError(f"one of {what} stands there twice; name each once")
        return self

    @property
    def points(self) -> list[tuple[Value, Settings]]:
        """What each point is called, and what it sets."""
        points: list[tuple[Value, Settings]] = [(value, {self.param: value}) for value in self.values]
        return points + list(self.others.items())

    @property
    def seeds_of_experiments(self) -> list[tuple[int, ...]]:
        """The seeds that each experiment of a point trains with."""
        return [tuple(self.seeds)] if self.validation == "train_aggregator" else [(seed,) for seed in self.seeds]

    @property
    def system(self) -> str:
        """The system of retrieval whose results are collected."""
        return f"{self.model}-{self.aggregator}"

    @property
    def targets(self) -> list[str]:
        """The stages of dvc.yaml that make what is collected."""
        cost = [f"measure_resources_finetuning@{self.model}"] if self.cost else []
        return [f"{self.evaluation}@{self.system}", *cost]

    @property
    def validation_file(self) -> str:
        """Where that stage writes its history."""
        return f"plots/{self.validation}/{self.model if self.validation == 'finetune' else self.system}.json"

    @property
    def ranks_file(self) -> str:
        """The ranks of the test queries, an out in dvc's cache."""
        return f"data/predictions/retrieval/{self.system}/ranks.jsonl"

    @property
    def cost_file(self) -> str:
        """What a training step cost."""
        return f"metrics/resources/{self.model}.json"


def load_ablations(path: Path = Path("ablations.yaml")) -> dict[str, Ablation]:
    """Read and check the definitions, by name.

    Raises:
        InputError: the file is missing or not YAML, or a field is unknown, missing or of a wrong kind; one line
            that names the ablation, the field and the mend.
    """
    try:
        data = ruamel.yaml.YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; run this from the root of the repository") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8") from None
    except ruamel.yaml.YAMLError as error:
        raise InputError(f"{path}: not YAML ({' '.join(str(error).split())}); mend that line") from None
    try:
        return TypeAdapter(dict[Name, Ablation]).validate_python(data)
    except ValidationError as error:
        raise InputError(f"{path}: {_first_line(error)}") from None


def _first_line(error: ValidationError) -> str:
    # A misspelt field is both unknown and missing: the unknown one says more.
    first = min(error.errors(), key=lambda item: item["type"] != "extra_forbidden")
    where = ".".join(str(part) for part in first["loc"][:3])
    if first["type"] == "extra_forbidden":
        close = difflib.get_close_matches(str(first["loc"][-1]), Ablation.model_fields, n=1)
        return f"unknown {where}; " + (f"did you mean {close[0]!r}?" if close else "remove it")
    if first["type"] == "missing":
        return f"{where} is missing; add it"
    if first["type"] == "value_error":
        return f"{where}: {first['ctx']['error']}".removeprefix(": ")
    return f"{where or 'the file'} is {first['input']!r}: {first['msg']}"


def find_ablation(ablations: dict[str, Ablation], name: str) -> Ablation:
    """The ablation of that name; InputError says which there are."""
    if name not in ablations:
        close = difflib.get_close_matches(name, ablations, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(ablations)}"
        raise InputError(f"ablations.yaml has no {name!r}; {hint}")
    return ablations[name]


def chosen(ablation: Ablation, values: str | None, seeds: str | None) -> Ablation:
    """The ablation with the values and seeds of the command line, where there are any, separated by commas.

    `chosen(frozen_blocks, "0,nothing", "5")` has the value 0, the point `nothing` of its `others`, and one seed.
    """
    changes: dict[str, Any] = {}
    if values is not None:
        found = _scalars("--values", values)
        changes["values"] = [value for value in found if value not in ablation.others]
        changes["others"] = {name: ablation.others[name] for name in found if name in ablation.others}
    if seeds is not None:
        changes["seeds"] = _scalars("--seeds", seeds)
    try:
        return Ablation.model_validate(ablation.model_dump() | changes)
    except ValidationError as error:
        raise InputError(f"--values or --seeds: {_first_line(error)}") from None


def _scalars(option: str, text: str) -> list[Any]:
    try:
        found = [ruamel.yaml.YAML(typ="safe", pure=True).load(word) for word in text.split(",")]
    except ruamel.yaml.YAMLError:
        found = [None]
    if not all(isinstance(value, bool | int | float | str) for value in found):
        raise InputError(f"{option} {text!r}: write values separated by commas, such as 16,32")
    return found
