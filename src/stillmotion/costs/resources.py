"""What a training step costs where it runs: parameters, FLOPs, memory, time.

Source: Lindgren 2023, section 3.2.2; METHODS.md section 4.
"""

import contextlib
import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from stillmotion.costs.counting import FLOP_RULE, StepCounter, count_step


@dataclass(frozen=True)
class StepCost:
    """The cost of one training step."""

    forward_flops: int
    backward_flops: int
    peak_memory_mib: float
    seconds: float
    """Median over the repeats."""

    def row(self, batch_size: int, num_frames: int) -> dict[str, Any]:
        return {
            "forward_flops": self.forward_flops,
            "backward_flops": self.backward_flops,
            "flop_rule": FLOP_RULE,
            "peak_memory_mib": round(self.peak_memory_mib, 1),
            "seconds_a_step": round(self.seconds, 4),
            "batch_size": batch_size,
            "num_frames": num_frames,
        }


@dataclass(frozen=True)
class PassCost:
    """The cost of forward and backward passes; seconds are medians over the repeats."""

    forward_seconds: float
    """Without what a backward pass needs."""
    forward_backward_seconds: float
    peak_memory_mib: float
    """Of forward and backward passes, gradients included."""


class _Memory:
    """What a process, or what it holds on a GPU, grows by."""

    def __init__(self, device: torch.device):
        self._device = device
        _forget_peak()
        self._before = _peak_mib()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            self._before = torch.cuda.memory_allocated(device) / 2**20

    def grown_mib(self) -> float:
        """At its most; elsewhere than on Linux an earlier, higher peak hides it."""
        on_gpu = self._device.type == "cuda"
        peak = torch.cuda.max_memory_allocated(self._device) / 2**20 if on_gpu else _peak_mib()
        return peak - self._before


def _forget_peak() -> None:
    """Make the peak that the operating system keeps start anew; only Linux can."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _peak_mib() -> float:
    """The most memory that this process has held, since `_forget_peak` where that works."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def count_parameters(model: torch.nn.Module) -> dict[str, int]:
    """`parameters`, and those of them that are trained."""
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "trainable_parameters": sum(value.numel() for value in model.parameters() if value.requires_grad),
    }


def measure_step(
    loss_of: Callable[[], torch.Tensor], model: torch.nn.Module, device: torch.device, *, repeats: int
) -> StepCost:
    """Measure forward and backward passes of `loss_of`, with the optimizer's step in time and memory.

    Peak memory is what the process grew by during the steps; on a GPU, what was allocated.
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=0.0)
    memory = _Memory(device)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss_of().backward()
        optimizer.step()

    seconds = _median_seconds(step, device, repeats=repeats)
    peak_mib = memory.grown_mib()
    counted = count_step(loss_of, model)
    return StepCost(
        forward_flops=counted.forward_flops,
        backward_flops=counted.backward_flops,
        peak_memory_mib=peak_mib,
        seconds=seconds,
    )


def measure_inference(run: Callable[[], object], device: torch.device, *, repeats: int) -> StepCost:
    """Measure `run`, a forward pass of a model that is not trained: no backward FLOPs."""
    memory = _Memory(device)
    seconds = _median_seconds(run, device, repeats=repeats)
    peak_mib = memory.grown_mib()
    with StepCounter([]) as counter:
        run()
    return StepCost(forward_flops=counter.flops, backward_flops=0, peak_memory_mib=peak_mib, seconds=seconds)


def measure_passes(
    loss_of: Callable[[], torch.Tensor], model: torch.nn.Module, device: torch.device, *, repeats: int
) -> PassCost:
    """Measure forward and backward passes of `loss_of`, and forward ones alone; nothing is trained.

    Peak memory is what the process grew by during the former; on a GPU, what was allocated.

    Args:
        loss_of: what is differentiated.
        model: it is left without gradients.
        device: where it runs.
        repeats: of each pass, after one to warm up.
    """
    memory = _Memory(device)

    def train() -> None:
        model.zero_grad(set_to_none=True)
        loss_of().backward()

    # First, as memory that a forward pass has given back to the allocator would be used again without a trace.
    forward_backward = _median_seconds(train, device, repeats=repeats)
    peak_mib = memory.grown_mib()
    model.zero_grad(set_to_none=True)
    with torch.no_grad():
        forward = _median_seconds(loss_of, device, repeats=repeats)
    return PassCost(forward, forward_backward, peak_mib)


def _median_seconds(run: Callable[[], object], device: torch.device, *, repeats: int) -> float:
    """The median of `repeats` runs, after one to warm up."""
    seconds = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[1:])
