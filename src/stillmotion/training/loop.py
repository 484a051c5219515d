"""One training loop for every contrastive training, which a kill at any moment does not set back.

All that a step does is a function of its number (batch, augmentation, learning rate), so weights, optimizer
state and history are the whole state. It goes to the memo now and then; a run that finds a state there goes
on from it and ends with the bytes of a run that was never interrupted. Of a training that is over the
memo keeps the best weights and the history, a quarter of that or less.
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

import torch

from stillmotion.config.environment import read_environment
from stillmotion.io.memo import Memo
from stillmotion.io.weights import load_tensors, save_tensors
from stillmotion.stage import Progress
from stillmotion.training.live import live_curves
from stillmotion.training.processes import ALONE, Processes
from stillmotion.training.schedule import one_cycle_cosine

BETAS = (0.9, 0.98)
"""Of AdamW, as CLIP was trained (Radford et al. 2021, table 18): short trainings need the faster second moment."""
MOMENTUM = 0.9
"""Of SGD."""
_log = logging.getLogger("stillmotion")


@dataclass(frozen=True)
class FitSettings:
    """What the loop needs beside the loss."""

    epochs: int
    steps_per_epoch: int
    learning_rate: float
    weight_decay: float
    warmup_fraction: float
    gradient_clip: float
    optimizer: Literal["adamw", "sgd"] = "adamw"
    schedule: Literal["one_cycle", "constant"] = "one_cycle"
    """`constant` is the learning rate at every step, whatever warmup_fraction says."""
    rate_factors: Mapping[str, float] = field(default_factory=dict)
    """By name of a parameter, the multiple of the learning rate that it trains at; 1 for those without."""

    @property
    def total_steps(self) -> int:
        return self.epochs * self.steps_per_epoch

    def rate(self, step: int) -> float:
        """The learning rate of a step."""
        if self.schedule == "constant":
            return self.learning_rate
        return one_cycle_cosine(
            step, total_steps=self.total_steps, peak=self.learning_rate, warmup_fraction=self.warmup_fraction
        )


@dataclass(frozen=True)
class Fitted:
    """What a training leaves behind."""

    best: dict[str, torch.Tensor]
    """Trained tensors by name, of the epoch with the highest score (the last one where none is scored)."""
    best_epoch: int
    history: list[dict[str, float]]
    """A row an epoch: epoch, mean loss, learning rate at its end, and score where there is one."""


def parameter_groups(
    model: torch.nn.Module, weight_decay: float, rate_factors: Mapping[str, float] = MappingProxyType({})
) -> list[dict[str, Any]]:
    """Trainable parameters for an optimizer: matrices decay, vectors and scalars (norms, biases, scales) do not.

    Args:
        model: of which only what requires gradients is taken.
        weight_decay: of the matrices.
        rate_factors: see `FitSettings`; names of `model.named_parameters()`.

    Returns:
        Two groups for the factor 1, then two for each other factor, rising; `rate_factor` is a group's own.
    """
    trainable = {name: value for name, value in model.named_parameters() if value.requires_grad}
    groups = []
    for factor in [1.0, *sorted({*rate_factors.values()} - {1.0})]:
        values = [value for name, value in trainable.items() if rate_factors.get(name, 1.0) == factor]
        matrices, vectors = ([v for v in values if (v.ndim >= 2) == is_matrix] for is_matrix in (True, False))
        groups.append({"params": matrices, "weight_decay": weight_decay, "rate_factor": factor})
        groups.append({"params": vectors, "weight_decay": 0.0, "rate_factor": factor})
    return groups


def _optimizer(model: torch.nn.Module, settings: FitSettings) -> torch.optim.Optimizer:
    groups = parameter_groups(model, settings.weight_decay, settings.rate_factors)
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=settings.learning_rate, momentum=MOMENTUM, fused=True)
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=BETAS, fused=True)


def fit(
    model: torch.nn.Module,
    loss_at: Callable[[int, int], torch.Tensor],
    settings: FitSettings,
    *,
    label: str,
    memo: Memo,
    key: Mapping[str, Any],
    score: Callable[[], float] | None = None,
    processes: Processes = ALONE,
    silent: bool = False,
) -> Fitted:
    """Train the parameters of `model` that require gradients.

    Args:
        model: trained in place; what it ends with is not the best epoch, which is left to load.
        loss_at: loss of (epoch, step in the epoch), a function of nothing else; the same in all processes.
        settings: length, learning rate and so on.
        label: what the progress says.
        memo: where checkpoints go.
        key: everything that decides the outcome, for the memo.
        score: called after each epoch; the epoch with the highest value is kept, the first of equals. The same in
            all processes.
        processes: those that train the model together; the first one alone uses the memo and tells of the progress.
        silent: tell of no progress.

    Raises:
        InputError: the loss is not finite, or a weight at the end of an epoch.
    """
    trainable = {name: value for name, value in model.named_parameters() if value.requires_grad}
    optimizer = _optimizer(model, settings)
    memo = memo if processes.first else Memo(None)
    names = {id(value): name for name, value in trainable.items()}
    state: dict[str, Any] = {"step": 0, "best_epoch": -1, "best_score": None, "loss_sum": 0.0, "history": []}
    best: dict[str, torch.Tensor] = {}

    begun = processes.from_first(memo.read("checkpoints", key, load_tensors, suffix=".safetensors"))
    if begun is not None:
        tensors, state = begun
        best = _restore(tensors, trainable, optimizer)
        _log.info("%s: going on from step %d of %d", label, state["step"], settings.total_steps)

    def checkpoint(*, over: bool) -> None:
        tensors = {f"best/{name}": value for name, value in best.items()}
        if not over:
            tensors |= {f"model/{name}": value for name, value in trainable.items()}
            for parameter, moments in optimizer.state.items():
                tensors |= {f"{kind}/{names[id(parameter)]}": value for kind, value in moments.items()}
        memo.store("checkpoints", key, lambda path: save_tensors(path, tensors, state), suffix=".safetensors")

    environment = read_environment()
    last_checkpoint = time.monotonic()
    show = live_curves(environment.live if processes.first else None, label)
    for row in state["history"]:
        show(row)
    with Progress(label, settings.total_steps, silent=silent or not processes.first) as progress:
        progress.skip(state["step"])
        while state["step"] < settings.total_steps:
            epoch, step = divmod(state["step"], settings.steps_per_epoch)
            rate = settings.rate(state["step"])
            for group in optimizer.param_groups:
                group["lr"] = rate * group["rate_factor"]
            optimizer.zero_grad(set_to_none=True)
            loss = loss_at(epoch, step)
            if not torch.isfinite(loss):
                processes.fail(
                    f"params.yaml: the loss is {loss.item()} at step {state['step']} of {label}; lower learning_rate"
                )
            loss.backward()
            processes.sum_gradients(list(trainable.values()))
            torch.nn.utils.clip_grad_norm_(list(trainable.values()), settings.gradient_clip)
            optimizer.step()
            state["loss_sum"] += float(loss.detach())
            state["step"] += 1
            if step + 1 == settings.steps_per_epoch:
                if not all(value.isfinite().all() for value in trainable.values()):
                    processes.fail(
                        f"params.yaml: weights are no numbers after step {state['step'] - 1} of {label}; lower "
                        "learning_rate"
                    )
                best = _end_epoch(state, epoch, rate, settings, score, trainable, best)
                show(state["history"][-1])
            progress.advance()
            over = state["step"] == settings.total_steps
            if over or time.monotonic() - last_checkpoint >= environment.checkpoint_s:
                checkpoint(over=over)
                last_checkpoint = time.monotonic()
    # A checkpoint holds its rows with sorted keys: from there or not, the history is the same bytes.
    history = [dict(sorted(row.items())) for row in state["history"]]
    return Fitted(best=best, best_epoch=state["best_epoch"], history=history)


def _end_epoch(
    state: dict[str, Any],
    epoch: int,
    rate: float,
    settings: FitSettings,
    score: Callable[[], float] | None,
    trainable: Mapping[str, torch.nn.Parameter],
    best: dict[str, torch.Tensor],
) -> dict[str, torch.Tensor]:
    row = {"epoch": epoch, "loss": state["loss_sum"] / settings.steps_per_epoch, "learning_rate": rate}
    state["loss_sum"] = 0.0
    if score is not None:
        row["score"] = score()
    state["history"].append(row)
    if score is None and epoch + 1 < settings.epochs:
        return {}  # none but the last is kept
    if score is None or state["best_score"] is None or row["score"] > state["best_score"]:
        state["best_score"] = row.get("score")
        state["best_epoch"] = epoch
        return {name: value.detach().clone() for name, value in trainable.items()}
    return best


def _restore(
    tensors: Mapping[str, torch.Tensor],
    trainable: Mapping[str, torch.nn.Parameter],
    optimizer: torch.optim.Optimizer,
) -> dict[str, torch.Tensor]:
    """Fill model and optimizer from a checkpoint and return the best epoch's tensors."""
    best: dict[str, torch.Tensor] = {}
    for path, value in tensors.items():
        kind, name = path.split("/", 1)
        if kind == "best":
            best[name] = value
        elif kind == "model":
            with torch.no_grad():
                trainable[name].copy_(value)
        else:
            # Fused AdamW counts steps on the device too.
            optimizer.state[trainable[name]][kind] = value.to(trainable[name].device)
    return best
