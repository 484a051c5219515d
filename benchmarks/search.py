"""How long `stillmotion search` takes over 10,000 videos, once the model is loaded.

    python -m benchmarks.search

The embeddings are random stand-ins on disk: each video has 40 s in 4 scenes, 64 uniform frames and one for each of
its 20 clips, 512 dimensions. `hit` asks for a scene of one video; `no_hit` for a random vector, so that no video
stands out. Opening reads the index; a search maps 1.6 GiB, which the page cache holds
(the first search, given apart, may read the disk). Writes benchmarks/results/search.json.
"""

import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from stillmotion.embedding.reader import EmbeddedVideo, Embeddings
from stillmotion.io.tables import write_json, write_rows
from stillmotion.search.ranking import UNTUNED, SelectionRule, find_moments

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "search.json"
NUM_VIDEOS, NUM_FRAMES, NUM_SCENES, DIM = 10_000, 84, 4, 512
NUM_CLIPS, CLIP_LENGTH_S = 20, 2.0
NOISE = 0.5
VIDEOS_A_BLOCK = 500
TOP = 10
REPEATS = 3

RULES = {
    "vc1_norm": UNTUNED,
    "vc2_log_smooth_norm": SelectionRule(
        "vc2", "log_smooth_norm", {"threshold": 0.7, "change": 0.6, "share": 0.5, "window": 3}, 1e-6, None
    ),
}


def write_embeddings(folder: Path) -> np.ndarray:
    """Stand-ins for a folder of embeddings; returns the vector of one scene."""
    rng = np.random.default_rng(0)
    clips = np.linspace(0, NUM_FRAMES - 1, NUM_CLIPS).astype(int).tolist()
    uniform = [frame for frame in range(NUM_FRAMES) if frame not in clips]
    write_rows(
        folder / "index.jsonl",
        (
            EmbeddedVideo(
                f"v{row:05d}", "test", NUM_CLIPS * CLIP_LENGTH_S, row * NUM_FRAMES, NUM_FRAMES, uniform, clips
            ).row()
            for row in range(NUM_VIDEOS)
        ),
    )
    shape = (NUM_VIDEOS * NUM_FRAMES, DIM)
    frames = np.lib.format.open_memmap(folder / "frames.npy", mode="w+", dtype=np.float32, shape=shape)
    scene = np.empty(0)
    for first in range(0, NUM_VIDEOS, VIDEOS_A_BLOCK):
        scenes = rng.standard_normal((VIDEOS_A_BLOCK * NUM_SCENES, DIM), dtype=np.float32)
        scene = scenes[0]
        block = np.repeat(scenes, NUM_FRAMES // NUM_SCENES, axis=0)
        block += NOISE * rng.standard_normal(block.shape, dtype=np.float32)
        block /= np.linalg.norm(block, axis=1, keepdims=True)
        frames[first * NUM_FRAMES : (first + VIDEOS_A_BLOCK) * NUM_FRAMES] = block
    frames.flush()
    write_json(folder / "model.json", {"dim": DIM})
    return scene / np.linalg.norm(scene)


def main() -> dict[str, Any]:
    """Measure, write the result, and return it."""
    result: dict[str, Any] = {
        "videos": NUM_VIDEOS,
        "stored_frames": NUM_FRAMES,
        "clips": NUM_CLIPS,
        "dim": DIM,
        "top": TOP,
        "repeats": REPEATS,
        "cpus": os.cpu_count(),
        "load_before": os.getloadavg()[0],
    }
    with tempfile.TemporaryDirectory() as name:
        hit = write_embeddings(Path(name))
        random = np.random.default_rng(1).standard_normal(DIM)
        queries = {"hit": hit, "no_hit": random / np.linalg.norm(random)}
        started = time.perf_counter()
        embedded = Embeddings(Path(name))
        result["open_s"] = time.perf_counter() - started
        for rule_name, rule in RULES.items():
            for query_name, query in queries.items():
                seconds = []
                for _ in range(REPEATS):
                    started = time.perf_counter()
                    find_moments(embedded.frames, embedded.videos, query, rule, clip_length_s=CLIP_LENGTH_S, top=TOP)
                    seconds.append(time.perf_counter() - started)
                result[f"{rule_name}-{query_name}"] = {"median_s": statistics.median(seconds), "first_s": seconds[0]}
    write_json(RESULT, result, digits=3)
    return result


if __name__ == "__main__":
    for name, value in main().items():
        print(f"{name}: {value}")
