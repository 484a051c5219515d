"""Fine-tuning of a backbone on videos and their texts, contrastive but for what training/recognition.py makes of it.

Source: Lindgren 2023 (papers/video-embeddings.txt), sections 3.1.4 and 3.2.3; METHODS.md section 4.

Shapes: B pairs, S of them embedded by this process, V validation pairs, F frames of a pair, D embedding dimensions.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from stillmotion.backbones.backbone import Backbone
from stillmotion.backbones.lora import draw_inputs
from stillmotion.config.training import SeededRecipe
from stillmotion.io.memo import Memo
from stillmotion.metrics.retrieval import rank_queries
from stillmotion.training.contrastive import embed_in_parts, shuffled_batches
from stillmotion.training.loop import FitSettings, Fitted, fit
from stillmotion.training.pairs import Pair
from stillmotion.training.patch_dropout import PatchDropout
from stillmotion.training.processes import ALONE, Processes
from stillmotion.training.recipe import apply_recipe
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
    recipe: SeededRecipe
    processes: Processes = ALONE

    @property
    def similarity(self) -> Similarity:
        return similarity_of(self.recipe, self.backbone, self.processes.own_once)

    @property
    def chooses_epoch(self) -> bool:
        """Whether the validation pairs tell one epoch from another: the R@1 of a single video is always 100."""
        return len({pair.video_id for pair in self.validation}) > 1

    def prepare(self) -> tuple[PatchDropout, list[str]]:
        """Freeze what the recipe freezes; the dropout to draw from, and names of what trains at a rate of its own."""
        dropout, branch = apply_recipe(self.backbone, self.recipe), self.backbone.branch_parameter_names()
        if not branch and self.recipe.branch_learning_rate_factor != 1:
            _log.warning("no STAN branch and no head: branch_learning_rate_factor plays no part")
        if self.recipe.loss_temperature != "learned" and self.backbone.pair_head is not None:
            _log.warning("a tight transformer's scores have no temperature: loss_temperature plays no part")
        return dropout, branch

    def draw(self, dropout: PatchDropout, epoch: int, step: int, first_clip: int) -> None:
        """Draw the patches and layers that the next part of a batch passes; `first_clip` is its place in the batch."""
        seed = [self.recipe.seed, epoch, step]
        dropout.draw(seed, self.recipe.num_frames, first_clip=first_clip)
        self.backbone.draw_paths(seed, first_clip=first_clip)

    def pixels(self, pair: Pair, rng: np.random.Generator | None) -> torch.Tensor:
        """The frames that stand for a pair: (F, 3, h, w); random ones in training, with `rng`."""
        frames = self.frames.span(pair.video_id, pair.start, pair.end, self.recipe.num_frames, rng=rng)
        return self.backbone.pixels(frames)

    def loss(self, dropout: PatchDropout, batches: list[torch.Tensor], epoch: int, step: int) -> torch.Tensor:
        """The loss of one step, a function of epoch and step alone."""
        items = batches[step].tolist()
        pairs = [self.train[item] for item in items]
        # Of dropouts that a model has of its own, as ConvNeXt and text towers of transformers do.
        torch.manual_seed(int(np.random.SeedSequence([self.recipe.seed, epoch, step]).generate_state(1)[0]))
        draw_inputs(self.backbone, [self.recipe.seed, epoch, step])

        def embed(rows: range) -> tuple[torch.Tensor, ...]:
            part = slice(rows.start, rows.stop)
            pixels = [
                self.pixels(pair, np.random.default_rng([self.recipe.seed, epoch, item]))
                for pair, item in zip(pairs[part], items[part], strict=True)
            ]
            self.draw(dropout, epoch, step, rows.start)
            # Entered anew for each part: autocast keeps copies of the weights, and their gradients would add up
            # over the parts in the lower precision.
            with self.processes.autocast():
                return self.embed(torch.stack(pixels), pairs[part])

        parts = embed_in_parts(embed, self.processes.share(len(items)), part_size=self.recipe.micro_batch_size)
        embedded = tuple(self._gather(rows, len(items)) for rows in parts)
        return self.loss_of(embedded, pairs, self.processes.own_once(self.backbone.logit_scale))

    def embed(self, pixels: torch.Tensor, pairs: Sequence[Pair]) -> tuple[torch.Tensor, ...]:
        """What is compared of pairs with pixels (S, F, 3, h, w), a row each: their videos (S, …) and texts (S, …)."""
        return self.similarity.embed(self.backbone, pixels, self.backbone.tokens([pair.text for pair in pairs]))

    def loss_of(
        self, embedded: tuple[torch.Tensor, ...], pairs: Sequence[Pair], logit_scale: torch.Tensor
    ) -> torch.Tensor:
        """The loss of a whole batch, of which every process has all that `embed` has made."""
        if len(pairs) < 2:
            self.processes.fail(
                "params.yaml: batch_size of a recipe is 1, and a pair is told apart from the others of its batch; set "
                "2 or more, and micro_batch_size to how many are embedded at once"
            )
        videos, texts = embedded
        return self.similarity.loss(videos, texts, logit_scale)

    def score_of(self, embedded: tuple[torch.Tensor, ...], pairs: Sequence[Pair]) -> float:
        """Text-to-video R@1 in percent, by what the loss compares; a video of several texts stands there once."""
        videos, texts = embedded
        clips = [(pair.video_id, pair.start, pair.end) for pair in pairs]
        place_of = {clip: place for place, clip in enumerate(dict.fromkeys(clips))}
        own_V = np.array([place_of[clip] for clip in clips])
        firsts = np.unique(own_V, return_index=True)[1]
        scores = self.similarity.scores(videos[torch.from_numpy(firsts).to(videos.device)], texts).cpu().numpy()
        right = np.stack([np.arange(len(scores)), own_V], axis=1)
        return float(100 * (rank_queries(scores, right).ranks_Q <= 1).mean())

    def _gather(self, rows: torch.Tensor, num_rows: int) -> torch.Tensor:
        """All processes' rows (num_rows, …) of this one's (S, …)."""
        return self.processes.gather(rows.flatten(1), num_rows).unflatten(1, rows.shape[1:])

    @torch.no_grad()
    def validation_score(self) -> float:
        """`score_of` the validation pairs, with the middle frames and all patches."""
        self.backbone.eval()
        share = self.processes.share(len(self.validation))
        embedded = []
        # A process without a share embeds a pair too, for the shapes, and leaves it out.
        stop = max(share.stop, share.start + 1)
        for first in range(share.start, stop, VALIDATION_BATCH):
            batch = self.validation[first : min(first + VALIDATION_BATCH, stop)]
            with self.processes.autocast():
                embedded.append(self.embed(torch.stack([self.pixels(pair, None) for pair in batch]), batch))
        whole = tuple(
            self._gather(torch.cat(rows)[: len(share)], len(self.validation)) for rows in zip(*embedded, strict=True)
        )
        score = self.score_of(whole, self.validation)
        self.backbone.train()
        return score


def finetune(task: FineTuning, *, memo: Memo, key: dict[str, Any]) -> Fitted:
    """Fine-tune the task's backbone in place; it ends with the weights of the best epoch, in eval mode.

    Args:
        task: what to train on what.
        memo: where checkpoints go.
        key: what decides the outcome beside the recipe: frames, weights, code, device.

    Returns:
        History, with the validation score where that chooses the epoch.

    Raises:
        InputError: a process would have no pair of a batch, the backbone lacks what the recipe asks for, or the loss
            is not finite.
    """
    recipe, backbone = task.recipe, task.backbone
    dropout, branch = task.prepare()
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
    score = task.validation_score if task.chooses_epoch else None
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
