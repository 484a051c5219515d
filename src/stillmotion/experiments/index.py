"""What a search in a dataset needs, made beside the workspace where it is not there, and brought here."""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from stillmotion.errors import InputError
from stillmotion.experiments import dvc_queue
from stillmotion.experiments.definition import Experiment, Layer, load_experiment, read_mapping
from stillmotion.experiments.plan import planned_runs
from stillmotion.experiments.settings import resolve, with_layers
from stillmotion.io.atomic import atomic_folder
from stillmotion.io.tables import read_json, write_json

MADE_OF = Path(".dvc/tmp/stillmotion-index")
"""What each index was made of, as it shall be told from what has been added since."""


def build_index(dataset: str, experiment: str, model: str, *, with_frames: bool) -> str:
    """Have the embeddings of a dataset by a model in the workspace; return the model's name.

    They come from the experiment where it has run on the dataset, else its stages up to `embed` run: without a text,
    and however many videos can't be read. What was made of an earlier version of the dataset is made anew.

    Args:
        dataset: any, but the active one without an experiment.
        experiment: a file of experiments/, which brings the model; "" for the params as they are.
        model: one that is embedded there; "" for the first of run.selected.
        with_frames: bring the stored frames too.

    Raises:
        InputError: there is no such experiment or model, the project is not committed, or a stage has failed.
    """
    chosen = load_experiment(experiment) if experiment else Experiment("params", "", (), None, (), None)
    if chosen.vary or chosen.seeds:
        raise InputError(f"--experiment {experiment}: a study, of several runs; name an experiment that is none")
    params, option = read_mapping(Path("params.yaml")), Layer("--dataset", {"dataset": dataset})
    run = with_layers(resolve(chosen, params), [option])["run"]
    model = model or next(iter([*run["selected"], *run["embedded"]]), "")
    if model not in run["embedded"]:
        raise InputError(
            f"--model {model}: is not embedded there; there are {', '.join(run['embedded']) or 'none'}, and another "
            "one comes with --experiment"
        )
    embeddings = Path("data/embeddings") / f"{dataset}-{model}"
    outs = [Path("data/raw") / dataset, Path("models/backbones") / model, embeddings]
    frames = Path("data/frames") / dataset
    outs += [frames] if with_frames or frames.exists() else []
    if all(out.exists() for out in outs) and not is_outdated(dataset, model):
        return model
    commit, version = dvc_queue.current_commit(dataset), _version(dataset)
    (whole,), _ = planned_runs(chosen, params, option)
    for_search = Layer("search", {**option.settings, "sample_frames.max_skip_fraction": 1.0})
    (part,), _ = planned_runs(replace(chosen, variant="search"), params, for_search)
    done = dvc_queue.finished_experiments(commit)
    revision = done.get(whole.name) or done.get(part.name)
    if revision is None:
        targets = [f"embed@{model}"]
        print(shlex.join(["dvc", *dvc_queue.exp_command(part, "--temp", targets)]), file=sys.stderr, flush=True)
        dvc_queue.run_beside(part, targets, silent=True)
        revision = dvc_queue.finished_experiments(commit).get(part.name)
    if revision is None:
        raise InputError(
            f"{embeddings}: not built, as a stage has failed (above); mend that, then the same command again"
        )
    _bring(revision, outs)
    write_json(MADE_OF / f"{dataset}-{model}.json", version)
    return model


def is_outdated(dataset: str, model: str) -> bool:
    """Whether the embeddings were made here for a search, of another version of the dataset than is added now."""
    made_of = MADE_OF / f"{dataset}-{model}.json"
    return made_of.is_file() and read_json(made_of) != _version(dataset)


def _version(dataset: str) -> str | None:
    """What git knows of its folder: experiments see that."""
    folder = f"data/sources/{dataset}"
    return dvc_queue._git("ls-files", "--stage", "--", folder, f"{folder}.dvc")


def _bring(revision: str, outs: Sequence[Path]) -> None:
    """Copy outs of an experiment from dvc's cache."""
    from dvc.api import DVCFileSystem
    from dvc.exceptions import DvcException

    files = DVCFileSystem(".", rev=revision)
    for out in outs:
        try:
            with atomic_folder(out) as partial:
                files.get(out.as_posix(), str(partial / "out"), recursive=True)
                for path in (partial / "out").iterdir():
                    path.rename(partial / path.name)
                (partial / "out").rmdir()
        except (DvcException, OSError) as error:
            raise InputError(f"{out}: not in dvc's cache ({' '.join(str(error).split())}); dvc exp pull it") from None
