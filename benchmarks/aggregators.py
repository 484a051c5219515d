"""What training the aggregators of the retrieval matrix costs, in one process and one after another.

    python -m benchmarks.aggregators

10,000 training videos as random unit vectors of 512 dimensions, 1 to 4 clips of each. The stage train_aggregator
runs as a command for each trained kind with all clip counts and seeds, as the DAG runs it. The peer is one process
after another, each with one training: the same command, which gives a training one thread, or a plain loop over
PyTorch's own encoder layer with all threads, whichever is faster. What that loop takes with the project's aggregators,
which compute what is read out alone, is said too. The matrix has 5 seeds: the stage trains them all, and of the peer,
where each training is a process of its own, one seed is measured and counted five times. The mean has nothing to train.
Writes benchmarks/results/aggregators.json.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import ruamel.yaml
import torch
from torch import nn
from torch.nn import functional

from stillmotion.config.scorers import TransformerParams
from stillmotion.embedding.reader import EmbeddedVideo
from stillmotion.io.arrays import save_array
from stillmotion.io.records import Caption, save_records
from stillmotion.io.tables import write_json, write_rows
from stillmotion.retrieval.aggregators import build_aggregator

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "aggregators.json"
NUM_TRAIN, NUM_VALIDATION, DIM = 10_000, 500, 512
KINDS = {
    "transformer_mean": TransformerParams(kind="transformer_mean", heads=8, mlp_ratio=4.0),
    "class_token": TransformerParams(kind="class_token", heads=8, mlp_ratio=4.0),
}
CLIP_COUNTS, SEEDS = (1, 2, 3, 4), (0, 1, 2, 3, 4)
EPOCHS, BATCH_SIZE = 1, 256


def unit_vectors(rng: np.random.Generator, *shape: int) -> np.ndarray:
    vectors = rng.standard_normal((*shape, DIM), dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def write_embeddings(folder: Path, clip_counts: tuple[int, ...]) -> None:
    """What the stage reads of an embeddings folder."""
    rng = np.random.default_rng(0)
    splits = ["train"] * NUM_TRAIN + ["validation"] * NUM_VALIDATION
    videos = [EmbeddedVideo(f"{row:06d}", split, 60.0, row, 0, [], []) for row, split in enumerate(splits)]
    write_rows(folder / "index.jsonl", (video.row() for video in videos))
    save_array(folder / "clips.npy", unit_vectors(rng, len(videos), sum(clip_counts)))
    save_array(folder / "captions.npy", unit_vectors(rng, len(videos)))
    model = {"dim": DIM, "clip_counts": list(clip_counts), "logit_scale": 100.0, "model": "random"}
    write_json(folder / "model.json", model)


def write_params(folder: Path, seeds: tuple[int, ...], epochs: int) -> None:
    yaml = ruamel.yaml.YAML()
    params = yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["scorers"] |= {kind: settings.model_dump() for kind, settings in KINDS.items()}
    params["train_aggregator"] |= {"seeds": list(seeds), "epochs": epochs, "batch_size": BATCH_SIZE}
    with (folder / "params.yaml").open("w", encoding="utf-8") as file:
        yaml.dump(params, file)


def run_stage(folder: Path, kind: str, embeddings: str) -> tuple[float, float]:
    """Seconds and peak MiB of the stage as a command."""
    command = [
        *(sys.executable, str(ROOT / "src" / "train_aggregator.py"), "--scorer", kind, "--raw", "raw"),
        *("--embeddings", embeddings, "--output", "output", "--plot", "plot.json"),
    ]
    started = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    if status:
        raise RuntimeError(f"{' '.join(command)} ended with status {status}")
    return seconds, usage.ru_maxrss / 2**10


class PlainAggregator(nn.Module):
    """An aggregator as its definition reads: the whole of PyTorch's encoder layer, and then what is read out."""

    def __init__(self, settings: TransformerParams, num_clips: int):
        super().__init__()
        self.kind = settings.kind
        self.positions = nn.Parameter(torch.zeros(num_clips + (self.kind == "class_token"), DIM))
        self.token = nn.Parameter(torch.zeros(DIM))
        width = int(DIM * settings.mlp_ratio)
        self.block = nn.TransformerEncoderLayer(
            DIM, settings.heads, width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )

    def forward(self, clips_BCD: torch.Tensor) -> torch.Tensor:
        tokens = clips_BCD
        if self.kind == "class_token":
            tokens = torch.cat([self.token.expand(len(clips_BCD), 1, -1), clips_BCD], dim=1)
        out = tokens + self.block(tokens + self.positions)
        return functional.normalize(out[:, 0] if self.kind == "class_token" else out.mean(1), dim=-1)


