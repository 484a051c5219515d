"""What embed costs, against the bare forward passes of the same batches on frames already in memory.

    python -m benchmarks.embed

Three models with random weights: the built-in one on stored frames of 64 px, open_clip's ViT-B-32 and X-CLIP base/32
with 8 frames on 224 px. The stage runs as a command with the memo off; its start (importing torch, loading the
model) is measured on one video and taken off. The peak memory of the two runs says whether it grows with the number
of videos. Writes benchmarks/results/embed.json.
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

from stillmotion.backbones.open_clip_backbone import save_backbone
from stillmotion.backbones.pretrained import pretrained_model
from stillmotion.backbones.registry import load_backbone
from stillmotion.backbones.xclip_backbone import XClipBackbone
from stillmotion.config.loading import load_params
from stillmotion.config.models import BuiltinBackboneParams, OpenClipBackboneParams, XClipArchitectureParams
from stillmotion.costs.initial_models import architecture_config, initial_xclip
from stillmotion.embedding.embedder import FRAMES_A_PASS
from stillmotion.io.arrays import save_array
from stillmotion.io.records import Action, Caption, Moment, Video, save_records
from stillmotion.io.tables import write_json
from stillmotion.training.builtin import new_builtin
from stillmotion.video.packed import PackedVideo, write_tables
from stillmotion.video.shards import join_parts, part_file

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "embed.json"
REPEATS = 2
XCLIP = "xclip_base_patch32"
CASES = {"small_clip": (64, 200, 84), "vit_b_32": (224, 3, 84), XCLIP: (224, 4, 84)}
"""Pixels, videos, stored frames a video."""


def write_store(folder: Path, *, size_px: int, num_videos: int, num_frames: int) -> None:
    """A store of random frames, and tables without captions."""
    rng = np.random.default_rng(0)
    uniform = np.linspace(0, num_frames - 1, 64).astype(np.int64)
    packed, videos = {}, []
    for index in range(num_videos):
        video = Video(f"video-{index:04d}", f"{index}.mp4", "test", 40.0, 30.0, 1200, size_px, size_px, "h264", "ok")
        frames = rng.integers(0, 256, (num_frames, size_px, size_px, 3), dtype=np.uint8)
        save_array(folder / "frames" / part_file(video.video_id), frames)
        times = np.linspace(0, 40, num_frames)
        packed[video.video_id] = PackedVideo({}, times, uniform, np.arange(20), False)
        videos.append(video)
    join_parts(folder / "frames", packed)
    write_tables(folder / "frames", videos, packed, {})
    save_records(folder / "raw", Video, videos)
    for kind in (Caption, Moment, Action):
        save_records(folder / "raw", kind, [])


LAUNCH = """
import os, subprocess, sys
process = subprocess.Popen(sys.argv[1:], stderr=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
print(usage.ru_maxrss)
sys.exit(os.waitstatus_to_exitcode(status))
"""
"""Starts a command from a small process: what getrusage gives of one begins with the peak of the process before it."""


def run_stage(folder: Path, environment: dict[str, str]) -> tuple[float, float]:
    """Seconds and peak MiB of the stage as a command."""
    command = [
        *(sys.executable, "-c", LAUNCH),
        *(sys.executable, str(ROOT / "src" / "embed.py"), "--model", "model", "--raw", "raw"),
        *("--frames", "frames", "--output", "output"),
    ]
    started = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    seconds = time.perf_counter() - started
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[3:])} ended with status {done.returncode}")
    return seconds, int(done.stdout.splitlines()[-1]) / 2**10


def bare_passes(folder: Path, *, size_px: int, num_videos: int, num_frames: int) -> float:
    """Seconds of the image tower alone on pixels in memory, a video at a time and in passes as in the stage."""
    backbone = load_backbone(folder / "model", torch.device("cpu"))
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.set_flush_denormal(True)
    if isinstance(backbone, XClipBackbone):
        model, clip_frames = backbone.model, backbone.clip_frames
        clips = load_params(folder / "params.yaml").embed.clip_counts
        num_clips = -(-num_frames // clip_frames) + sum(clips)  # groups of stored frames, and clips of them
        pixels = torch.rand(num_clips, clip_frames, 3, size_px, size_px)
        passes = pixels.split(FRAMES_A_PASS // clip_frames)
        embed = model.get_video_features
    else:
        pixels = torch.rand(num_frames, 3, size_px, size_px)
        passes, embed = pixels.split(FRAMES_A_PASS), backbone.model.encode_image
    with torch.inference_mode():
        embed(passes[0])
        started = time.perf_counter()
        for _ in range(num_videos):
            for batch in passes:
                embed(batch)
        return time.perf_counter() - started


def write_model(name: str, folder: Path) -> None:
    """The model folder, with random weights."""
    system = dict.fromkeys(("expansion", "pretraining", "recipe", "seed")) | {"model": name, "base": name}
    if name == XCLIP:
        config = architecture_config(XClipArchitectureParams(family="xclip", patch_size_px=32, num_frames=8))
        initial_xclip(config, torch.device("cpu")).save(folder / "model", {"system": system})
        return
    chosen = load_params(ROOT / "params.yaml").backbones[name]
    if isinstance(chosen, BuiltinBackboneParams):
        backbone = new_builtin(chosen)
        save_backbone(folder / "model", backbone.model, backbone.config, {"system": system})
    elif isinstance(chosen, OpenClipBackboneParams):
        random = OpenClipBackboneParams(**chosen.model_dump() | {"pretrained": "random"})
        model, config, source = pretrained_model(name, random, folder)
        save_backbone(folder / "model", model, config, source | {"system": system})


def measure(name: str, folder: Path) -> dict[str, Any]:
    """Medians and their ratio for one model."""
    size_px, num_videos, num_frames = CASES[name]
    sizes = {"size_px": size_px, "num_frames": num_frames}
    write_model(name, folder)
    yaml = ruamel.yaml.YAML()
    params = yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["sample_frames"]["size_px"] = size_px
    with (folder / "params.yaml").open("w", encoding="utf-8") as file:
        yaml.dump(params, file)
    environment = os.environ | {"STILLMOTION_MEMO": "off"}
    stage: list[float] = []
    start: list[float] = []
    bare: list[float] = []
    peaks: dict[int, list[float]] = {1: [], num_videos: []}
    for _ in range(REPEATS):
        for count, seconds in ((1, start), (num_videos, stage)):
            shutil.rmtree(folder / "frames", ignore_errors=True)
            shutil.rmtree(folder / "raw", ignore_errors=True)
            write_store(folder, num_videos=count, **sizes)
            taken, peak = run_stage(folder, environment)
            seconds.append(taken)
            peaks[count].append(peak)
        bare.append(bare_passes(folder, num_videos=num_videos - 1, **sizes))
    embedding_s = statistics.median(stage) - statistics.median(start)
    return {
        "frames": (num_videos - 1) * num_frames,
        "embed_s": embedding_s,
        "start_s": statistics.median(start),
        "bare_forward_passes_s": statistics.median(bare),
        "wall_ratio_to_bare_forward_passes": embedding_s / statistics.median(bare),
        "peak_mib_by_num_videos": {str(count): statistics.median(found) for count, found in peaks.items()},
    }


def main() -> dict[str, Any]:
    """Measure the models and write the result."""
    result: dict[str, Any] = {"repeats": REPEATS, "cpus": os.cpu_count(), "load_before": os.getloadavg()[0]}
    for name in CASES:
        with tempfile.TemporaryDirectory() as folder:
            result[name] = measure(name, Path(folder))
    write_json(RESULT, result, digits=3)
    return result


if __name__ == "__main__":
    for name, value in main().items():
        print(f"{name}: {value}")
