"""What a fine-tuning compares: videos and texts as one vector each, or as frames and tokens.

Shapes: B pairs, F frames of a pair, L tokens of a text, D embedding dimensions.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.func import functional_call
from torch.nn import functional

from stillmotion.backbones.backbone import Backbone
from stillmotion.config.training import RecipeParams
from stillmotion.errors import InputError
from stillmotion.retrieval.mug import Texts, Videos, score_pairs
from stillmotion.training.contrastive import contrastive_loss, contrastive_loss_of_scores


class Similarity(ABC):
    """How videos and texts are embedded, and what is made of the embeddings of a batch."""

    @abstractmethod
    def embed(
        self, backbone: Backbone, pixels: torch.Tensor, tokens: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Pixels (B, F, 3, h, w) and token ids (B, context) to videos (B, …) and texts (B, …).

        Their shapes but for B depend on F and the model alone, so that those of parts of a batch can be joined.
        """

    @abstractmethod
    def scores(self, videos: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
        """Videos and texts as `embed` makes them to the score of each text (a row) with each video."""

    @abstractmethod
    def loss(self, videos: torch.Tensor, texts: torch.Tensor, logit_scale: torch.Tensor) -> torch.Tensor:
        """Symmetric InfoNCE, where row i of the videos belongs to row i of the texts."""


class Cosine(Similarity):
    """Of a video's vector (D) and a text's (D)."""

    def embed(
        self, backbone: Backbone, pixels: torch.Tensor, tokens: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return backbone.embed_clips(pixels), backbone.embed_texts(tokens)

    def scores(self, videos: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
        return texts @ videos.T

    def loss(self, videos: torch.Tensor, texts: torch.Tensor, logit_scale: torch.Tensor) -> torch.Tensor:
        return contrastive_loss(videos, texts, logit_scale)


@dataclass(frozen=True)
class Mug(Similarity):
    """Of a video's frames (F, D) and a text's tokens (context, D), of which zero vectors do not count.

    Zeros stand for padding, as unit vectors can't, so that a batch's texts are one tensor in parts and processes too.
    """

    tau: float
    interaction: str
    """`mutual` or `mutual_cosine`, see stillmotion/retrieval/mug.py."""

    def embed(
        self, backbone: Backbone, pixels: torch.Tensor, tokens: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        frames_BFD = backbone.frame_embeddings(pixels)
        tokens_BLD, mask_BL = backbone.token_embeddings(tokens)
        tokens_BLD = torch.where(mask_BL[..., None], tokens_BLD, 0.0)
        return frames_BFD, functional.pad(tokens_BLD, (0, 0, 0, tokens.shape[1] - tokens_BLD.shape[1]))

    def scores(self, videos: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
        """Computed, forward and backward, in memory for one tile of pairs beside the embeddings."""
        mask_BL = (texts != 0).any(-1)
        longest = int(mask_BL.sum(1).max())
        unused = texts.new_empty(len(texts), 0)  # Mug looks at tokens alone
        return score_pairs(
            Texts(texts[:, :longest], mask_BL[:, :longest], unused),
            Videos(videos, mask_BL.new_ones(videos.shape[:2])),
            interaction=self.interaction,
            tau=self.tau,
        )

    def loss(self, videos: torch.Tensor, texts: torch.Tensor, logit_scale: torch.Tensor) -> torch.Tensor:
        return contrastive_loss_of_scores(self.scores(videos, texts), logit_scale)


@dataclass(frozen=True)
class TightTransformer(Similarity):
    """Of a video's frames (F, D) and a text's vector (D), by CLIP4Clip's head of that name.

    Its scores are the logits as they are: there is no temperature, neither a learned nor a fixed one. Source: Luo et
    al. 2021, section 3.3.
    """

    head: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]

    def embed(
        self, backbone: Backbone, pixels: torch.Tensor, tokens: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return backbone.frame_embeddings(pixels), backbone.embed_texts(tokens)

    def scores(self, videos: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
        # Imported here, where it is at hand: it comes with open_clip, which an X-CLIP has no use for.
        from stillmotion.backbones.clip4clip_heads import score_all

        return score_all(self.head, texts, videos, torch.ones_like(videos[..., 0], dtype=torch.bool))

    def loss(self, videos: torch.Tensor, texts: torch.Tensor, logit_scale: torch.Tensor) -> torch.Tensor:
        return contrastive_loss_of_scores(self.scores(videos, texts), torch.ones_like(logit_scale))


def similarity_of(
    recipe: RecipeParams | None,
    backbone: Backbone,
    own_once: Callable[[torch.Tensor], torch.Tensor] = lambda value: value,
) -> Similarity:
    """The one that a recipe names, or that a backbone with a tight transformer has.

    Args:
        recipe: says what is compared; None: what the backbone has.
        backbone: what it trains.
        own_once: what a parameter that compares passes, where several processes compare the same batch.

    Raises:
        InputError: the recipe names another than the backbone has.
    """
    head = backbone.pair_head
    if head is not None:
        if recipe and recipe.similarity != "cosine":
            raise InputError(
                f"params.yaml: a tight transformer is trained by its own scores, not by {recipe.similarity}; set "
                "similarity: cosine"
            )
        own = {name: own_once(value) for name, value in head.named_parameters()}
        return TightTransformer(lambda *inputs: functional_call(head, own, inputs))
    if recipe is None or recipe.similarity == "cosine":
        return Cosine()
    return Mug(recipe.tau, {"mug": "mutual", "mug_cosine": "mutual_cosine"}[recipe.similarity])
