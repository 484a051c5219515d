"""Symmetric InfoNCE over pairs of videos and texts, of as large a batch as one likes."""

from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional
from torch.utils.checkpoint import checkpoint


def contrastive_loss(videos_BD: torch.Tensor, texts_BD: torch.Tensor, logit_scale: torch.Tensor) -> torch.Tensor:
    """Mean of the cross entropies of text given video and video given text; the diagonal is right.

    Args:
        videos_BD: unit vectors.
        texts_BD: unit vectors; row i belongs to row i of the videos.
        logit_scale: inverse temperature, a scalar.

    Source: Radford et al. 2021, Fig. 3.
    """
    return _symmetric_cross_entropy(logit_scale * videos_BD @ texts_BD.T, logit_scale * texts_BD @ videos_BD.T)


def contrastive_loss_of_scores(scores_BB: torch.Tensor, logit_scale: torch.Tensor) -> torch.Tensor:
    """The same loss where a pair's score is not the product of two vectors.

    Args:
        scores_BB: of each text (a row) with each video: as large as cosines, or logits with a scale of 1.
        logit_scale: inverse temperature, a scalar.

    Source: Liu et al. 2023 (papers/mug-stan.txt), equation 19, which adds the two cross entropies; here too it is
    their mean, so that learning rate and gradient clip mean the same with any score.
    """
    logits_BB = logit_scale * scores_BB
    return _symmetric_cross_entropy(logits_BB.T, logits_BB)


def _symmetric_cross_entropy(v2t_BB: torch.Tensor, t2v_BB: torch.Tensor) -> torch.Tensor:
    right_B = torch.arange(len(v2t_BB), device=v2t_BB.device)
    return (functional.cross_entropy(v2t_BB, right_B) + functional.cross_entropy(t2v_BB, right_B)) / 2


def embed_in_parts(
    embed: Callable[[range], tuple[torch.Tensor, ...]], rows: range, *, part_size: int
) -> tuple[torch.Tensor, ...]:
    """Embeddings of a batch that takes no more memory, and has the same gradients, as if `part_size` were all of it.

    Of all parts but the last, only the embeddings are kept. What is made of those, such as the loss of the whole
    batch, passes its gradient to them first, and then from part to part, each of which is embedded once more.

    Args:
        embed: videos and texts of some of the rows as tensors (rows, …), the same whenever it is called.
        rows: of the batch.
        part_size: how many are embedded at once.

    Source: Gao et al. 2021, "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup".
    """
    *before, last = (rows[first : first + part_size] for first in range(0, len(rows), part_size))
    parts = [checkpoint(embed, part, use_reentrant=False) for part in before]
    # Its gradients come first and find everything in place. Where it is the whole batch, nothing is done twice.
    parts.append(embed(last))
    return tuple(torch.cat(pieces) for pieces in zip(*parts, strict=True))


def shuffled_batches(num_items: int, batch_size: int, *, seed: int, epoch: int) -> list[torch.Tensor]:
    """Item indices of each batch of an epoch: every item at most once, a short last batch left out.

    With fewer items than a batch holds, all of them are one batch.
    """
    order = torch.from_numpy(np.random.default_rng([seed, epoch]).permutation(num_items))
    size = min(batch_size, num_items)
    return list(order[: num_items // size * size].split(size))
