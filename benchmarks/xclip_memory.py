"""The memory and the seconds of a real training step of X-CLIP base/32 with 8 frames, beside the counted memory.

    python -m benchmarks.xclip_memory

Random weights at full size on the CPU, embeddings frozen, AdamW, 72 tokens. Each case runs in a process of its own;
what that grew by during the steps is held to what `measure_architectures` counts beside the parameters, which were
there before. It is measured twice: with the C library's allocator as it is, which keeps some of what is freed, and
told to give each large block back at once, which shows what the count itself is off by. About five minutes on two
quiet cores. Writes benchmarks/results/xclip_memory.json.
"""

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from stillmotion.backbones.compute import prepare_torch
from stillmotion.config.environment import read_environment
from stillmotion.config.loading import load_params
from stillmotion.config.models import XClipArchitectureParams
from stillmotion.costs.architectures import contrastive_step, count_empty
from stillmotion.costs.initial_models import initial_model
from stillmotion.costs.resources import StepCost, measure_step
from stillmotion.io.tables import write_json
from stillmotion.training.freezing import freeze

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "xclip_memory.json"
NAME = "xclip_base_patch32_8f"
ARCHITECTURE = XClipArchitectureParams(family="xclip", patch_size_px=32, num_frames=8)
REPEATS = 1
CASES = [(2, 1.0, 0), (2, 0.5, 0), (2, 1.0, 6), (2, 1.0, 12), (6, 1.0, 0)]
"""Clips in a batch, patch keep rate, frozen blocks of both towers."""
ALLOCATORS = {"as_it_is": {}, "giving_back": {"MALLOC_MMAP_THRESHOLD_": "131072"}}
"""Environment variables of glibc."""


def count(batch_size: int, keep_rate: float, frozen_blocks: int) -> float:
    """What the step needs beside the parameters, in MiB."""
    params = load_params(ROOT / "params.yaml")
    counted, _ = count_empty(
        lambda device: initial_model(ARCHITECTURE, device),
        batch_size=batch_size,
        num_frames=ARCHITECTURE.num_frames,
        num_tokens=params.measure_architectures.num_tokens,
        keep_rate=keep_rate,
        frozen_blocks=frozen_blocks,
    )
    return (counted.peak_bytes - counted.parameter_bytes) / 2**20


def measure(batch_size: int, keep_rate: float, frozen_blocks: int) -> StepCost:
    """Run the step; in a new process, as memory that an earlier one freed would be used again."""
    params = load_params(ROOT / "params.yaml")
    device = torch.device("cpu")
    prepare_torch(read_environment(), len(os.sched_getaffinity(0)))
    model = initial_model(ARCHITECTURE, device)
    freeze(model, embeddings=True, blocks=frozen_blocks)
    loss_of = contrastive_step(
        model,
        batch_size=batch_size,
        num_frames=ARCHITECTURE.num_frames,
        num_tokens=params.measure_architectures.num_tokens,
        keep_rate=keep_rate,
    )
    return measure_step(loss_of, model, device, repeats=REPEATS)


def main() -> dict[str, Any]:
    """Measure every case and write the result."""
    result: dict[str, Any] = {
        "architecture": NAME,
        "repeats": REPEATS,
        "cpus": os.cpu_count(),
        "load_before": os.getloadavg()[0],
    }
    spawn = multiprocessing.get_context("spawn")
    costs = {}
    for allocator, variables in ALLOCATORS.items():
        with (
            mock.patch.dict(os.environ, variables),
            ProcessPoolExecutor(1, mp_context=spawn, max_tasks_per_child=1) as processes,
        ):
            costs[allocator] = list(processes.map(measure, *zip(*CASES, strict=True)))
    result["cases"] = []
    for number, case in enumerate(CASES):
        counted_mib = count(*case)
        measured = {name: found[number].peak_memory_mib for name, found in costs.items()}
        result["cases"].append(
            dict(zip(("batch_size", "keep_rate", "frozen_blocks"), case, strict=True))
            | {
                "counted_mib": counted_mib,
                "measured_mib": measured,
                "measured_to_counted": {name: value / counted_mib for name, value in measured.items()},
                "seconds_a_step": costs["as_it_is"][number].seconds,
            }
        )
    write_json(RESULT, result, digits=3)
    return result


if __name__ == "__main__":
    for name, value in main().items():
        print(f"{name}: {value}")
