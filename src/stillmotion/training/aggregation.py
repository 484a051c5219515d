"""Training of aggregators over frozen embeddings.

Source: Lindgren 2023 (papers/video-embeddings.txt), section 3.1.5 and table 3.4.

Shapes: N pairs, B of them in a batch, C clips, D embedding dimensions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from stillmotion.io.embeddings import Embeddings
from stillmotion.memo import Memo
from stillmotion.metrics.retrieval import rank_queries
from stillmotion.params import TrainAggregatorParams
from stillmotion.records import Caption
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


def retrieval_pairs(
    embedded: Embeddings, captions: Sequence[Caption], split: str, splits: dict[str, str] | None = None
) -> RetrievalPairs:
    """The whole-video captions of a split.

    Args:
        embedded: embeddings of the dataset.
        captions: all captions, in the order of captions.jsonl.
        split: train, validation or test.
        splits: split of every video, by video_id, decoded or not; with it, `missing` is filled.
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
        clips_VCD=embedded.clips[[videos[video_id] for video_id in video_ids]],
        texts_ND=embedded.captions[[row for row, _ in kept]],
        video_of_N=np.array([position[caption.video_id] for _, caption in kept], dtype=np.int64),
        video_ids=video_ids,
        captions=[caption for _, caption in kept],
        missing=missing,
        logit_scale=float(embedded.model["logit_scale"]),
    )


class _ScaledAggregator(torch.nn.Module):
    """An aggregator with the inverse temperature that is learned beside it."""

    def __init__(self, aggregator: torch.nn.Module, logit_scale: float):
        super().__init__()
        self.aggregator = aggregator
        self.log_scale = torch.nn.Parameter(torch.tensor(logit_scale).log())


@torch.no_grad()
def aggregate(aggregator: torch.nn.Module, clips_VCD: np.ndarray) -> np.ndarray:
    """Video embeddings (V, D) of clip embeddings (V, C, D)."""
    device = next((value.device for value in aggregator.parameters()), torch.device("cpu"))
    return aggregator.eval()(torch.from_numpy(np.array(clips_VCD)).to(device)).cpu().numpy()


def fit_aggregator(
    aggregator: torch.nn.Module,
    train: RetrievalPairs,
    validation: RetrievalPairs,
    params: TrainAggregatorParams,
    *,
    seed: int,
) -> Fitted:
    """Train an aggregator with symmetric InfoNCE; texts stay as they are.

    Args:
        aggregator: trained in place.
        train: what it is trained on.
        validation: text-to-video R@1 on these chooses the epoch; with none, the last one is kept.
        params: length and rates.
        seed: of the order of the pairs.

    Returns:
        The aggregator's tensors of the best epoch, and the history.
    """
    module = _ScaledAggregator(aggregator, train.logit_scale)
    device = next(aggregator.parameters()).device
    module.to(device)
    clips = torch.from_numpy(np.array(train.clips_VCD)).to(device)
    texts = torch.from_numpy(np.array(train.texts_ND)).to(device)
    video_of = torch.from_numpy(train.video_of_N).to(device)

    def loss_at(epoch: int, step: int) -> torch.Tensor:
        items = shuffled_batches(len(train), params.batch_size, seed=seed, epoch=epoch)[step].to(device)
        aggregator.train()
        return contrastive_loss(
            aggregator(clips[video_of[items]]), texts[items], module.log_scale.exp().clamp(max=100.0)
        )

    def validation_recall() -> float:
        scores = validation.texts_ND @ aggregate(aggregator, validation.clips_VCD).T
        pairs = np.stack([np.arange(len(validation)), validation.video_of_N], axis=1)
        return float(100 * (rank_queries(scores, pairs).ranks_Q <= 1).mean())

    settings = FitSettings(
        epochs=params.epochs,
        steps_per_epoch=len(shuffled_batches(len(train), params.batch_size, seed=seed, epoch=0)),
        learning_rate=params.learning_rate,
        weight_decay=params.weight_decay,
        warmup_fraction=params.warmup_fraction,
        gradient_clip=params.gradient_clip,
    )
    fitted = fit(
        module,
        loss_at,
        settings,
        label=f"training the aggregator, seed {seed}",
        memo=Memo(None),
        key={},
        score=validation_recall if len(validation) else None,
    )
    prefix = "aggregator."
    best = {name[len(prefix) :]: value for name, value in fitted.best.items() if name.startswith(prefix)}
    aggregator.load_state_dict(best)
    return Fitted(best=best, best_epoch=fitted.best_epoch, history=fitted.history)
