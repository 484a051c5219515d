"""The runs of an experiment: their names, what each sets, and that the pipeline makes of it what is collected."""

import hashlib
import importlib.util
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillmotion.config.loading import load_params
from stillmotion.errors import InputError
from stillmotion.experiments.definition import Collect, Experiment, Layer, Value, suggestion
from stillmotion.experiments.settings import overrides, resolve, with_layers
from stillmotion.io.tables import read_json

DIGEST_LENGTH = 6


@dataclass(frozen=True)
class PlannedRun:
    """One `dvc exp run`."""

    name: str
    """The same for the same experiment, value, seed and options: by it a later run knows what is done."""
    value: Value | None
    """Of what the experiment varies; None where it varies nothing."""
    seeds: tuple[int, ...]
    """That it trains with and that are collected; the one of the study where nothing is collected."""
    dataset: str
    overrides: tuple[str, ...]
    """As `dvc exp run --set-param` takes them."""


@dataclass(frozen=True)
class Collection:
    """What is collected of each run of a study, and which stages make it."""

    study: str
    key: str
    """Dotted name of the param that varies."""
    collect: Collect
    model: str
    scorer: str

    @property
    def targets(self) -> list[str]:
        """The stages of dvc.yaml that make what is collected."""
        cost = [f"measure_resources@{self.model}"] if self.collect.cost else []
        return [f"evaluate_retrieval@{self.collect.system}", *cost]

    @property
    def validation_file(self) -> str:
        """Where the stage of `validation` writes its history."""
        stage = self.collect.validation
        return f"plots/{stage}/{self.model if stage == 'finetune' else self.collect.system}.json"

    @property
    def ranks_file(self) -> str:
        """The ranks of the test queries, an out in dvc's cache."""
        return f"data/predictions/retrieval/{self.collect.system}/ranks.jsonl"

    @property
    def cost_file(self) -> str:
        """What a training step cost."""
        return f"metrics/resources/{self.model}.json"


def planned_runs(
    experiment: Experiment, params: Mapping[str, Any], options: Layer
) -> tuple[list[PlannedRun], Collection | None]:
    """The runs, the values in order and at each its seeds, and what is collected of them.

    Args:
        experiment: that is run.
        params: the content of params.yaml.
        options: of the command line, set upon what the experiment sets.

    Raises:
        InputError: params.yaml has no such param or does not take the value, no model takes the seeds, or the params
            don't make the system or the number of clips that is to be collected.
    """
    base = with_layers(resolve(experiment, params), [options])
    name = "-".join(filter(None, (experiment.name, experiment.variant)))
    if options.settings:
        # With other settings it is another experiment, which has not run because this one has.
        as_texts = json.loads(json.dumps(options.settings))  # keys too, of which numbers and texts have no order
        text = json.dumps(as_texts, sort_keys=True)
        name += "-" + hashlib.sha256(text.encode()).hexdigest()[:DIGEST_LENGTH]
    runs = []
    collection = None
    for value, settings in experiment.points:
        varied = with_layers(base, [Layer(f"{experiment.path}: vary", settings)])
        for seed in experiment.seeds or (None,):
            found = varied if seed is None else _with_seed(varied, seed, str(experiment.path))
            label = "-".join(str(part) for part in (name, value, seed) if part is not None)
            if seed is None or seed == experiment.seeds[0]:
                where = str(experiment.path) if value is None else f"{experiment.path} at {value}"
                check_params(found, where)
                collection = _collection(experiment, found) if experiment.collect else None
            seeds = _seeds(collection, found) if collection else () if seed is None else (seed,)
            # Params of no file keep what they say of themselves.
            made_by = {"experiment": experiment.name} if experiment.layers else {}
            told = {**found, "run": {**found["run"], **made_by}}
            runs.append(PlannedRun(label, value, seeds, found["dataset"], tuple(overrides(params, told))))
    return runs, collection


