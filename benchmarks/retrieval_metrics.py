"""What retrieval metrics cost: a score matrix with bootstrap intervals, and embeddings without their matrix.

    python -m benchmarks.retrieval_metrics

The peer for the matrix is the code that CLIP4Clip and its descendants share: sort every row and look up where the
difference to the diagonal is zero. With scipy.stats.bootstrap it gives the same metrics with intervals, but for
mAP. The yardstick for embeddings is the two matrix products alone, their blocks thrown away. Embeddings are ranked
in a process of its own, whose peak memory is that of the whole. Writes benchmarks/results/retrieval_metrics.json.
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

import numpy as np
import scipy.stats

from benchmarks.memory import peak_mib
from stillmotion.io.tables import write_json
from stillmotion.metrics.bootstrap import NUM_RESAMPLES
from stillmotion.metrics.embedding_ranks import BLOCK_SCORES, rank_embeddings
from stillmotion.metrics.retrieval_summary import RECALL_AT, score_retrieval, summarise_with_intervals

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "retrieval_metrics.json"
MATRIX_SIZE = 5_000
GALLERY_SIZE, DIM = 50_000, 512
REPEATS = 3


def seconds_of(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def peer_ranks(scores: np.ndarray) -> np.ndarray:
    """Ranks from 1; only right where no score is tied."""
    own = np.diag(-scores)[:, None]
    return np.where(np.sort(-scores, axis=1) - own == 0)[1] + 1


def peer_metrics(ranks: np.ndarray, axis: int = -1) -> np.ndarray:
    hits = [100 * np.mean(ranks <= k, axis=axis) for k in RECALL_AT]
    mean_reciprocal = 100 * np.mean(1 / ranks, axis=axis)
    return np.stack([*hits, np.median(ranks, axis=axis), np.mean(ranks, axis=axis), mean_reciprocal])


def peer_with_intervals(scores: np.ndarray) -> None:
    for ranks in (peer_ranks(scores), peer_ranks(scores.T)):
        scipy.stats.bootstrap(
            (ranks,), peer_metrics, n_resamples=NUM_RESAMPLES, method="percentile", batch=100, rng=0, vectorized=True
        )


def measure_matrix() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    scores = rng.standard_normal((MATRIX_SIZE, MATRIX_SIZE), dtype=np.float32)
    scores[np.diag_indices(MATRIX_SIZE)] += 3
    pairs = np.stack([np.arange(MATRIX_SIZE)] * 2, axis=1)
    found = score_retrieval(scores, pairs, rng=rng)["t2v"]
    # float32 scores of one row do tie, which costs the peer a few ranks: its own R@1 may be off by a query or two
    if abs(found["R@1"] - np.mean(100 * (peer_ranks(scores) == 1))) > 0.1:
        raise RuntimeError("the two do not compute the same ranks")
    runs: dict[str, list[float]] = {"ours": [], "peer": [], "peer_without_intervals": []}
    for _ in range(REPEATS):  # interleaved, so that what else the machine does falls on all of them alike
        runs["ours"].append(seconds_of(lambda: score_retrieval(scores, pairs, rng=rng)))
        runs["peer"].append(seconds_of(lambda: peer_with_intervals(scores)))
        runs["peer_without_intervals"].append(seconds_of(lambda: [peer_ranks(scores), peer_ranks(scores.T)]))
    medians = {name: statistics.median(seconds) for name, seconds in runs.items()}
    return {
        "size": MATRIX_SIZE,
        "resamples": NUM_RESAMPLES,
        "seconds": medians,
        "speedup_over_peer": medians["peer"] / medians["ours"],
        "all_seconds": runs,
    }


def unit_embeddings(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Texts and videos whose pairs have a cosine of about 0.2, so that ranks spread widely."""
    rng = np.random.default_rng(0)
    videos = rng.standard_normal((size, DIM), dtype=np.float32)
    texts = rng.standard_normal((size, DIM), dtype=np.float32)
    texts *= 5
    texts += videos
    for embeddings in (texts, videos):
        embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    return texts, videos


def rank_gallery(size: int) -> dict[str, Any]:
    """Seconds and peak memory of this process; run once in a process of its own."""
    texts, videos = unit_embeddings(size)
    pairs = np.stack([np.arange(size)] * 2, axis=1)
    started = time.perf_counter()
    ranks = rank_embeddings(texts, videos, pairs)
    ranked = time.perf_counter()
    rng = np.random.default_rng(0)
    for direction in ranks.directions.values():
        summarise_with_intervals(direction, rng=rng)
    summarised = time.perf_counter()
    peak = peak_mib()
    rows = max(1, BLOCK_SCORES // size)

    def products() -> None:
        for queries, items in ((texts, videos), (videos, texts)):
            for start in range(0, size, rows):
                queries[start : start + rows] @ items.T

    bare_s = seconds_of(products)
    return {
        "size": size,
        "dim": DIM,
        "rank_s": ranked - started,
        "intervals_s": summarised - ranked,
        "bare_products_s": bare_s,
        "rank_ratio_to_bare_products": (ranked - started) / bare_s,
        "peak_mib": peak,
        "embeddings_mib": (texts.nbytes + videos.nbytes) / 2**20,
        "matrix_would_be_mib": size * size * texts.itemsize / 2**20,
    }


def main() -> dict[str, Any]:
    """Measure, write the result, and return it."""
    result: dict[str, Any] = {"repeats": REPEATS, "cpus": os.cpu_count(), "load_before": os.getloadavg()[0]}
    result["matrix"] = measure_matrix()
    command = [sys.executable, "-m", "benchmarks.retrieval_metrics", str(GALLERY_SIZE)]
    child = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True)
    result["embeddings"] = json.loads(child.stdout)
    write_json(RESULT, result, digits=3)
    return result


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(rank_gallery(int(sys.argv[1]))))
    else:
        for name, value in main().items():
            print(f"{name}: {value}")
