"""What embed costs, against the bare forward passes of the same batches on frames already in memory.

    python -m benchmarks.embed

Two models with random weights: the built-in one on stored frames of 64 px, and open_clip's ViT-B-32 on 224 px.
The stage runs as a command with the memo off; its start (importing torch, loading the model) is measured on
one video and taken off. Writes benchmarks/results/embed.json.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import ruamel.yaml
import torch

from stillmotion.backbones.builtin import new_builtin
from stillmotion.backbones.embedding import FRAMES_A_PASS
from stillmotion.backbones.open_clip_backbone import load_open_clip, save_backbone
from stillmotion.backbones.pretrained import pretrained_model
from stillmotion.io.arrays import save_array
from stillmotion.io.tables import write_json
from stillmotion.params import BuiltinBackboneParams, OpenClipBackboneParams, load_params
from stillmotion.records import Action, Caption, Moment, Video, save_records
from stillmotion.video.packed import PackedVideo, frame_file, write_tables

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "embed.json"
REPEATS = 2
CASES = {"small_clip": (64, 200, 84), "vit_b_32": (224, 3, 84)}
"""Pixels, videos, stored frames a video."""


def write_store(folder: Path, *, size_px: int, num_videos: int, num_frames: int) -> None:
    """A store of random frames, and tables without captions."""
    rng = np.random.default_rng(0)
    uniform = np.linspace(0, num_frames - 1, 64).astype(np.int64)
    packed, videos = {}, []
    for index in range(num_videos):
        video = Video(f"video-{index:04d}", f"{index}.mp4", "test", 40.0, 30.0, 1200, size_px, size_px, "h264", "ok")
        frames = rng.integers(0, 256, (num_frames, size_px, size_px, 3), dtype=np.uint8)
        save_array(folder / "frames" / frame_file(video.video_id), frames)
        times = np.linspace(0, 40, num_frames)
        packed[video.video_id] = PackedVideo({}, times, uniform, np.arange(20), False)
        videos.append(video)
    write_tables(folder / "frames", videos, packed, {})
    save_records(folder / "raw", Video, videos)
    for kind in (Caption, Moment, Action):
        save_records(folder / "raw", kind, [])


def run_stage(folder: Path, environment: dict[str, str]) -> float:
    """Seconds of the stage as a command."""
    started = time.perf_counter()
    subprocess.run(
        [
            *(sys.executable, str(ROOT / "src" / "embed.py"), "--model", "model", "--raw", "raw"),
            *("--frames", "frames", "--output", "output"),
        ],
        cwd=folder,
        env=environment,
        check=True,
        stderr=subprocess.DEVNULL,
    )
    return time.perf_counter() - started


def bare_passes(folder: Path, *, size_px: int, num_videos: int, num_frames: int) -> float:
    """Seconds of the image tower alone on pixels in memory, a video at a time as in the stage."""
    model = load_open_clip(folder / "model", torch.device("cpu")).model
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.set_flush_denormal(True)
    pixels = torch.rand(num_frames, 3, size_px, size_px)
    with torch.inference_mode():
        model.encode_image(pixels[:FRAMES_A_PASS])
        started = time.perf_counter()
        for _ in range(num_videos):
            for first in range(0, num_frames, FRAMES_A_PASS):
                model.encode_image(pixels[first : first + FRAMES_A_PASS])
        return time.perf_counter() - started


def measure(name: str, folder: Path) -> dict[str, Any]:
    """Medians and their ratio for one model."""
    size_px, num_videos, num_frames = CASES[name]
    sizes = {"size_px": size_px, "num_frames": num_frames}
    chosen = load_params(ROOT / "params.yaml").backbones[name]
    if isinstance(chosen, BuiltinBackboneParams):
        backbone = new_builtin(chosen)
        save_backbone(folder / "model", backbone.model, backbone.config, {})
    else:
        random = OpenClipBackboneParams(**chosen.model_dump() | {"pretrained": "random"})
        model, config, source = pretrained_model(name, random, folder)
        save_backbone(folder / "model", model, config, source)
    yaml = ruamel.yaml.YAML()
    params = yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["sample_frames"]["size_px"] = size_px
    with (folder / "params.yaml").open("w", encoding="utf-8") as file:
        yaml.dump(params, file)
    environment = os.environ | {"STILLMOTION_MEMO": "off"}
    stage, start, bare = [], [], []
    for _ in range(REPEATS):
        for count, seconds in ((1, start), (num_videos, stage)):
            shutil.rmtree(folder / "frames", ignore_errors=True)
            shutil.rmtree(folder / "raw", ignore_errors=True)
            write_store(folder, num_videos=count, **sizes)
            seconds.append(run_stage(folder, environment))
        bare.append(bare_passes(folder, num_videos=num_videos - 1, **sizes))
    embedding_s = statistics.median(stage) - statistics.median(start)
    return {
        "frames": (num_videos - 1) * num_frames,
        "embed_s": embedding_s,
        "start_s": statistics.median(start),
        "bare_forward_passes_s": statistics.median(bare),
        "wall_ratio_to_bare_forward_passes": embedding_s / statistics.median(bare),
    }


def main() -> dict[str, Any]:
    """Measure both models and write the result."""
    result: dict[str, Any] = {"repeats": REPEATS, "cpus": os.cpu_count(), "load_before": os.getloadavg()[0]}
    for name in CASES:
        with tempfile.TemporaryDirectory() as folder:
            result[name] = measure(name, Path(folder))
    write_json(RESULT, result, digits=3)
    return result


if __name__ == "__main__":
    for name, value in main().items():
        print(f"{name}: {value}")
