"""The experiments of an ablation: their names, their settings, and that params.yaml takes these."""

import json
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillmotion.config.loading import Params, load_params
from stillmotion.errors import InputError
from stillmotion.experiments.definition import Ablation, Setting, Settings, Value

_WORD = re.compile(r"[A-Za-z_][\w.-]*")
_NO_WORDS = ("true", "false", "null", "nan", "inf")


@dataclass(frozen=True)
class Experiment:
    """One `dvc exp run`."""

    name: str
    """The same for the same ablation, value and seeds: by it a later run knows what is done."""
    value: Value
    seeds: tuple[int, ...]
    settings: Settings

    @property
    def overrides(self) -> list[str]:
        """The settings as `dvc exp run --set-param` takes them."""
        return [f"{name}={_literal(value)}" for name, value in self.settings.items()]


def _literal(value: Setting) -> str:
    """A value in Hydra's override grammar: `true`, `1e-05`, `[a,b]`; quoted is what it would misread."""
    if isinstance(value, list):
        return f"[{','.join(_literal(item) for item in value)}]"
    if isinstance(value, str) and (not _WORD.fullmatch(value) or value.lower() in _NO_WORDS):
        return "'" + value.replace("'", "\\'") + "'"
    return str(value).lower() if isinstance(value, bool) else str(value)


def planned_experiments(name: str, ablation: Ablation, params: Params) -> list[Experiment]:
    """The experiments of an ablation, the values in order and at each its seeds.

    Raises:
        InputError: params.yaml has no such param or does not take the value, or the settings don't make the model,
            the aggregator or the number of clips that is to be collected.
    """
    experiments = []
    for value, changes in ablation.points:
        for seeds in ablation.seeds_of_experiments:
            seed: Setting = list(seeds) if ablation.validation == "train_aggregator" else seeds[0]
            settings = {**ablation.settings, **changes, ablation.seed_param: seed}
            label = "_".join(map(str, seeds))
            experiments.append(Experiment(f"ablate-{name}-{value}-{label}", value, seeds, settings))
        # Seeds are whole numbers by now: the last one stands for all.
        found = _params_with(params, experiments[-1].settings, f"{name} at {value}")
        _check_collected(f"ablations.yaml: {name}", ablation, found)
    return experiments


def _params_with(params: Params, settings: Settings, where: str) -> Params:
    """The params that an experiment will have, checked as its stages will check them."""
    data = params.model_dump()
    for dotted, value in settings.items():
        *sections, last = dotted.split(".")
        _section(data, sections, f"{where}: {dotted}")[last] = value
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "params.yaml"
        path.write_text(json.dumps(data), encoding="utf-8")
        try:
            return load_params(path)
        except InputError as error:
            raise InputError(f"{where}: {str(error).replace(str(path), path.name)}") from None


def _section(data: dict[str, Any], sections: list[str], where: str) -> dict[str, Any]:
    """The block of params.yaml that these names lead to."""
    block: Any = data
    for section in sections:
        if not isinstance(block, Mapping) or section not in block:
            known = ", ".join(block) if isinstance(block, Mapping) else "none"
            raise InputError(f"{where}: params.yaml has no section {section!r} there; known: {known}")
        block = block[section]
    if not isinstance(block, dict):
        raise InputError(f"{where}: {'.'.join(sections)} of params.yaml is a value, no section; name a param")
    return block


def _check_collected(where: str, ablation: Ablation, params: Params) -> None:
    """That the pipeline makes with these params what is collected."""
    run = params.run
    by_alignment = ablation.evaluation == "evaluate_alignment"
    models, heads = ("aligned", "alignments") if by_alignment else ("models", "aggregators")
    for field, name, key in (("model", ablation.model, models), ("aggregator", ablation.aggregator, heads)):
        known = getattr(run, key)
        if name not in known:
            raise InputError(
                f"{where}.{field}: run.{key} is {', '.join(known) or 'empty'}; set it in settings to have {name}"
            )
    if by_alignment and ablation.num_clips != 1:
        raise InputError(f"{where}.num_clips is {ablation.num_clips} and evaluate_alignment takes one clip; set 1")
    if not by_alignment and ablation.num_clips not in params.embed.clip_counts:
        counts = ", ".join(map(str, params.embed.clip_counts))
        raise InputError(
            f"{where}.num_clips: embed.clip_counts is {counts}; set it in settings to have {ablation.num_clips}"
        )
    finetuned = [f"{backbone}-{recipe}" for backbone in run.finetuned for recipe in run.recipes]
    if (ablation.validation == "finetune" or ablation.cost) and ablation.model not in finetuned:
        field = "validation" if ablation.validation == "finetune" else "cost"
        raise InputError(
            f"{where}.{field}: {ablation.model} is not fine-tuned; there are {', '.join(finetuned) or 'none'}"
        )
    if ablation.validation == "train_aggregator" and params.aggregators[ablation.aggregator].kind == "mean":
        raise InputError(f"{where}.aggregator: {ablation.aggregator} has nothing to train; name another one")
