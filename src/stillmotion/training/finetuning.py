"""Contrastive fine-tuning of a backbone on videos and their texts.

Source: Lindgren 2023 (papers/video-embeddings.txt), sections 3.1.4 and 3.2.3; METHODS.md section 4.

Shapes: B pairs, S of them embedded by this process, V validation pairs, F frames of a pair, D embedding dimensions.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from stillmotion.adaptation.patch_dropout import PatchDropout
from stillmotion.adaptation.recipe import apply_recipe
from stillmotion.backbones.backbone import Backbone
from stillmotion.memo import Memo
from stillmotion.metrics.retrieval import rank_queries
from stillmotion.params.training import RecipeParams
from stillmotion.training.contrastive import embed_in_parts, shuffled_batches
from stillmotion.training.loop import FitSettings, Fitted, fit
from stillmotion.training.pairs import Pair
from stillmotion.training.processes import ALONE, Processes
from stillmotion.training.similarity import Similarity, similarity_of
from stillmotion.video.packed import PackedFrames

VALIDATION_BATCH = 32
_log = logging.getLogger("stillmotion")


@dataclass(frozen=True)
class FineTuning:
    """A backbone, the frames and the pairs that a recipe trains it on."""

    backbone: Backbone
    frames: PackedFrames
    train: Sequence[Pair]
    validation: Sequence[Pair]
    recipe: RecipeParams
    processes: Processes = ALONE

    @property
    def similarity(self) -> Similarity:
        return similarity_of(self.recipe)

    def pixels(self, pair: Pair, rng: np.random.Generator | None) -> torch.Tensor:
        """The frames that stand for a pair: (F, 3, h, w); random ones in training, with `rng`."""
        frames = self.frames.span(pair.video_id, pair.start, pair.end, self.recipe.num_frames, rng=rng)
        return self.backbone.pixels(frames)

    def loss(self, dropout: PatchDropout, batches: list[torch.Tensor], epoch: int, step: int) -> torch.Tensor:
        """The loss of one step, a function of epoch and step alone."""
        items = batches[step].tolist()

        def embed(rows: range) -> tuple[torch.Tensor, torch.Tensor]:
            part = items[rows.start : rows.stop]
            pixels = [
                self.pixels(self.train[item], np.random.default_rng([self.recipe.seed, epoch, item])) for item in part
            ]
            dropout.draw([self.recipe.seed, epoch, step], self.recipe.num_frames, first_clip=rows.start)
            self.backbone.draw_paths([self.recipe.seed, epoch, step], first_clip=rows.start)
            # Entered anew for each part: autocast keeps copies of the weights, and their gradients would add up
            # over the parts in the lower precision.
            with self.processes.autocast():
                return self._embed(pixels, [self.train[item].text for item in part])

        parts = embed_in_parts(embed, self.processes.share(len(items)), part_size=self.recipe.micro_batch_size)
        videos, texts = (self._gather(rows, len(items)) for rows in parts)
        return self.similarity.loss(videos, texts, self.processes.own_once(self.backbone.logit_scale))

    def _embed(self, pixels: list[torch.Tensor], texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        return self.similarity.embed(self.backbone, torch.stack(pixels), self.backbone.tokens(texts))

    def _gather(self, rows: torch.Tensor, num_rows: int) -> torch.Tensor:
        """All processes' rows (num_rows, …) of this one's (S, …)."""
        return self.processes.gather(rows.flatten(1), num_rows).unflatten(1, rows.shape[1:])

    @torch.no_grad()
    def validation_recall(self) -> float:
        """Text-to-video R@1 on the validation pairs, in percent, by what the loss compares."""
        self.backbone.eval()
        share = self.processes.share(len(self.validation))
        embedded = []
        # A process without a share embeds a pair too, for the shapes, and leaves it out.
        stop = max(share.stop, share.start + 1)
        for first in range(share.start, stop, VALIDATION_BATCH):
            batch = self.validation[first : min(first + VALIDATION_BATCH, stop)]
            with self.processes.autocast():
                embedded.append(self._embed([self.pixels(pair, None) for pair in batch], [pair.text for pair in batch]))
        videos, texts = (
            self._gather(torch.cat(rows)[: len(share)], len(self.validation)) for rows in zip(*embedded, strict=True)
        )
        scores = self.similarity.scores(videos, texts).cpu().numpy()
        self.backbone.train()
        diagonal = np.arange(len(scores))
        return float(100 * (rank_queries(scores, np.stack([diagonal, diagonal], axis=1)).ranks_Q <= 1).mean())


def finetune(task: FineTuning, *, memo: Memo, key: dict[str, Any]) -> Fitted:
    """Fine-tune the task's backbone in place; it ends with the weights of the best epoch, in eval mode.

    Args:
        task: what to train on what.
        memo: where checkpoints go.
        key: what decides the outcome beside the recipe: frames, weights, code, device.

    Returns:
        History, with validation R@1 as the score where there are validation pairs.

    Raises:
        InputError: a process would have no pair of a batch, the backbone lacks what the recipe asks for, or the loss
            is not finite.
    """
    recipe, backbone = task.recipe, task.backbone
    dropout = apply_recipe(backbone, recipe)
    branch = backbone.branch_parameter_names()
    if not branch and recipe.branch_learning_rate_factor != 1:
        _log.warning("no STAN branch: branch_learning_rate_factor plays no part")
    batches_of: dict[int, list[torch.Tensor]] = {}

    def loss_at(epoch: int, step: int) -> torch.Tensor:
        if epoch not in batches_of:
            batches_of.clear()
            batches_of[epoch] = shuffled_batches(len(task.train), recipe.batch_size, seed=recipe.seed, epoch=epoch)
        return task.loss(dropout, batches_of[epoch], epoch, step)

    batches = shuffled_batches(len(task.train), recipe.batch_size, seed=recipe.seed, epoch=0)
    if len(batches[0]) < task.processes.count:
        task.processes.fail(
            f"params.yaml: a batch has {len(batches[0])} pairs for {task.processes.count} processes; raise batch_size "
            "or start fewer (STILLMOTION_DEVICES)"
        )
    settings = FitSettings(
        epochs=recipe.epochs,
        steps_per_epoch=len(batches),
        learning_rate=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        warmup_fraction=recipe.warmup_fraction,
        gradient_clip=recipe.gradient_clip,
        optimizer=recipe.optimizer,
        rate_factors=dict.fromkeys(branch, recipe.branch_learning_rate_factor),
    )
    backbone.train()
    score = task.validation_recall if task.validation else None
    fitted = fit(
        backbone,
        loss_at,
        settings,
        label="fine-tuning",
        memo=memo,
        key=key | {"recipe": recipe.model_dump()},
        score=score,
        processes=task.processes,
    )
    backbone.load_state_dict(fitted.best, strict=False)
    backbone.eval()
    return fitted
