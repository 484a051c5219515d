"""experiments/<name>.yaml as frozen, typed models; experiments/README.md says how such a file is written."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, Field, ValidationError, field_validator, model_validator

from stillmotion.config.section import Count, Section, Seed
from stillmotion.config.yaml_files import parse_yaml, read_yaml
from stillmotion.errors import InputError

Model = TypeVar("Model", bound=BaseModel)

FOLDER = Path("experiments")

Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.]*$")]
"""What becomes part of the name of a queued experiment."""
Value = bool | int | float | Word
"""What a param is set to, or the name of one of `others`."""


class Vary(Section):
    """One param, and the values that it takes in turn."""

    key: str
    """Dotted name of the param."""
    values: list[Value]
    others: dict[Word, dict[str, Any]] = {}
    """Points beside `values`, by what they are called: `key` stays as it is, these params are set."""

    @model_validator(mode="after")
    def _points_differ(self) -> "Vary":
        names = [*self.values, *self.others]
        if not names:
            raise ValueError("values is empty; name a value")
        # 1 and 1.0 are one value, 1 and "1" have one name
        if min(len(set(names)), len({str(name) for name in names})) < len(names):
            raise ValueError("one of values and others stands there twice; name each once")
        return self

    @property
    def points(self) -> list[tuple[Value, Mapping[str, Any]]]:
        """What each point is called, and what it sets."""
        points: list[tuple[Value, Mapping[str, Any]]] = [(value, {self.key: value}) for value in self.values]
        return points + list(self.others.items())


class Collect(Section):
    """What the table and the figure of a study are made of."""

    title: str
    system: str
    """Key of `retrieval`."""
    num_clips: Count
    """The number of clips a video, of those in embed.clip_counts, whose results are collected; 1 for an interaction."""
    recall_at: Literal[1, 5, 10]
    """K of the recall of the test queries."""
    validation: Literal["finetune", "train_aggregator"]
    """The stage whose best validation R@1 is collected: `finetune` has a seed an experiment, `train_aggregator` trains
    all of train_aggregator.seeds in one."""
    cost: bool
    """Measure the training step too: for what changes its FLOPs."""


def _each_once(seeds: list[int]) -> list[int]:
    if len(set(seeds)) < len(seeds):
        raise ValueError("a seed stands there twice; name each once")
    return seeds


Seeds = Annotated[list[Seed], Field(min_length=1), AfterValidator(_each_once)]


class _ChosenSeeds(Section):
    """The seeds of a command line."""

    seeds: Seeds


class _File(Section):
    """The fields of a file."""

    about: str
    base: str | None = None
    settings: Annotated[dict[str, Any], Field(alias="set")] = {}
    vary: Vary | None = None
    seeds: Seeds | None = None
    collect: dict[str, Any] = {}
    options: dict[Word, Annotated[list[str], Field(min_length=1)]] = {}
    finetune: dict[str, Any] = {}

    @field_validator("about")
    @classmethod
    def _one_line(cls, about: str) -> str:
        if len(about.splitlines()) != 1:
            raise ValueError("give one line, with the measured time")
        return about


@dataclass(frozen=True)
class Layer:
    """Params that are set together."""

    where: str
    """What a message names: a file, or an option."""
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Experiment:
    """An experiment with all that it has of its bases."""

    name: str
    about: str
    layers: tuple[Layer, ...]
    """What is set, that of the last base first."""
    vary: Vary | None
    seeds: tuple[int, ...]
    collect: Collect | None
    options: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """What `--set` takes beside params: a name, and the dotted params that its value sets, which colons separate."""
    finetune: Layer | None = None
    """What `--finetune` sets too."""
    variant: str = ""
    """What the names of its runs end in."""

    @property
    def path(self) -> Path:
        """The file, as messages name it."""
        return _path(FOLDER, self.name)

    @property
    def points(self) -> list[tuple[Value | None, Mapping[str, Any]]]:
        """What each point of `vary` is called, and what it sets; without it one point that sets nothing."""
        return [*self.vary.points] if self.vary else [(None, {})]


def _path(folder: Path, name: str) -> Path:
    return folder / f"{name}.yaml"


def experiment_names(folder: Path = FOLDER) -> list[str]:
    """The experiments that there are, sorted.

    Raises:
        InputError: there is no such folder.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; run this from the root of the repository")
    return sorted(path.stem for path in folder.glob("*.yaml"))


