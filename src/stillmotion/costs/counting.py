"""Counts the FLOPs and the memory of a training step as it runs, or as it would run.

On torch's meta device, where tensors have a shape and no content, a model of any size is counted in a second, and
with the same result as on the CPU.

FLOPs are counted by the formulas of torch.utils.flop_counter on matrix products, convolutions and attention: 2 for
each multiply-add; elementwise work is not counted. Source: Lindgren 2023, section 3.2.2; METHODS.md section 4.
"""

import contextlib
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

FLOP_RULE = (
    "2 for each multiply-add of matrix products, convolutions and attention, whose backward pass makes its scores "
    "again and whose causal mask saves nothing (torch.utils.flop_counter)"
)
MEMORY_RULE = (
    "counted, not measured: the most bytes of tensors that are alive at one moment of a step in 32-bit floats, where "
    "AdamW keeps two numbers for each trained parameter and no gradient is left of the step before; the parts are "
    "those of that moment; what kernels and allocators take besides is not in it"
)
_ADAMW_MOMENTS = 2


@dataclass(frozen=True)
class CountedStep:
    """The cost of one training step; bytes at the moment when their sum is highest."""

    forward_flops: int
    backward_flops: int
    parameter_bytes: int
    """Of parameters and buffers, trained or not."""
    gradient_bytes: int
    optimizer_bytes: int
    activation_bytes: int
    """Of all else: inputs, what is kept for the backward pass, and what is being worked on."""

    @property
    def peak_bytes(self) -> int:
        return self.parameter_bytes + self.gradient_bytes + self.optimizer_bytes + self.activation_bytes

    def row(self) -> dict[str, Any]:
        parts = {
            "parameters": self.parameter_bytes,
            "gradients": self.gradient_bytes,
            "optimizer": self.optimizer_bytes,
            "activations": self.activation_bytes,
        }
        return {
            "forward_flops": self.forward_flops,
            "backward_flops": self.backward_flops,
            "peak_memory_mib": round(self.peak_bytes / 2**20, 1),
            "peak_memory_parts_mib": {name: round(value / 2**20, 1) for name, value in parts.items()},
        }


class StepCounter(TorchDispatchMode):
    """Counts the FLOPs of what runs inside it, and the bytes of the tensors that are made there while they live."""

    flops: int
    peak_bytes: int
    """The most bytes alive at once."""
    peak_gradient_bytes: int
    """Of these, the gradients of the parameters given to `telling_gradients`."""

    def __init__(self, known: Sequence[torch.Tensor]):
        """Begin at zero; the memory of `known` tensors, and of views of them, is not counted."""
        super().__init__()
        self.flops = self.peak_bytes = self.peak_gradient_bytes = 0
        self._bytes = self._gradient_bytes = self._made = self._made_at_peak = 0
        self._order: weakref.WeakKeyDictionary[torch.UntypedStorage, int] = weakref.WeakKeyDictionary(
            {tensor.untyped_storage(): 0 for tensor in known}
        )

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        out = func(*args, **given)
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.flops += formula(*args, **given, out_val=out)
        for value in out if isinstance(out, tuple | list) else (out,):
            if isinstance(value, torch.Tensor):
                self._hold(value.untyped_storage())
        return out

    def _hold(self, storage: torch.UntypedStorage) -> None:
        if storage in self._order:
            return
        self._made += 1
        self._order[storage] = self._made
        weakref.finalize(storage, self._release, storage.nbytes())
        self._bytes += storage.nbytes()
        if self._bytes > self.peak_bytes:
            self.peak_bytes, self.peak_gradient_bytes = self._bytes, self._gradient_bytes
            self._made_at_peak = self._made

    def _release(self, num_bytes: int) -> None:
        self._bytes -= num_bytes

    @contextlib.contextmanager
    def telling_gradients(self, parameters: Sequence[torch.nn.Parameter]) -> Iterator[None]:
        """Tell the gradients of these parameters, which have none yet, from other tensors."""

        def hold(parameter: torch.Tensor) -> None:
            assert parameter.grad is not None
            self._gradient_bytes += parameter.grad.nbytes
            # Known as a gradient only now, it may have been there at the peak already.
            if self._order[parameter.grad.untyped_storage()] <= self._made_at_peak:
                self.peak_gradient_bytes += parameter.grad.nbytes

        handles = [parameter.register_post_accumulate_grad_hook(hold) for parameter in parameters]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def count_step(loss_of: Callable[[], torch.Tensor], model: torch.nn.Module) -> CountedStep:
    """Count forward and backward passes of `loss_of`, and what AdamW keeps.

    Args:
        loss_of: makes its own inputs, so that they are counted, and keeps none of them.
        model: what requires gradients is trained. It is left without gradients.
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    resident = [*model.parameters(), *model.buffers()]
    model.zero_grad(set_to_none=True)
    with StepCounter(resident) as counter, counter.telling_gradients(trainable):
        loss = loss_of()
        forward_flops = counter.flops
        loss.backward()
    model.zero_grad(set_to_none=True)
    return CountedStep(
        forward_flops=forward_flops,
        backward_flops=counter.flops - forward_flops,
        parameter_bytes=sum(tensor.nbytes for tensor in resident),
        gradient_bytes=counter.peak_gradient_bytes,
        optimizer_bytes=sum(_ADAMW_MOMENTS * parameter.nbytes for parameter in trainable),
        activation_bytes=counter.peak_bytes - counter.peak_gradient_bytes,
    )
