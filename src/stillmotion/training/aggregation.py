"""Training of aggregators over frozen embeddings.

Source: Lindgren 2023 (papers/video-embeddings.txt), section 3.1.5 and table 3.4.

Shapes: N pairs, B of them in a batch, C clips, D embedding dimensions.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
import torch

from stillmotion.backbones.compute import exponential
from stillmotion.io.embeddings import Embeddings
from stillmotion.memo import Memo
from stillmotion.metrics.retrieval import QueryRanks, rank_queries
from stillmotion.params.training import TrainAggregatorParams
from stillmotion.records import Caption
from stillmotion.stage import Progress
from stillmotion.training.contrastive import contrastive_loss, shuffled_batches
from stillmotion.training.loop import FitSettings, Fitted, fit


@dataclass(frozen=True)
class RetrievalPairs:
    """The captions of whole videos in one split, with the videos they belong to."""

    clips_VCD: np.ndarray
    """Clip embeddings of the split's captioned videos."""
    texts_ND: np.ndarray
    video_of_N: np.ndarray
    """Row in clips_VCD of each text's video."""
    video_ids: list[str]
    captions: list[Caption]
    missing: list[Caption]
    """Captions of videos of the split that could not be decoded."""
    logit_scale: float

    def __len__(self) -> int:
        return len(self.texts_ND)

    @property
    def relevance(self) -> np.ndarray:
        """(N, 2) each text with its video."""
        return np.stack([np.arange(len(self)), self.video_of_N], axis=1)


def retrieval_pairs(
    embedded: Embeddings,
    captions: Sequence[Caption],
    split: str,
    splits: dict[str, str] | None = None,
    *,
    num_clips: int,
) -> RetrievalPairs:
    """The whole-video captions of a split.

    Args:
        embedded: embeddings of the dataset.
        captions: all captions, in the order of captions.jsonl.
        split: train, validation or test.
        splits: split of every video, by video_id, decoded or not; with it, `missing` is filled.
        num_clips: how many clips stand for a video.
    """
    videos = {video.video_id: row for row, video in enumerate(embedded.videos) if video.split == split}
    whole = [(row, caption) for row, caption in enumerate(captions) if caption.start is None]
    kept = [(row, caption) for row, caption in whole if caption.video_id in videos]
    missing = [
        caption
        for _, caption in whole
        if splits and splits.get(caption.video_id) == split and caption.video_id not in videos
    ]
    video_ids = sorted({caption.video_id for _, caption in kept})
    position = {video_id: place for place, video_id in enumerate(video_ids)}
    return RetrievalPairs(
        clips_VCD=embedded.clips(num_clips)[[videos[video_id] for video_id in video_ids]],
        texts_ND=embedded.captions[[row for row, _ in kept]],
        video_of_N=np.array([position[caption.video_id] for _, caption in kept], dtype=np.int64),
        video_ids=video_ids,
        captions=[caption for _, caption in kept],
        missing=missing,
        logit_scale=float(embedded.model["logit_scale"]),
    )


def retrieval_protocol(pairs: RetrievalPairs, *, ties: str, truncated: dict[str, int]) -> dict[str, Any]:
    """What a metrics file says of its queries and its gallery.

    Args:
        pairs: of the test split, with `missing` filled.
        ties: the rule.
        truncated: number of cut texts by kind, as the embeddings say.
    """
    return {
        "split": "test",
        "num_queries": len(pairs),
        "gallery_size": len(pairs.video_ids),
        "missing_videos": len({caption.video_id for caption in pairs.missing}),
        "missing_queries": len(pairs.missing),
        "ties": ties,
        "captions": "each caption of a whole video is a query; uncaptioned videos are not in the gallery",
        "truncated_captions": truncated.get("captions", 0),
    }


def rank_rows(
    pairs: RetrievalPairs, ranks: dict[str, list[QueryRanks]], negatives_QK: np.ndarray
) -> list[dict[str, Any]]:
    """The rows of ranks.jsonl: each text with its rank by seed and the videos that it is most mistaken for.

    Args:
        pairs: the queries.
        ranks: for each number of clips, the last one the largest, the ranks of each seed.
        negatives_QK: rows of the gallery, -1 where there are no more.
    """
    by_clips = {clips: np.stack([run.ranks_Q for run in runs], axis=1).tolist() for clips, runs in ranks.items()}
    most_clips = list(by_clips)[-1]
    return [
        {
            "caption_id": caption.caption_id,
            "video_id": caption.video_id,
            "text": caption.text,
            "rank": by_clips[most_clips][row],
            "rank_by_num_clips": {clips: values[row] for clips, values in by_clips.items()},
            "hardest_negatives": [pairs.video_ids[video] for video in negatives_QK[row] if video >= 0],
        }
        for row, caption in enumerate(pairs.captions)
    ]


class _ScaledAggregator(torch.nn.Module):
    """An aggregator with the inverse temperature that is learned beside it."""

    def __init__(self, aggregator: torch.nn.Module, logit_scale: float):
        super().__init__()
        self.aggregator = aggregator
        self.log_scale = torch.nn.Parameter(torch.tensor(math.log(logit_scale)))


@torch.no_grad()
def aggregate(aggregator: torch.nn.Module, clips_VCD: np.ndarray) -> np.ndarray:
    """Video embeddings (V, D) of clip embeddings (V, C, D)."""
    device = next((value.device for value in aggregator.parameters()), torch.device("cpu"))
    return aggregator.eval()(torch.from_numpy(np.array(clips_VCD)).to(device)).cpu().numpy()


@dataclass(frozen=True)
class AggregatorTraining:
    """One training of an aggregator."""

    aggregator: torch.nn.Module
    """It is trained in place."""
    train: RetrievalPairs
    validation: RetrievalPairs
    """Text-to-video R@1 on these chooses the epoch; with none, the last one is kept."""
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
        return contrastive_loss(
            aggregator(clips[video_of[items]]), texts[items], exponential(module.log_scale).clamp(max=100.0)
        )

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
        score=validation_recall if len(validation) else None,
        silent=True,
    )
    prefix = "aggregator."
    best = {name[len(prefix) :]: value for name, value in fitted.best.items() if name.startswith(prefix)}
    aggregator.load_state_dict(best)
    return Fitted(best=best, best_epoch=fitted.best_epoch, history=fitted.history)