def plain_loop_s(aggregator: nn.Module, num_clips: int) -> float:
    """Seconds of a training as a loop of PyTorch, with all threads and nothing around the steps."""
    generator = torch.Generator().manual_seed(0)
    clips = functional.normalize(torch.randn(NUM_TRAIN, num_clips, DIM, generator=generator), dim=-1)
    texts = functional.normalize(torch.randn(NUM_TRAIN, DIM, generator=generator), dim=-1)
    optimizer = torch.optim.AdamW(aggregator.parameters(), lr=1e-3, fused=True)
    right = torch.arange(BATCH_SIZE)
    started = time.perf_counter()
    for _ in range(EPOCHS):
        for rows in torch.randperm(NUM_TRAIN, generator=generator)[: NUM_TRAIN // BATCH_SIZE * BATCH_SIZE].view(
            -1, BATCH_SIZE
        ):
            optimizer.zero_grad(set_to_none=True)
            logits = 100 * aggregator(clips[rows]) @ texts[rows].T
            loss = functional.cross_entropy(logits, right) + functional.cross_entropy(logits.T, right)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(aggregator.parameters(), 1.0)
            optimizer.step()
    return time.perf_counter() - started


def main() -> dict[str, Any]:
    """Measure and write the result."""
    together: dict[str, float] = {}
    alone: dict[str, float] = {}
    peaks = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = range(NUM_TRAIN + NUM_VALIDATION)
        captions = [Caption(f"{row:06d}", f"{row:06d}", f"video {row}", None, None) for row in rows]
        save_records(folder / "raw", Caption, captions)
        write_embeddings(folder / "all", CLIP_COUNTS)
        for count in CLIP_COUNTS:
            write_embeddings(folder / f"clips-{count}", (count,))
        write_params(folder, SEEDS, EPOCHS)
        start_s, _ = run_stage(folder, "mean", "all")
        for kind in KINDS:
            together[kind], peak = run_stage(folder, kind, "all")
            peaks.append(peak)
        write_params(folder, SEEDS[:1], EPOCHS)
        for kind in KINDS:
            alone[kind] = len(SEEDS) * sum(run_stage(folder, kind, f"clips-{count}")[0] for count in CLIP_COUNTS)
    trainings = len(KINDS) * len(CLIP_COUNTS)
    matrix = [(settings, count) for settings in KINDS.values() for count in CLIP_COUNTS]
    plain_s = sum(plain_loop_s(PlainAggregator(kind, count), count) for kind, count in matrix) / trainings
    ours_s = sum(
        plain_loop_s(build_aggregator(kind, dim=DIM, num_clips=count, seed=0), count) for kind, count in matrix
    )
    whole_together = sum(together.values())
    whole_alone = min(sum(alone.values()), trainings * len(SEEDS) * (start_s + plain_s))
    result = {
        "cpus": os.cpu_count(),
        "load_before": os.getloadavg()[0],
        "epochs": EPOCHS,
        "batch_size": BATCH_SIZE,
        "seeds": len(SEEDS),
        "start_of_a_process_s": start_s,
        "together_s": together,
        "one_after_another_s": alone,
        "one_training_s": (whole_together - len(KINDS) * start_s) / (trainings * len(SEEDS)),
        "one_training_as_a_plain_loop_s": plain_s,
        "one_training_as_a_plain_loop_over_our_aggregators_s": ours_s / trainings,
        "whole_matrix_together_s": whole_together,
        "whole_matrix_one_after_another_s": whole_alone,
        "times_faster": whole_alone / whole_together,
        "peak_mib": max(peaks),
    }
    write_json(RESULT, result, digits=2)
    return result


if __name__ == "__main__":
    for name, value in main().items():
        print(f"{name}: {value}")
