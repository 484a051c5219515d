"""Stage train_aggregator: fuse the embeddings of a video's clips into one, over frozen embeddings.

    python src/train_aggregator.py --scorer transformer_mean --raw data/raw/toy/tables \
        --embeddings data/embeddings/toy-small_clip --output models/aggregators/small_clip-transformer_mean \
        --plot plots/train_aggregator/small_clip-transformer_mean.json

Reads clip and caption embeddings of the train split, and of the validation split to choose the epoch. Writes
clips-C/seed-N.safetensors for each number of clips and each seed (none where the scorer has nothing to train),
aggregator.json with the sizes, and the history for `dvc plots`.
"""

import stillmotion.config.capped

import logging
from pathlib import Path
from typing import Annotated, Any

import typer

from stillmotion.config.environment import Environment, read_environment
from stillmotion.config.loading import load_params
from stillmotion.config.scorers import TrainedParams
from stillmotion.config.training import TrainAggregatorParams
from stillmotion.embedding.reader import Embeddings
from stillmotion.io.atomic import atomic_folder
from stillmotion.io.records import Caption, load_records
from stillmotion.io.tables import write_json
from stillmotion.retrieval.pairs import RetrievalPairs, retrieval_pairs
from stillmotion.stage import importing, run_stage

_log = logging.getLogger("stillmotion")


def main(
    scorer: Annotated[str, typer.Option(help="key of `scorers` in params.yaml")],
    raw: Annotated[Path, typer.Option(help="tables of the dataset")],
    embeddings: Annotated[Path, typer.Option(help="embeddings of the dataset by one model")],
    output: Annotated[Path, typer.Option(help="folder of the aggregator")],
    plot: Annotated[Path, typer.Option(help="history of the training")],
) -> None:
    """Train what a scorer has to train: an aggregator, once for each number of clips and each seed."""
    params = load_params()
    environment = read_environment()
    chosen = params.scorers[scorer]
    embedded = Embeddings(embeddings)
    captions = load_records(raw, Caption)
    clip_counts = embedded.clip_counts
    seeds: list[int] = []
    selected_on = "nothing"
    history: list[dict[str, Any]] = []
    trained: list[tuple[RetrievalPairs, RetrievalPairs]] = []
    with atomic_folder(output) as partial:
        for num_clips in clip_counts:
            train = retrieval_pairs(embedded, captions, "train", num_clips=num_clips)
            validation = retrieval_pairs(embedded, captions, "validation", num_clips=num_clips)
            _log.info("%d clips: %d training pairs, %d validation pairs", num_clips, len(train), len(validation))
            if not isinstance(chosen, TrainedParams):
                _log.info("the scorer has nothing to train")
                break
            if len(train) < 2:
                _log.warning("fewer than two training pairs: nothing can be trained, the result is empty")
                break
            seeds = params.train_aggregator.seeds
            selected_on = "validation" if len(validation) else "last epoch"
            trained.append((train, validation))
        if trained and isinstance(chosen, TrainedParams):
            history = _train(partial, trained, chosen, params.train_aggregator, environment, params.threads)
        shape = {"dim": embedded.model["dim"], "clip_counts": clip_counts, "seeds": seeds, "selected_on": selected_on}
        origin = {"model": embedded.model["model"]}
        write_json(partial / "aggregator.json", chosen.model_dump() | shape | origin)
    write_json(plot, history, digits=6)


def _train(
    folder: Path,
    trained: list[tuple[RetrievalPairs, RetrievalPairs]],
    chosen: TrainedParams,
    settings: TrainAggregatorParams,
    environment: Environment,
    threads: int,
) -> list[dict[str, Any]]:
    """Train on each training and validation pairs with each seed; write the weights, and return the history."""
    with importing():
        from stillmotion.backbones.compute import prepare_torch
        from stillmotion.io.weights import save_tensors
        from stillmotion.retrieval.aggregators import build_aggregator
        from stillmotion.training.aggregation import AggregatorTraining, fit_aggregators
    device = prepare_torch(environment, threads)
    trainings = []
    for train, validation in trained:
        _, num_clips, dim = train.clips_VCD.shape
        for seed in settings.seeds:
            module = build_aggregator(chosen, dim=dim, num_clips=num_clips, seed=seed)
            trainings.append(AggregatorTraining(module.to(device), train, validation, seed))
    at_once = threads if device.type == "cpu" else 1
    history: list[dict[str, Any]] = []
    all_fitted = fit_aggregators(trainings, settings, at_once=at_once)
    for training, fitted in zip(trainings, all_fitted, strict=True):
        num_clips = training.train.clips_VCD.shape[1]
        save_tensors(folder / f"clips-{num_clips}" / f"seed-{training.seed}.safetensors", fitted.best)
        history += [{"num_clips": num_clips, "seed": training.seed, **row} for row in fitted.history]
    return history


if __name__ == "__main__":
    run_stage(main)
