"""What Mug's similarity of all pairs of texts and videos costs beside the matrix products that it cannot do without.

    OMP_NUM_THREADS=2 python -m benchmarks.mug

Texts of 32 tokens and videos of 12 frames, all of which count, with 512 dimensions. The yardstick is the bare product
of all tokens with all frames, in the same tiles, thrown away. The peer is the usual form: all cosines in one tensor,
each softmax over the whole of it, autograd for the gradients. `short_texts` have 4 to 32 tokens that count, evenly
spread. Those measured on the same pairs are interleaved; beside the wall clock there is processor time, which what
else the machine does hardly changes. Whatever states a peak ran in a process of its own, and the peak is that of the
whole process. `whole` alone takes three minutes of processor time. Writes benchmarks/results/mug.json.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from benchmarks.memory import peak_mib
from stillmotion.io.tables import write_json
from stillmotion.retrieval.mug import Texts, Videos, score_pairs
from stillmotion.retrieval.mug_tiling import Tile, score_tiles

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "mug.json"
NUM_TOKENS, NUM_FRAMES, DIM, TAU = 32, 12, 512, 100.0
SIZE = 5_000
SHARE = (256, 512)
"""Texts and videos that are timed repeatedly."""
UNTILED_SIZE, BATCH_SIZE = 256, 128
UNTILED_LIMIT_MIB = 2048
REPEATS = 5


def make(num_texts: int, num_videos: int) -> tuple[Texts, Videos]:
    rng = torch.Generator().manual_seed(0)
    tokens, frames = (
        torch.randn(*shape, DIM, generator=rng) for shape in ((num_texts, NUM_TOKENS), (num_videos, NUM_FRAMES))
    )
    tokens, frames = (x.div_(x.norm(dim=-1, keepdim=True)) for x in (tokens, frames))
    token_mask = torch.ones(num_texts, NUM_TOKENS, dtype=torch.bool)
    return Texts(tokens, token_mask, tokens[:, 0]), Videos(frames, torch.ones(num_videos, NUM_FRAMES, dtype=torch.bool))


def shortened(texts: Texts) -> Texts:
    lengths = torch.arange(len(texts.mask_NL)) % (NUM_TOKENS - 3) + 4
    return Texts(texts.tokens_NLD, torch.arange(NUM_TOKENS) < lengths[:, None], texts.sentences_ND)


def bare_products(texts: Texts, videos: Videos) -> None:
    """The tiles' cosines alone."""

    def drop(tile: Tile) -> torch.Tensor:
        return tile.cosines_nlfm[:, 0, 0]

    score_tiles(drop, texts.tokens_NLD, texts.mask_NL, videos.frames_MFD, videos.mask_MF, torch.ones(()))


def score_untiled(texts: Texts, videos: Videos, *, simple: bool) -> torch.Tensor:
    """All cosines in one tensor (texts, videos, tokens, frames)."""
    cosines = torch.einsum("nld,mfd->nmlf", texts.tokens_NLD, videos.frames_MFD)
    token_scores = (cosines * (TAU * cosines).softmax(3)).sum(3)
    frame_scores = (cosines * (TAU * cosines).softmax(2)).sum(2)
    token_weights, frame_weights = (TAU * token_scores).softmax(2), (TAU * frame_scores).softmax(2)
    if simple:
        return ((token_weights * token_scores).sum(2) + (frame_weights * frame_scores).sum(2)) / 2
    return torch.einsum("nml,nmlf,nmf->nm", token_weights, cosines, frame_weights)


def interleaved(works: dict[str, Callable[[], Any]], num_pairs: int) -> dict[str, Any]:
    """Median wall and processor time, in microseconds a pair."""
    wall: dict[str, list[float]] = {name: [] for name in works}
    processor: dict[str, list[float]] = {name: [] for name in works}
    for repeat in range(REPEATS + 1):
        for name, work in works.items():
            started, spent = time.perf_counter(), time.process_time()
            work()
            if repeat:  # the first is a rehearsal
                wall[name].append(time.perf_counter() - started)
                processor[name].append(time.process_time() - spent)
    return {
        name: {
            "wall_us_a_pair": 1e6 * statistics.median(wall[name]) / num_pairs,
            "processor_us_a_pair": 1e6 * statistics.median(processor[name]) / num_pairs,
        }
        for name in works
    }


