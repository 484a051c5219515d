"""Training of alignment heads on stored hidden states.

Source: Baba Ahmadi 2023 (papers/video-llama-retrieval.txt), sections 3.2 and 3.3, which print layers, rates, batches,
epochs and precision, but neither the margin of the contrastive loss nor a schedule; and InfoNCE within a batch.

Shapes: V videos of a split, M labelled pairs, B of them in a batch, O what a head makes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from stillmotion.backbones.compute import inverse_temperature
from stillmotion.config.scorers import HeadParams
from stillmotion.config.training import TrainAggregatorParams
from stillmotion.embedding.reader import Embeddings
from stillmotion.io.memo import Memo
from stillmotion.metrics.retrieval import rank_queries
from stillmotion.retrieval.alignment import AlignmentHead, HeadInputs, build_head, head_vectors, open_inputs
from stillmotion.retrieval.pairs import PairRows
from stillmotion.training.contrastive import contrastive_loss, shuffled_batches
from stillmotion.training.loop import FitSettings, Fitted, fit


@dataclass(frozen=True)
class LabelledPairs:
    """Videos and captions, as rows of what is stored, and which belong together."""

    videos_M: np.ndarray
    texts_M: np.ndarray
    labels_M: np.ndarray
    """1 where they do, else 0."""

    def __len__(self) -> int:
        return len(self.labels_M)


def draw_pairs(rows: PairRows, params: HeadParams, *, seed: int, epoch: int) -> LabelledPairs:
    """Pair each video with captions of its own and with others, a function of seed and epoch alone.

    A video with fewer captions than `positives` is paired with them again, so that as many pairs are right as wrong
    where the params say so; but not for infonce, where a pair that is there twice would be its own negative. Other
    videos' captions are drawn by drawing a video and then one of its captions, so a caption may come twice.

    Example:
        Two videos of one caption each with positives 2 and negatives 1 give six pairs: video 0 with its caption twice
        and with that of video 1, and the same of video 1.
    """
    texts_of = [np.flatnonzero(rows.pairs.video_of_N == video) for video in range(len(rows.videos_V))]
    rng = np.random.default_rng([seed, epoch if params.redraw else 0])
    found = []
    for video, own in enumerate(texts_of):
        if params.loss == "infonce":
            found += [(video, text, 1) for text in own[: params.positives]]
            continue
        found += [(video, own[number % len(own)], 1) for number in range(params.positives)]
        others = (video + rng.integers(1, len(texts_of), params.negatives)) % len(texts_of)
        found += [(video, texts_of[other][rng.integers(len(texts_of[other]))], 0) for other in others]
    table = np.array(found, dtype=np.int64).reshape(-1, 3)
    return LabelledPairs(np.array(rows.videos_V)[table[:, 0]], np.array(rows.texts_T)[table[:, 1]], table[:, 2])


def pair_loss(
    videos_BO: torch.Tensor, texts_BO: torch.Tensor, labels_B: torch.Tensor, params: HeadParams, log_scale: torch.Tensor
) -> torch.Tensor:
    """The loss of a batch of pairs of unit vectors.

    Args:
        videos_BO: unit vectors.
        texts_BO: unit vectors.
        labels_B: 1 where a row is a pair, else 0.
        params: `mse`: mean of (cosine - label)²; `contrastive`: mean of 1 - cosine where the label is 1 and of
            max(0, cosine - margin) where it is 0; `infonce`: symmetric cross entropy within the batch.
        log_scale: logarithm of the inverse temperature of infonce, at most 100 of which is taken.
    """
    if params.loss == "infonce":
        return contrastive_loss(videos_BO, texts_BO, inverse_temperature(log_scale))
    cosines_B = (videos_BO * texts_BO).sum(1)
    if params.loss == "mse":
        return functional.mse_loss(cosines_B, labels_B.to(cosines_B.dtype))
    return torch.where(labels_B == 1, 1 - cosines_B, functional.relu(cosines_B - params.margin)).mean()


@dataclass(frozen=True)
class HeadTraining:
    """One training of a head."""

    head: AlignmentHead
    """It is trained in place."""
    inputs: HeadInputs
    train: PairRows
    validation: PairRows
    """Text-to-video R@1 on these chooses the epoch; with fewer than two videos, the last one is kept."""
    seed: int
    """Of the order and the draw of the pairs, and of the dropout."""

    def _loss(self, pairs: LabelledPairs, items: Sequence[int]) -> torch.Tensor:
        params, inputs = self.inputs.params, self.inputs
        videos_BO = self.head.videos(*inputs.videos(pairs.videos_M[items].tolist()))
        texts_BO = self.head.texts(*inputs.texts(pairs.texts_M[items].tolist()))
        labels_B = torch.from_numpy(pairs.labels_M[items]).to(videos_BO.device)
        return pair_loss(videos_BO, texts_BO, labels_B, params, self.head.log_scale)

    @torch.no_grad()
    def _validation_loss(self, pairs: LabelledPairs) -> float:
        """Mean over whole batches, of the training's size but for a small split."""
        self.head.eval()
        batches = shuffled_batches(len(pairs), self.inputs.params.batch_size, seed=0, epoch=0)
        return float(np.mean([float(self._loss(pairs, items.tolist())) for items in batches]))

    def fit(self, settings: TrainAggregatorParams) -> Fitted:
        """Train it.

        Args:
            settings: weight decay, warm-up and clipping; the rest stands in the head's params.

        Returns:
            The tensors of the best epoch, and the history with `validation_loss` beside the score.

        Raises:
            InputError: the loss is not finite.
        """
        params, seed = self.inputs.params, self.seed

        @lru_cache(maxsize=1)
        def epoch_of(epoch: int) -> tuple[LabelledPairs, list[torch.Tensor]]:
            pairs = draw_pairs(self.train, params, seed=seed, epoch=epoch)
            return pairs, shuffled_batches(len(pairs), params.batch_size, seed=seed, epoch=epoch)

        def loss_at(epoch: int, step: int) -> torch.Tensor:
            pairs, batches = epoch_of(epoch)
            self.head.train()
            torch.manual_seed(int(np.random.SeedSequence([seed, epoch, step]).generate_state(1)[0]))  # of the dropout
            return self._loss(pairs, batches[step].tolist())

        validates = len(self.validation.videos_V) > 1
        held_out = draw_pairs(self.validation, params, seed=0, epoch=0) if validates else None
        losses: list[float] = []

        def score() -> float:
            assert held_out is not None
            losses.append(self._validation_loss(held_out))
            texts_TO, videos_VO = head_vectors(self.head, self.inputs, self.validation)
            ranks_Q = rank_queries(texts_TO @ videos_VO.T, self.validation.pairs.relevance).ranks_Q
            return float(100 * (ranks_Q <= 1).mean())

        fit_settings = FitSettings(
            epochs=params.epochs,
            steps_per_epoch=len(epoch_of(0)[1]),
            learning_rate=params.learning_rate,
            weight_decay=settings.weight_decay,
            warmup_fraction=settings.warmup_fraction,
            gradient_clip=settings.gradient_clip,
            schedule=params.schedule,
        )
        with torch.random.fork_rng(devices=[]):
            fitted = fit(
                self.head,
                loss_at,
                fit_settings,
                label=f"training the head, seed {seed}",
                memo=Memo(None),
                key={},
                score=score if validates else None,
            )
        self.head.load_state_dict(fitted.best, strict=False)
        history: list[dict[str, Any]] = fitted.history
        if losses:
            history = [row | {"validation_loss": loss} for row, loss in zip(history, losses, strict=True)]
        return Fitted(best=fitted.best, best_epoch=fitted.best_epoch, history=history)


def fit_heads(
    params: HeadParams,
    embedded: Embeddings,
    train: PairRows,
    validation: PairRows,
    settings: TrainAggregatorParams,
    device: torch.device,
) -> Iterator[tuple[int, Fitted]]:
    """Train a head with each seed of the settings, one after the other, as each has the generator of its dropout.

    Yields:
        The seed and what `HeadTraining.fit` returns.

    Raises:
        InputError: the embeddings do not hold what the head reads, or a loss is not finite.
    """
    inputs = open_inputs(params, embedded, train, device)
    for seed in settings.seeds:
        head = build_head(params, width=inputs.states.width, seed=seed).to(device)
        yield seed, HeadTraining(head, inputs, train, validation, seed).fit(settings)
