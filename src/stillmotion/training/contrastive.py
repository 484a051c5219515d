"""Symmetric InfoNCE over pairs of videos and texts, of as large a batch as one likes."""

from collections.abc import Callable

import numpy as np
import torch
from torch.utils.checkpoint import checkpoint


def contrastive_loss(videos_BD: torch.Tensor, texts_BD: torch.Tensor, logit_scale: torch.Tensor) -> torch.Tensor:
    """Mean of the cross entropies of text given video and video given text; the diagonal is right.

    Args:
        videos_BD: unit vectors.
        texts_BD: unit vectors; row i belongs to row i of the videos.
        logit_scale: inverse temperature, a scalar.

    Source: Radford et al. 2021, Fig. 3, in open_clip's implementation.
    """
    # Imported here: open_clip takes seconds to import, and an evaluation never comes this far.
    from open_clip.loss import ClipLoss

    return ClipLoss()(videos_BD, texts_BD, logit_scale)


def embed_in_parts(
    embed: Callable[[range], tuple[torch.Tensor, torch.Tensor]], rows: range, *, part_size: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Embeddings of a batch that takes no more memory, and has the same gradients, as if `part_size` were all of it.

    Of all parts but the last, only the embeddings are kept. What is made of those, such as the loss of the whole
    batch, passes its gradient to them first, and then from part to part, each of which is embedded once more.

    Args:
        embed: videos and texts of some of the rows as two tensors (rows, D), the same whenever it is called.
        rows: of the batch.
        part_size: how many are embedded at once.

    Source: Gao et al. 2021, "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup".
    """
    *before, last = (rows[first : first + part_size] for first in range(0, len(rows), part_size))
    parts = [checkpoint(embed, part, use_reentrant=False) for part in before]
    # Its gradients come first and find everything in place. Where it is the whole batch, nothing is done twice.
    parts.append(embed(last))
    videos, texts = zip(*parts, strict=True)
    return torch.cat(videos), torch.cat(texts)


def shuffled_batches(num_items: int, batch_size: int, *, seed: int, epoch: int) -> list[torch.Tensor]:
    """Item indices of each batch of an epoch: every item at most once, a short last batch left out.

    With fewer items than a batch holds, all of them are one batch.
    """
    order = torch.from_numpy(np.random.default_rng([seed, epoch]).permutation(num_items))
    size = min(batch_size, num_items)
    return list(order[: num_items // size * size].split(size))
