"""Symmetric InfoNCE over pairs of videos and texts."""

import numpy as np
import torch


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


def shuffled_batches(num_items: int, batch_size: int, *, seed: int, epoch: int) -> list[torch.Tensor]:
    """Item indices of each batch of an epoch: every item at most once, a short last batch left out.

    With fewer items than a batch holds, all of them are one batch.
    """
    order = torch.from_numpy(np.random.default_rng([seed, epoch]).permutation(num_items))
    size = min(batch_size, num_items)
    return list(order[: num_items // size * size].split(size))
