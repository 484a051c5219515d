"""Stage optimise_thresholds: search the thresholds of a moment selection on the train split.

    python src/optimise_thresholds.py --selection vc1_none --raw data/raw/toy/tables \
        --embeddings data/embeddings/toy-small_clip --output models/thresholds/small_clip-vc1_none

Reads moments and embeddings of the train split only. Writes thresholds.json (the best values, null where the
dataset has no moments to search on, and the importances of the parameters), trials.jsonl (the study) and
sensitivity.jsonl (the objective where one parameter leaves its best value and the others keep theirs).
"""

import stillmotion.config.capped

import logging
from pathlib import Path
from typing import Annotated

import typer

from stillmotion.config.loading import load_params
from stillmotion.embedding.reader import Embeddings
from stillmotion.io.atomic import atomic_folder
from stillmotion.io.records import Moment, load_records
from stillmotion.io.tables import write_json, write_rows
from stillmotion.moments.objective import Objective
from stillmotion.moments.queries import embedded_queries
from stillmotion.moments.sensitivity import sensitivity
from stillmotion.moments.threshold_search import search_thresholds
from stillmotion.stage import run_stage

_log = logging.getLogger("stillmotion")


def main(
    selection: Annotated[str, typer.Option(help="key of `selections` in params.yaml")],
    raw: Annotated[Path, typer.Option(help="tables of the dataset")],
    embeddings: Annotated[Path, typer.Option(help="embeddings of the dataset by one model")],
    output: Annotated[Path, typer.Option(help="folder of the thresholds and the study")],
) -> None:
    """Search the thresholds of one selection."""
    params = load_params()
    chosen = params.selections[selection]
    moments = load_records(raw, Moment)
    train = embedded_queries(Embeddings(embeddings), moments, "train", params.sample_frames.clip_length_s)
    settings = params.optimise_thresholds
    if train is None:
        _log.warning("the train split has no moments: no thresholds, an empty result")
        summary, trials, rows = None, [], []
    else:
        objective = Objective(train, chosen)
        study = search_thresholds(objective, settings)
        _log.info("best %s on train: %.2f with %s", chosen.objective, study.best_value, study.best)
        summary, trials = study.summary(chosen), study.trials
        rows = sensitivity(objective, objective.ranges, study.best, num_points=settings.sensitivity_points)
    with atomic_folder(output) as partial:
        write_json(partial / "thresholds.json", summary)
        write_rows(partial / "trials.jsonl", trials)
        write_rows(partial / "sensitivity.jsonl", rows)


if __name__ == "__main__":
    run_stage(main)
