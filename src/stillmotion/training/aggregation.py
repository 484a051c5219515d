"""Training of aggregators over frozen embeddings.

Source: Lindgren 2023 (papers/video-embeddings.txt), section 3.1.5 and table 3.4.

Shapes: N pairs, B of them in a batch, C clips, D embedding dimensions.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock

import numpy as np
import torch

from stillmotion.backbones.compute import inverse_temperature
from stillmotion.config.training import TrainAggregatorParams
from stillmotion.io.memo import Memo
from stillmotion.metrics.retrieval import rank_queries
from stillmotion.retrieval.aggregators import aggregate
from stillmotion.retrieval.pairs import RetrievalPairs
from stillmotion.stage import Progress
from stillmotion.training.contrastive import contrastive_loss, shuffled_batches
from stillmotion.training.loop import FitSettings, Fitted, fit


class _ScaledAggregator(torch.nn.Module):
    """An aggregator with the inverse temperature that is learned beside it."""

    def __init__(self, aggregator: torch.nn.Module, logit_scale: float):
        super().__init__()
        self.aggregator = aggregator
        self.log_scale = torch.nn.Parameter(torch.tensor(math.log(logit_scale)))


@dataclass(frozen=True)
class AggregatorTraining:
    """One training of an aggregator."""

    aggregator: torch.nn.Module
    """It is trained in place."""
    train: RetrievalPairs
    validation: RetrievalPairs
    """Text-to-video R@1 on these chooses the epoch; with fewer than two videos, the last one is kept."""
    seed: int
    """Of the order of the pairs."""

    def __str__(self) -> str:
        return f"training the aggregator, {self.train.clips_VCD.shape[1]} clips, seed {self.seed}"


def fit_aggregators(
    trainings: Sequence[AggregatorTraining], params: TrainAggregatorParams, *, at_once: int
) -> Iterator[Fitted]:
    """Train aggregators with symmetric InfoNCE; texts stay as they are.

    On a CPU each has one thread, as small matrices gain more from another training beside them than from another
    thread; so what a training ends with does not depend on `at_once`, or on how many threads there are.

    Args:
        trainings: each by itself.
        params: length and rates.
        at_once: how many run at a time.

    Yields:
        The aggregator's tensors of the best epoch, and the history, in the order of the trainings.

    Raises:
        InputError: a loss is not finite.
    """
    if not trainings:
        return
    threads = torch.get_num_threads()
    pool, lock = ThreadPoolExecutor(at_once, initializer=_take_one_thread), Lock()
    steps = params.epochs * sum(_steps_an_epoch(training, params) for training in trainings)
    try:
        with Progress(f"steps of training {len(trainings)} aggregators", steps) as progress:

            def advance() -> None:
                with lock:
                    progress.advance()

            yield from pool.map(lambda training: _fit_aggregator(training, params, advance), trainings)
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)


def _take_one_thread() -> None:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # as prepare_torch has it for the thread that it is called in


def _steps_an_epoch(training: AggregatorTraining, params: TrainAggregatorParams) -> int:
    return len(shuffled_batches(len(training.train), params.batch_size, seed=training.seed, epoch=0))


def _fit_aggregator(training: AggregatorTraining, params: TrainAggregatorParams, advance: Callable[[], None]) -> Fitted:
    """Train one; `advance` is called at each step."""
    aggregator, train, validation, seed = training.aggregator, training.train, training.validation, training.seed
    module = _ScaledAggregator(aggregator, train.logit_scale)
    device = next(aggregator.parameters()).device
    module.to(device)
    clips = torch.from_numpy(np.array(train.clips_VCD)).to(device)
    texts = torch.from_numpy(np.array(train.texts_ND)).to(device)
    video_of = torch.from_numpy(train.video_of_N).to(device)

    def loss_at(epoch: int, step: int) -> torch.Tensor:
        items = shuffled_batches(len(train), params.batch_size, seed=seed, epoch=epoch)[step].to(device)
        aggregator.train()
        advance()
        return contrastive_loss(aggregator(clips[video_of[items]]), texts[items], inverse_temperature(module.log_scale))

    def validation_recall() -> float:
        scores = validation.texts_ND @ aggregate(aggregator, validation.clips_VCD).T
        return float(100 * (rank_queries(scores, validation.relevance).ranks_Q <= 1).mean())

    settings = FitSettings(
        epochs=params.epochs,
        steps_per_epoch=_steps_an_epoch(training, params),
        learning_rate=params.learning_rate,
        weight_decay=params.weight_decay,
        warmup_fraction=params.warmup_fraction,
        gradient_clip=params.gradient_clip,
    )
    fitted = fit(
        module,
        loss_at,
        settings,
        label=str(training),
        memo=Memo(None),
        key={},
        score=validation_recall if len(validation.video_ids) > 1 else None,
        silent=True,
    )
    prefix = "aggregator."
    best = {name[len(prefix) :]: value for name, value in fitted.best.items() if name.startswith(prefix)}
    aggregator.load_state_dict(best)
    return Fitted(best=best, best_epoch=fitted.best_epoch, history=fitted.history)
