"""Processes that train one model together, each on its own device with its own share of every batch.

Every process has the whole model, computes the loss of the whole batch from the embeddings of all processes,
and passes its gradient back through its own share; what the processes have then is summed. So all of them take
the very step that one process would take with the whole batch, but for rounding.

Shapes: N rows of a batch, S of them in the share of a process, D embedding dimensions.
"""

import contextlib
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn, TypeVar

import torch

from stillmotion.backbones.compute import prepare_torch
from stillmotion.config.environment import Environment
from stillmotion.errors import InputError

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from lightning_fabric.connector import _PRECISION_INPUT

T = TypeVar("T")
PRECISIONS: dict[str, "_PRECISION_INPUT"] = {"fp32": "32-true", "bf16": "bf16-mixed"}
"""In Fabric's words: with bf16 the weights, the loss and the optimizer stay in fp32."""


@dataclass(frozen=True)
class Processes:
    """The processes of a training, seen from one of them; without Fabric there is just this one."""

    fabric: "Fabric | None" = None

    @property
    def count(self) -> int:
        return 1 if self.fabric is None else self.fabric.world_size

    @property
    def rank(self) -> int:
        return 0 if self.fabric is None else self.fabric.global_rank

    @property
    def device(self) -> torch.device:
        """Where this process has its model."""
        return torch.device("cpu") if self.fabric is None else self.fabric.device

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and speaks."""
        return self.rank == 0

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """The precision that the model runs in."""
        return contextlib.nullcontext() if self.fabric is None else self.fabric.autocast()

    def share(self, num_rows: int) -> range:
        """The rows of a batch that this process embeds: neighbours, as many as the others' give or take one."""
        return range(self.rank * num_rows // self.count, (self.rank + 1) * num_rows // self.count)

    def gather(self, rows_SD: torch.Tensor, num_rows: int) -> torch.Tensor:
        """The whole batch (N, D), of which this process has its `share`; gradients pass to that alone."""
        if self.fabric is None or self.count == 1:
            return rows_SD
        share = self.share(num_rows)
        whole_ND = rows_SD.new_zeros(num_rows, rows_SD.shape[1])
        whole_ND[share.start : share.stop] = rows_SD.detach()
        self.fabric.all_reduce(whole_ND, reduce_op="sum")
        return torch.cat([whole_ND[: share.start], rows_SD, whole_ND[share.stop :]])

    def own_once(self, value: torch.Tensor) -> torch.Tensor:
        """A value that every process has and uses for the whole batch: the gradient passes in the first one alone."""
        return value if self.first else value.detach()

    def sum_gradients(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Give each parameter the sum of its gradients in all processes, and none where no process has one."""
        if self.fabric is None or self.count == 1:
            return
        present = torch.tensor([value.grad is not None for value in parameters], dtype=torch.float32)
        gradients = [torch.zeros_like(value) if value.grad is None else value.grad for value in parameters]
        # One exchange: hundreds of small ones would each wait for the slowest process.
        flat = torch.cat([present.to(gradients[0]), *(gradient.flatten() for gradient in gradients)])
        self.fabric.all_reduce(flat, reduce_op="sum")
        present, *sums = flat.split([len(parameters), *(value.numel() for value in parameters)])
        for value, found, gradient in zip(parameters, present.tolist(), sums, strict=True):
            value.grad = gradient.view_as(value) if found else None

    def from_first(self, value: T) -> T:
        """The first process's value, in all of them."""
        return value if self.fabric is None else self.fabric.broadcast(value)

    def fail(self, message: str) -> NoReturn:
        """End all processes for a mistake that each of them has met; the first one tells it."""
        if self.first:
            raise InputError(message)
        raise SystemExit(0)


ALONE = Processes()


def join_processes(environment: Environment, precision: str, threads: int) -> Processes:
    """Prepare torch, and start the other processes of this training or meet those that torchrun has started.

    The others run the same script from its beginning, and all go on from here together.

    Args:
        environment: what devices, and how many on this machine.
        precision: fp32 or bf16.
        threads: that the processes on this machine share.

    Raises:
        InputError: there are not so many devices.
    """
    num_devices, local_rank = environment.devices, int(os.environ.get("LOCAL_RANK", 0))
    if environment.device != "cpu" and 0 < local_rank < torch.cuda.device_count():
        # Otherwise every process would hold memory of the first GPU.
        torch.cuda.set_device(local_rank)
    device = prepare_torch(environment, threads)
    by_torchrun = torch.distributed.is_available() and torch.distributed.is_torchelastic_launched()
    if by_torchrun and num_devices != int(os.environ["LOCAL_WORLD_SIZE"]):
        raise InputError(
            f"environment variable STILLMOTION_DEVICES is {num_devices} and torchrun started "
            f"{os.environ['LOCAL_WORLD_SIZE']} processes; unset it"
        )
    if num_devices > 1 and device.index is not None:
        raise InputError(
            f"environment variable STILLMOTION_DEVICE is {device} and there are {num_devices} devices to be used; "
            f"set {device.type}, and CUDA_VISIBLE_DEVICES to choose GPUs"
        )
    if device.type == "cuda" and num_devices > torch.cuda.device_count():
        raise InputError(
            f"environment variable STILLMOTION_DEVICES is {num_devices} and there are {torch.cuda.device_count()} "
            "GPUs; set that many or fewer, or STILLMOTION_DEVICE to cpu"
        )
    # Imported here: whoever imports the loop imports this module, evaluations included, which train nothing.
    from lightning_fabric import Fabric

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    fabric = Fabric(
        accelerator=device.type,
        devices=num_devices if device.type == "cpu" or device.index is None else [device.index],
        num_nodes=int(os.environ["WORLD_SIZE"]) // num_devices if by_torchrun else 1,
        precision=PRECISIONS[precision],
    )
    fabric.launch()
    # Fabric has a rule of its own for these.
    torch.set_num_threads(max(1, threads // num_devices))
    processes = Processes(fabric)
    if not processes.first:
        logging.getLogger("stillmotion").setLevel(logging.ERROR)
    return processes
