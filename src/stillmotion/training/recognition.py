"""Fine-tuning for recognition: a labelled span is told apart from all classes, whose names are texts.

Several spans of a batch are of one class, so the contrast between the pairs of a batch would call right answers wrong.

Source: Liu et al. 2023 (papers/mug-stan.txt), section III-D: the text encoder frozen, no template around a name.

Shapes: B spans, K classes, D embedding dimensions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch.nn import functional

from stillmotion.metrics.retrieval import rank_queries
from stillmotion.training.contrastive import embed_in_parts
from stillmotion.training.finetuning import FineTuning
from stillmotion.training.pairs import Pair


@dataclass(frozen=True)
class Recognition(FineTuning):
    """A fine-tuning whose pairs are labelled spans with the texts of their classes."""

    classes: Sequence[str] = ()
    """The texts of all classes, each once."""

    @property
    def chooses_epoch(self) -> bool:
        """Whether there are validation pairs: a single one tells too."""
        return bool(self.validation)

    def embed(self, pixels: torch.Tensor, pairs: Sequence[Pair]) -> tuple[torch.Tensor, ...]:
        """The spans alone, (S, D): their texts are those of the classes."""
        return (self.backbone.embed_clips(pixels),)

    def loss_of(
        self, embedded: tuple[torch.Tensor, ...], pairs: Sequence[Pair], logit_scale: torch.Tensor
    ) -> torch.Tensor:
        """Mean cross entropy of each span's cosines with all classes, times the scale."""
        (spans_BD,) = embedded
        # Every process embeds all classes.
        logits_BK = logit_scale * spans_BD @ self.processes.own_once(self._classes_KD()).T
        return functional.cross_entropy(logits_BK, torch.from_numpy(self._labels(pairs)).to(logits_BK.device))

    def score_of(self, embedded: tuple[torch.Tensor, ...], pairs: Sequence[Pair]) -> float:
        """Top-1 in percent, with the tie rule of metrics.classification: a class that ties with another is no hit."""
        (spans_BD,) = embedded
        scores = (spans_BD @ self._classes_KD().T).cpu().numpy()
        right = np.stack([np.arange(len(pairs)), self._labels(pairs)], axis=1)
        return float(100 * (rank_queries(scores, right).ranks_Q <= 1).mean())

    def _labels(self, pairs: Sequence[Pair]) -> np.ndarray:
        """Rows (B,) of the pairs' texts among the classes."""
        row_of = {text: row for row, text in enumerate(self.classes)}
        return np.array([row_of[pair.text] for pair in pairs], dtype=np.int64)

    def _classes_KD(self) -> torch.Tensor:
        return self._frozen_classes_KD if self.recipe.freeze_texts else self._embed_classes()

    @cached_property
    def _frozen_classes_KD(self) -> torch.Tensor:
        is_training = self.backbone.training
        self.backbone.eval()  # a text tower may have a dropout, which would be drawn once for all steps
        with torch.no_grad():
            classes_KD = self._embed_classes()
        self.backbone.train(is_training)
        return classes_KD

    def _embed_classes(self) -> torch.Tensor:
        """Unit vectors (K, D), in as much memory as the texts of one part of a batch take."""

        def embed(rows: range) -> tuple[torch.Tensor]:
            with self.processes.autocast():
                return (self.backbone.embed_texts(self.backbone.tokens(list(self.classes[rows.start : rows.stop]))),)

        return embed_in_parts(embed, range(len(self.classes)), part_size=self.recipe.micro_batch_size)[0]