def _with_seed(params: Mapping[str, Any], seed: int, where: str) -> dict[str, Any]:
    """The params with this seed in every record of `finetuned`."""
    if not params.get("finetuned"):
        raise InputError(f"{where}: seeds: no model is fine-tuned, so that nothing takes them; take them out")
    records = params["finetuned"]
    if not (isinstance(records, Mapping) and all(isinstance(record, Mapping) for record in records.values())):
        raise InputError(f"{where}: finetuned: a record that is no section; give each from, recipe and seed")
    return {**params, "finetuned": {key: {**record, "seed": seed} for key, record in records.items()}}


def check_params(params: Mapping[str, Any], where: str) -> None:
    """Check the params that a run will have, as its stages will check them.

    Raises:
        InputError: they don't fit, or a model does not fit the stored frames; one line that names what set them, the
            param and the mend.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "params.yaml"
        path.write_text(json.dumps(params), encoding="utf-8")
        try:
            load_params(path)
        except InputError as error:
            raise InputError(f"{where}: {str(error).replace(str(path), path.name)}") from None
    _check_models(params, where)


def _check_models(params: Mapping[str, Any], where: str) -> None:
    """Tell an architecture that open_clip lacks, or that takes larger frames than are stored, before anything runs."""
    # Beside open_clip, whose import takes seconds.
    package = importlib.util.find_spec("open_clip")
    assert package is not None
    assert package.submodule_search_locations
    configs = Path(package.submodule_search_locations[0]) / "model_configs"
    stored_px = params["sample_frames"]["size_px"]
    for name in params["run"]["backbones"]:
        backbone = params["backbones"][name]
        if backbone["family"] != "open_clip":
            continue
        architecture = backbone["architecture"]
        path = configs / f"{architecture}.json"
        if not path.is_file():
            known = suggestion(architecture, sorted(config.stem for config in configs.glob("*.json")))
            raise InputError(f"{where}: backbones.{name}.architecture {architecture!r} is none of open_clip's; {known}")
        size_px = read_json(path)["vision_cfg"].get("image_size", stored_px)
        if size_px > stored_px:
            raise InputError(
                f"{where}: {architecture} takes frames of {size_px} px, and sample_frames.size_px is {stored_px}; add "
                f"--set sample_frames.size_px={size_px}"
            )


def _seeds(collection: Collection, params: Mapping[str, Any]) -> tuple[int, ...]:
    """The seeds whose results are collected of a run."""
    if collection.collect.validation == "finetune":
        return (params["finetuned"][collection.model]["seed"],)
    return tuple(params["train_aggregator"]["seeds"])


def _collection(experiment: Experiment, params: Mapping[str, Any]) -> Collection:
    """What is collected, where the pipeline makes it with these params."""
    collect = experiment.collect
    assert collect is not None
    where = f"{experiment.path}: collect"
    if experiment.vary is None:
        raise InputError(f"{where} needs vary: its table has a row for each value; add it, or take collect out")
    if collect.system not in params["retrieval"]:
        known = ", ".join(params["retrieval"]) or "empty"
        raise InputError(f"{where}.system: retrieval is {known}; set it to have {collect.system}")
    record = params["retrieval"][collect.system]
    model, scorer = record["model"], record["scorer"]
    if collect.num_clips not in params["embed"]["clip_counts"]:
        counts = ", ".join(map(str, params["embed"]["clip_counts"]))
        raise InputError(f"{where}.num_clips: embed.clip_counts is {counts}; set it to have {collect.num_clips}")
    kind = params["scorers"][scorer]["kind"]
    if kind in ("interaction", "own") and collect.num_clips != 1:
        raise InputError(f"{where}.num_clips is {collect.num_clips} and {scorer} takes one clip; set 1")
    if collect.validation == "finetune" and model not in params["finetuned"]:
        raise InputError(
            f"{where}.validation: {model} is not fine-tuned; there are {', '.join(params['finetuned']) or 'none'}"
        )
    if collect.cost and model not in params["run"]["embedded"]:
        raise InputError(
            f"{where}.cost: {model} is not in run.embedded, whose steps are measured; set it, or cost: false"
        )
    if collect.validation == "train_aggregator" and kind not in ("transformer_mean", "class_token"):
        raise InputError(f"{where}.system: {scorer} has nothing to train; name another one")
    return Collection(experiment.name, experiment.vary.key, collect, model, scorer)