def measure_share() -> dict[str, Any]:
    texts, videos = make(*SHARE)
    short = shortened(texts)
    with torch.no_grad():
        times = interleaved(
            {
                "bare_products": lambda: bare_products(texts, videos),
                "mutual": lambda: score_pairs(texts, videos, tau=TAU),
                "simple": lambda: score_pairs(texts, videos, tau=TAU, interaction="simple"),
                "ti": lambda: score_pairs(texts, videos, tau=TAU, interaction="ti"),
                "mutual_short_texts": lambda: score_pairs(short, videos, tau=TAU),
            },
            SHARE[0] * SHARE[1],
        )
    bare = times["bare_products"]["processor_us_a_pair"]
    ratios = {name: value["processor_us_a_pair"] / bare for name, value in times.items()}
    return {"texts": SHARE[0], "videos": SHARE[1], **times, "processor_ratio_to_bare_products": ratios}


def measure_untiled() -> dict[str, Any]:
    """Beside ours on the same pairs."""
    texts, videos = make(UNTILED_SIZE, UNTILED_SIZE)
    with torch.no_grad():
        untiled = score_untiled(texts, videos, simple=False)
        if (untiled - score_pairs(texts, videos, tau=TAU)).abs().max() > 1e-6:
            raise RuntimeError("the two do not compute the same scores")
        return interleaved(
            {
                "mutual": lambda: score_pairs(texts, videos, tau=TAU),
                "untiled_mutual": lambda: score_untiled(texts, videos, simple=False),
                "untiled_simple": lambda: score_untiled(texts, videos, simple=True),
            },
            UNTILED_SIZE**2,
        )


def measure_alone(case: str) -> dict[str, Any]:
    """One case in this process: its time and the peak memory."""
    size = {"whole": SIZE, "untiled": UNTILED_SIZE}.get(case, BATCH_SIZE)
    texts, videos = make(size, size)
    before_mib = peak_mib()
    started, spent = time.perf_counter(), time.process_time()
    if case.startswith("train"):
        texts.tokens_NLD.requires_grad_()
        videos.frames_MFD.requires_grad_()
        tiled = case == "train_tiled"
        scores = score_pairs(texts, videos, tau=TAU) if tiled else score_untiled(texts, videos, simple=False)
        functional.cross_entropy(TAU * scores, torch.arange(size)).backward()
    else:
        with torch.no_grad():
            if case == "whole":
                score_pairs(texts, videos, tau=TAU)
            else:
                score_untiled(texts, videos, simple=True)
    return {
        "texts": size,
        "videos": size,
        "wall_s": time.perf_counter() - started,
        "processor_s": time.process_time() - spent,
        "inputs_mib": (texts.tokens_NLD.nbytes + videos.frames_MFD.nbytes) / 2**20,
        "before_mib": before_mib,
        "peak_mib": peak_mib(),
    }


def run_alone(case: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.mug", case]
    return json.loads(subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout)


def main() -> dict[str, Any]:
    """Measure, write the result, and return it."""
    result: dict[str, Any] = {
        "tokens": NUM_TOKENS,
        "frames": NUM_FRAMES,
        "dim": DIM,
        "tau": TAU,
        "repeats": REPEATS,
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_before": os.getloadavg()[0],
    }
    result["share"] = measure_share()
    result["same_pairs"] = {"texts": UNTILED_SIZE, "videos": UNTILED_SIZE, **measure_untiled()}
    for case in ("untiled", "train_tiled", "train_untiled", "whole"):
        result[case] = run_alone(case)
    untiled = result["untiled"]
    mib_a_pair = (untiled["peak_mib"] - untiled["before_mib"]) / UNTILED_SIZE**2
    untiled["pairs_in_2_gib"] = int((UNTILED_LIMIT_MIB - untiled["before_mib"]) / mib_a_pair)
    write_json(RESULT, result, digits=3)
    return result


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure_alone(sys.argv[1])))
    else:
        for name, value in main().items():
            print(f"{name}: {value}")
