"""What the pipeline has built for a search, chosen by name or by its metrics; what is not built, and its mend."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from stillmotion.config.loading import Params
from stillmotion.embedding.reader import read_description
from stillmotion.errors import InputError
from stillmotion.io.checked import STRICT, read_checked
from stillmotion.moments.thresholds import read_thresholds
from stillmotion.search.ranking import UNTUNED, SelectionRule

METRIC = "MR-full-R1@0.5"


class _Measured(BaseModel):
    model_config = STRICT

    brief: dict[str, float | None] = {}


@dataclass(frozen=True, slots=True)
class Artefacts:
    """A dataset, a model and a selection, and where they lie."""

    root: Path
    dataset: str
    model: str
    selection: str
    build: str
    """What builds all of it."""

    @property
    def embeddings(self) -> Path:
        return _embeddings(self.root, self.dataset, self.model)

    @property
    def thresholds(self) -> Path:
        return _thresholds(self.root, self.model, self.selection)

    @property
    def raw(self) -> Path:
        return self._built(self.root / "data" / "raw" / self.dataset / "tables", "videos.jsonl")

    @property
    def frames(self) -> Path:
        return self._built(self.root / "data" / "frames" / self.dataset, "frames.jsonl")

    def model_folder(self, model: str) -> Path:
        """A fine-tuned model's, or a backbone's."""
        return self.root / "models" / "backbones" / model

    def _built(self, folder: Path, file: str) -> Path:
        if not (folder / file).is_file():
            raise InputError(f"{folder / file}: not built; {self.build}")
        return folder

    def rule(self) -> SelectionRule:
        """The tuned selection; `UNTUNED` where there is none, or the dataset had no labelled moments to tune on.

        Raises:
            InputError: the file of the thresholds does not hold them.
        """
        return read_rule(self.thresholds) if self.thresholds.is_file() else UNTUNED


def read_rule(thresholds: Path) -> SelectionRule:
    """The selection that a thresholds.json holds; `UNTUNED` where there was nothing to tune on.

    Raises:
        InputError: it is not there, or does not hold them.
    """
    found = read_thresholds(thresholds)
    if found is None:
        return UNTUNED
    frozen_range = None if found["frozen_range"] is None else (found["frozen_range"][0], found["frozen_range"][1])
    return SelectionRule(
        found["method"], found["post_processing"], found["parameters"], found["least_cosine"], frozen_range
    )


def _embeddings(root: Path, dataset: str, model: str) -> Path:
    return root / "data" / "embeddings" / f"{dataset}-{model}"


def _thresholds(root: Path, model: str, selection: str) -> Path:
    return root / "models" / "thresholds" / f"{model}-{selection}" / "thresholds.json"


def choose_artefacts(root: Path, params: Params, dataset: str, model: str, selection: str) -> Artefacts:
    """Complete what the user has not named, from what is built.

    Args:
        root: of the project.
        params: of the project.
        dataset: "" for the active one. Another one may have embeddings alone: windows are then selected untuned.
        model: "" for the one of `run.selected` whose moments have the best R1@0.5 in metrics/moments, the first where
            none is measured.
        selection: "" for the one of `run.selections` by the same rule.

    Raises:
        InputError: a name is unknown, with the nearest known one; or it is not built, with the command that builds it.
    """
    dataset = dataset or params.dataset
    check_dataset(root, params, dataset)
    run = "`dvc repro`" if dataset == params.dataset else f"`dvc exp run -S dataset={dataset}`"
    build = f"build it with {run}, or fetch what a colleague built with `dvc pull`"

    untuned = dataset != params.dataset and not selection
    embedded = embedded_models(root, dataset)
    if not embedded:
        raise InputError(f"{root / 'data' / 'embeddings'}: {dataset} is not built; {build}")
    listed = f"add it to run.selected in params.yaml, then {build}"
    if model:
        _check_known("--model", model, embedded | set(params.run.selected), listed)
    # An experiment may bring a selection that params.yaml lacks.
    models = [model] if model else params.run.selected
    if selection and not any(_thresholds(root, one_model, selection).is_file() for one_model in models):
        _check_known("--selection", selection, params.selections, "selections are a section of params.yaml")
    pairs = [
        (one_model, one_selection)
        for one_model in models
        for one_selection in ([selection] if selection else params.run.selections)
    ]
    if not pairs:
        raise InputError(
            "params.yaml: run.selected or run.selections is empty; name one, or give --model and --selection"
        )
    ready = [
        pair for pair in pairs if pair[0] in embedded and _thresholds(root, *pair).is_file()
    ]  # what is measured may be in git while its embeddings are not here
    chosen = Artefacts(root, dataset, *max(ready or pairs[:1], key=lambda pair: _recall(root, *pair)), build)
    if not ready and not (untuned and chosen.model in embedded):
        missing = chosen.thresholds if chosen.model in embedded else chosen.embeddings
        listed_too = chosen.model in params.run.selected and chosen.selection in params.run.selections
        add = "" if listed_too else "add it to run.selected or run.selections in params.yaml, then "
        raise InputError(f"{missing}: not built; {add}{build}")
    return chosen


def check_dataset(root: Path, params: Params, dataset: str) -> None:
    """Raise InputError where there is no dataset of this name, with the nearest one."""
    tracked = {path.stem for path in (root / "data" / "sources").glob("*.dvc")}
    sources = {path.name for kind in ("sources", "raw") for path in (root / "data" / kind).glob("*/")}
    _check_known("--dataset", dataset, sources | tracked | {params.dataset}, "stillmotion add FOLDER makes one")


def is_embedded(root: Path, dataset: str, model: str) -> bool:
    """Whether there are embeddings of a dataset by a model, "" for any."""
    embedded = embedded_models(root, dataset)
    return model in embedded if model else bool(embedded)


def embedded_models(root: Path, dataset: str) -> set[str]:
    """The models that there are embeddings of a dataset by."""
    folders = {file.parent.name: file for file in (root / "data" / "embeddings").glob("*/model.json")}
    models = {read_description(file)["system"]["model"]: folder for folder, file in folders.items()}
    return {model for model in models if f"{dataset}-{model}" in folders}


def _recall(root: Path, model: str, selection: str) -> float:
    """R1@0.5 on the test split, below all others where it is not measured."""
    path = root / "metrics" / "moments" / f"{model}-{selection}.json"
    measured = read_checked(path, _Measured).get("brief", {}) if path.is_file() else {}
    recall = measured.get(METRIC)
    return -1.0 if recall is None else recall


def _check_known(option: str, name: str, known: Iterable[str], mend: str) -> None:
    names = sorted(known)
    if name not in names:
        raise InputError(f"{option} {name}: no such {option.removeprefix('--')}; {nearest(name, names)} ({mend})")


def nearest(name: str, names: list[str]) -> str:
    """The known name that the user may have meant, or the first of them."""
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        return f"did you mean {close[0]}?"
    return f"there are {', '.join(names[:8])}" + (f" and {len(names) - 8} more" if len(names) > 8 else "")
