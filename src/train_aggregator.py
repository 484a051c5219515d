"""Stage train_aggregator: fuse the embeddings of a video's clips into one, or align a video LLM's hidden states.

    python src/train_aggregator.py --scorer transformer_mean --raw data/raw/toy/tables \
        --embeddings data/embeddings/toy-small_clip --output models/aggregators/small_clip-transformer_mean \
        --plot plots/train_aggregator/small_clip-transformer_mean.json

Reads clip and caption embeddings of the train split, and of the validation split to choose the epoch. Writes
clips-C/seed-N.safetensors for each number of clips and each seed (none where the scorer has nothing to train; of an
alignment head seed-N.safetensors), aggregator.json with the sizes, and the history for `dvc plots`.
"""

import stillmotion.config.capped

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stillmotion.config.environment import read_environment
from stillmotion.config.loading import load_params
from stillmotion.config.scorers import HeadParams, TrainedParams
from stillmotion.config.training import TrainAggregatorParams
from stillmotion.embedding.reader import Embeddings
from stillmotion.io.atomic import atomic_folder
from stillmotion.io.records import Caption, load_records
from stillmotion.io.tables import write_json
from stillmotion.retrieval.pairs import RetrievalPairs, pair_rows, retrieval_pairs
from stillmotion.stage import importing, run_stage

if TYPE_CHECKING:
    import torch

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
    with atomic_folder(output) as partial:
        by_clips = {
            num: [retrieval_pairs(embedded, captions, split, num_clips=num) for split in ("train", "validation")]
            for num in (clip_counts if isinstance(chosen, TrainedParams) else clip_counts[:1])
        }
        train, validation = by_clips[clip_counts[0]]
        _log.info("%d training pairs, %d validation pairs", len(train), len(validation))
        if not isinstance(chosen, TrainedParams | HeadParams):
            _log.info("the scorer has nothing to train")
        elif len(train.video_ids) < 2:
            _log.warning("fewer than two training videos: nothing can be trained, the result is empty")
        else:
            seeds = params.train_aggregator.seeds
            selected_on = "validation" if len(validation.video_ids) > 1 else "last epoch"
            with importing():
                from stillmotion.backbones.compute import prepare_torch
            device = prepare_torch(environment, params.threads)
            if isinstance(chosen, HeadParams):
                with importing():
                    from stillmotion.io.weights import save_tensors
                    from stillmotion.training.heads import fit_heads
                rows = [pair_rows(embedded, captions, pairs) for pairs in (train, validation)]
                for seed, fitted in fit_heads(chosen, embedded, rows[0], rows[1], params.train_aggregator, device):
                    save_tensors(partial / f"seed-{seed}.safetensors", fitted.best)
                    history += [{"num_clips": 1, "seed": seed, **row} for row in fitted.history]
            else:
                history = _train(partial, by_clips.values(), chosen, params.train_aggregator, device)
        shape = {"dim": embedded.model["dim"], "clip_counts": clip_counts, "seeds": seeds, "selected_on": selected_on}
        origin = {"model": embedded.model["model"]}
        write_json(partial / "aggregator.json", chosen.model_dump() | shape | origin)
    write_json(plot, history, digits=6)


def _train(
    folder: Path,
    trained: Iterable[list[RetrievalPairs]],
    chosen: TrainedParams,
    settings: TrainAggregatorParams,
    device: "torch.device",
) -> list[dict[str, Any]]:
    """Train on each training and validation pairs with each seed; write the weights, and return the history."""
    with importing():
        import torch

        from stillmotion.io.weights import save_tensors
        from stillmotion.retrieval.aggregators import build_aggregator
        from stillmotion.training.aggregation import AggregatorTraining, fit_aggregators
    trainings = []
    for train, validation in trained:
        _, num_clips, dim = train.clips_VCD.shape
        for seed in settings.seeds:
            module = build_aggregator(chosen, dim=dim, num_clips=num_clips, seed=seed)
            trainings.append(AggregatorTraining(module.to(device), train, validation, seed))
    at_once = torch.get_num_threads() if device.type == "cpu" else 1
    history: list[dict[str, Any]] = []
    all_fitted = fit_aggregators(trainings, settings, at_once=at_once)
    for training, fitted in zip(trainings, all_fitted, strict=True):
        num_clips = training.train.clips_VCD.shape[1]
        save_tensors(folder / f"clips-{num_clips}" / f"seed-{training.seed}.safetensors", fitted.best)
        history += [{"num_clips": num_clips, "seed": training.seed, **row} for row in fitted.history]
    return history


if __name__ == "__main__":
    run_stage(main)