def load_experiment(name: str, folder: Path = FOLDER) -> Experiment:
    """Read and check an experiment and its bases.

    Raises:
        InputError: there is no such experiment or base, the bases go in a circle, or a field is unknown, missing or of
            a wrong kind; one line that names the file, the field and the mend.
    """
    names = experiment_names(folder)
    if name not in names:
        raise InputError(f"{folder} has no {name!r}; {suggestion(name, names)}")
    chain = [name]
    files = [_read_file(_path(folder, name))]
    while (base := files[-1].base) is not None:
        path = _path(folder, chain[-1])
        if base not in names:
            raise InputError(f"{path}: base: {folder} has no {base!r}; {suggestion(base, names)}")
        if base in chain:
            circle = [*chain[chain.index(base) :], base]
            raise InputError(f"{path}: base goes in a circle, {' → '.join(circle)}; take one of them out")
        chain.append(base)
        files.append(_read_file(_path(folder, base)))
    layers = [Layer(f"{_path(folder, of)}: set", file.settings) for of, file in zip(chain, files, strict=True)]
    collect = {key: value for file in reversed(files) for key, value in file.collect.items()}
    return Experiment(
        name=name,
        about=files[0].about,
        layers=tuple(reversed(layers)),
        vary=next((file.vary for file in files if file.vary), None),
        seeds=tuple(next((file.seeds for file in files if file.seeds), ())),
        collect=_checked(Collect, collect, f"{_path(folder, name)}: collect") if collect else None,
        options={option: params for file in reversed(files) for option, params in file.options.items()},
        finetune=next(
            (
                Layer(f"{_path(folder, of)}: finetune", file.finetune)
                for of, file in zip(chain, files, strict=True)
                if file.finetune
            ),
            None,
        ),
    )


def _read_file(path: Path) -> _File:
    return _checked(_File, read_mapping(path), str(path))


def read_mapping(path: Path) -> dict[str, Any]:
    """The content of a YAML file that is a mapping, unchecked.

    Raises:
        InputError: the file is missing, or no YAML mapping.
    """
    data = read_yaml(path)
    if not isinstance(data, dict):
        raise InputError(f"{path}: holds no `name: value` lines; write some")
    return data


def _checked(model: type[Model], data: Mapping[str, Any], where: str) -> Model:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise InputError(f"{where}: {_first_line(error, model)}") from None


def _first_line(error: ValidationError, model: type[BaseModel]) -> str:
    # A misspelt field is both unknown and missing: the unknown one says more.
    first = min(error.errors(), key=lambda item: item["type"] != "extra_forbidden")
    location = first["loc"]
    where = ".".join(str(part) for part in location[:3])
    if first["type"] == "extra_forbidden":
        of = Vary if location[0] == "vary" else model
        fields = [field.alias or name for name, field in of.model_fields.items()]
        return f"unknown field {where}; {suggestion(str(location[-1]), fields)}"
    if first["type"] == "missing":
        return f"{where} is missing; add it"
    if first["type"] == "value_error":
        return f"{where}: {first['ctx']['error']}".removeprefix(": ")
    return f"{where} is {first['input']!r}: {first['msg']}"


def suggestion(word: str, known: Iterable[str]) -> str:
    """The mend of an unknown word: the most like one, or all that there are."""
    names = [str(name) for name in known]
    close = difflib.get_close_matches(word, names, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(names) or 'none'}"


def chosen(experiment: Experiment, values: str | None, seeds: str | None) -> Experiment:
    """The study with the values and seeds of the command line, where there are any, separated by commas.

    `chosen(frozen_blocks, "0,nothing", "5")` has the value 0, the point `nothing` of its `others`, and one seed.

    Raises:
        InputError: it varies nothing, or the values or seeds are none.
    """
    if values is not None:
        vary = experiment.vary
        if vary is None:
            raise InputError(f"--values: {experiment.path} varies nothing; leave it out, or use --set")
        found = _scalars("--values", values)
        changes = {
            "key": vary.key,
            "values": [value for value in found if value not in vary.others],
            "others": {name: vary.others[name] for name in found if name in vary.others},
        }
        experiment = replace(experiment, vary=_checked(Vary, changes, "--values"))
    if seeds is not None:
        given = _checked(_ChosenSeeds, {"seeds": _scalars("--seeds", seeds)}, "--seeds")
        experiment = replace(experiment, seeds=tuple(given.seeds))
    return experiment


def with_finetuning(experiment: Experiment) -> Experiment:
    """The experiment that fine-tunes its model too, under another name.

    Raises:
        InputError: it has no `finetune`.
    """
    if experiment.finetune is None:
        raise InputError(f"--finetune: {experiment.path} does not say what that would be; leave it out")
    layers = (*experiment.layers, experiment.finetune)
    return replace(experiment, variant="finetune", layers=layers)


def _scalars(option: str, text: str) -> list[Any]:
    try:
        found = [parse_yaml(word, option) for word in text.split(",")]
    except InputError:
        found = [None]
    if not all(isinstance(value, bool | int | float | str) for value in found):
        raise InputError(f"{option} {text!r}: write values separated by commas, such as 16,32")
    return found
