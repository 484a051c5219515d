"""Contrastive fine-tuning of a backbone on videos and their texts.

Source: Lindgren 2023 (papers/video-embeddings.txt), sections 3.1.4 and 3.2.3; METHODS.md section 4.

Shapes: B pairs, S of them embedded by this process, V validation pairs, F frames of a pair, D embedding dimensions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from stillmotion.adaptation.freezing import freeze
from stillmotion.adaptation.patch_dropout import PatchDropout
from stillmotion.backbones.backbone import Backbone
from stillmotion.memo import Memo
from stillmotion.metrics.retrieval import rank_queries
from stillmotion.params.training import RecipeParams
from stillmotion.training.contrastive import contrastive_loss, embed_in_parts, shuffled_batches
from stillmotion.training.loop import FitSettings, Fitted, fit
from stillmotion.training.pairs import Pair
from stillmotion.training.processes import ALONE, Processes
from stillmotion.video.packed import PackedFrames

VALIDATION_BATCH = 32


@dataclass(frozen=True)
class FineTuning:
    """A backbone, the frames and the pairs that a recipe trains it on."""

    backbone: Backbone
    frames: PackedFrames
    train: Sequence[Pair]
    validation: Sequence[Pair]
    recipe: RecipeParams
    processes: Processes = ALONE

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
                videos_SD = self.backbone.embed_clips(torch.stack(pixels))
                texts_SD = self.backbone.embed_texts(self.backbone.tokens([self.train[item].text for item in part]))
            return videos_SD, texts_SD

        videos_SD, texts_SD = embed_in_parts(
            embed, self.processes.share(len(items)), part_size=self.recipe.micro_batch_size
        )
        videos_BD = self.processes.gather(videos_SD, len(items))
        texts_BD = self.processes.gather(texts_SD, len(items))
        return contrastive_loss(videos_BD, texts_BD, self.processes.own_once(self.backbone.logit_scale))

    @torch.no_grad()
    def validation_recall(self) -> float:
        """Text-to-video R@1 on the validation pairs, in percent."""
        self.backbone.eval()
        share = self.processes.share(len(self.validation))
        videos = [torch.empty(0, self.backbone.dim, device=self.backbone.device)]
        texts = list(videos)
        for first in range(share.start, share.stop, VALIDATION_BATCH):
            batch = self.validation[first : min(first + VALIDATION_BATCH, share.stop)]
            with self.processes.autocast():
                videos.append(self.backbone.embed_clips(torch.stack([self.pixels(pair, None) for pair in batch])))
                texts.append(self.backbone.embed_texts(self.backbone.tokens([pair.text for pair in batch])))
        videos_VD, texts_VD = (self.processes.gather(torch.cat(rows), len(self.validation)) for rows in (videos, texts))
        scores = (texts_VD @ videos_VD.T).cpu().numpy()
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
        InputError: a process would have no pair of a batch, the layers can't be frozen so, or the loss is not
            finite.
    """
    recipe, backbone = task.recipe, task.backbone
    freeze(backbone, embeddings=recipe.freeze_embeddings, blocks=recipe.frozen_blocks)
    dropout = PatchDropout(recipe.patch_keep_rate, recipe.patch_sampling)
    backbone.set_patch_dropout(dropout)
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
