"""Stage linear_probe: few-shot logistic regression on the embeddings of labelled spans.

    python src/linear_probe.py --embeddings data/embeddings/toy-small_clip --output models/probes/small_clip

Reads span embeddings and labels of the train split (and of the validation split, to choose C). Writes
probes.jsonl (a row for each number of shots and seed) and weights.npy (probes × classes × D + 1, bias last).
A dataset without actions gets empty ones.
"""

import stillmotion.config.capped

import logging
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from stillmotion.actions.probing import Probe, fit_probe
from stillmotion.config.loading import load_params
from stillmotion.embedding.reader import Embeddings
from stillmotion.io.arrays import save_array
from stillmotion.io.atomic import atomic_folder
from stillmotion.io.tables import write_rows
from stillmotion.stage import Progress, run_stage

_log = logging.getLogger("stillmotion")


def main(
    embeddings: Annotated[Path, typer.Option(help="embeddings of the dataset by one model")],
    output: Annotated[Path, typer.Option(help="folder of the probes")],
) -> None:
    """Fit a probe for each number of shots and seed."""
    params = load_params()
    embedded = Embeddings(embeddings)
    train, train_labels = embedded.labelled_spans("train")
    validation, validation_labels = embedded.labelled_spans("validation")
    probes: list[Probe] = []
    if len(np.unique(train_labels)) < 2:
        _log.warning("fewer than two classes are embedded of the train split: no probe, an empty result")
    else:
        with Progress("fitting probes", len(params.linear_probe.shots) * len(params.linear_probe.seeds)) as progress:
            for shots in params.linear_probe.shots:
                for seed in params.linear_probe.seeds:
                    probe = fit_probe(
                        train,
                        train_labels,
                        validation,
                        validation_labels,
                        params.linear_probe,
                        num_classes=len(embedded.class_names),
                        shots=shots,
                        seed=seed,
                    )
                    probes.append(probe)
                    progress.advance()
    columns = ("shots", "seed", "num_samples", "c", "validation_top1")
    empty = np.zeros((0, len(embedded.class_names), train.shape[1] + 1))
    with atomic_folder(output) as partial:
        write_rows(partial / "probes.jsonl", [{name: getattr(probe, name) for name in columns} for probe in probes])
        save_array(partial / "weights.npy", np.stack([probe.weights_KD1 for probe in probes]) if probes else empty)


if __name__ == "__main__":
    run_stage(main)
