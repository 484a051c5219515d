"""Learning rates as pure functions of the step, so that resuming needs no schedule state."""

import math


def one_cycle_cosine(step: int, *, total_steps: int, peak: float, warmup_fraction: float) -> float:
    """Learning rate of the one-cycle policy with cosine annealing in both phases.

    It rises from peak / 25 to `peak` over the first `warmup_fraction` of the steps and falls to
    peak / 250,000 at the last one: the policy of Smith & Topin 2018 with the constants that
    torch.optim.lr_scheduler.OneCycleLR made usual.

    Args:
        step: from 0 to total_steps - 1.
        total_steps: steps of the whole training.
        peak: highest learning rate.
        warmup_fraction: share of the steps that rise, 0 to 1.
    """
    start, end = peak / 25, peak / 250_000
    top = warmup_fraction * total_steps - 1
    if step <= top:
        low, high, progress = start, peak, step / top if top > 0 else 1.0
    else:
        rest = total_steps - 1 - max(top, 0)
        low, high, progress = peak, end, (step - max(top, 0)) / rest if rest > 0 else 0.0
    return high + (low - high) / 2 * (1 + math.cos(math.pi * progress))
