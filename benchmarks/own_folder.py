"""What one's own folder costs, from files to R@1 in two commands, against decoding and bare forward passes.

    python -m benchmarks.own_folder

25 captioned clips of ../shared/real/videos and ViT-B/32 with random weights in a file: `stillmotion add`, then
`stillmotion run clip`, in a clone of the last commit with an empty cache and memo. What processes cost to start is the
same two commands on four films of four small frames, and taken off. `least` decodes each file whole by PyAV and puts as
many frames as were stored through the image tower, in this process. Writes benchmarks/results/own_folder.json.
"""

import csv
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

from stillmotion.backbones.pretrained import pretrained_model
from stillmotion.config.models import OpenClipBackboneParams
from stillmotion.embedding.embedder import FRAMES_A_PASS
from stillmotion.io.tables import read_json, write_json
from stillmotion.io.weights import save_tensors
from stillmotion.video.packed import PackedFrames

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "own_folder.json"
REAL = ROOT.parent / "shared" / "real"
NUM_VIDEOS, THREADS = 25, 2
PARAMS = OpenClipBackboneParams(
    family="open_clip", architecture="ViT-B-32", pretrained="random", revision="main", seed=0
)


def initial_weights() -> dict[str, torch.Tensor]:
    """Of a ViT-B/32, from a seed."""
    return dict(pretrained_model("clip", PARAMS, Path())[0].state_dict())


def captioned(folder: Path) -> None:
    """The real clips, with their captions."""
    folder.mkdir()
    with (REAL / "captions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))[:NUM_VIDEOS]
    for row in rows:
        shutil.copy(REAL / "videos" / row["video"], folder)
    write_captions(folder, [(row["video"], row["caption"]) for row in rows])


def small_films(folder: Path) -> None:
    """Four films of four frames, whose work takes no time beside the start of processes."""
    folder.mkdir()
    for number in range(4):
        with av.open(str(folder / f"{number}.mp4"), "w") as output:
            stream = output.add_stream("libx264", rate=4)
            stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
            for shade in range(4):
                image = np.full((64, 64, 3), 40 * number + 10 * shade, np.uint8)
                output.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            output.mux(stream.encode(None))
    write_captions(folder, [(f"{number}.mp4", f"shade {number}") for number in range(4)])


def write_captions(folder: Path, rows: list[tuple[str, str]]) -> None:
    with (folder / "captions.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("video", "caption"), *rows])


def two_commands(clone: Path, folder: Path, name: str) -> tuple[float, float]:
    """Seconds of `stillmotion add` and of `stillmotion run clip`."""
    # A memo for each: the small films may not find the model that the others have made.
    environment = os.environ | {"STILLMOTION_MEMO": str(clone.parent / f"memo_{name}"), "OMP_WAIT_POLICY": "passive"}
    took = []
    for arguments in (
        ["add", str(folder), "--name", name],
        ["run", "clip", "--set", f"dataset={name}", "--set", "model=ViT-B-32:file"],
    ):
        command = ["stillmotion", *arguments]
        started = time.perf_counter()
        done = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, check=False)
        took.append(time.perf_counter() - started)
        if done.returncode:
            raise RuntimeError(f"{' '.join(arguments)}: {done.stderr[-2000:]}")
    return took[0], took[1]


def apply_experiment(clone: Path) -> None:
    """Put into the workspace what the last experiment made: its metrics, and its frames."""
    listed = subprocess.run(
        ["dvc", "exp", "list", "--name-only"], cwd=clone, capture_output=True, text=True, check=True
    ).stdout.split()
    subprocess.run(["dvc", "exp", "apply", listed[0]], cwd=clone, check=True, capture_output=True)


def least(folder: Path, frames: PackedFrames) -> dict[str, float]:
    """Seconds of decoding every file whole, and of the image tower on as many frames as were stored."""
    torch.set_num_threads(THREADS)
    torch.set_flush_denormal(True)
    started = time.perf_counter()
    for path in sorted(folder.iterdir()):
        if path.suffix != ".csv":
            with av.open(str(path), metadata_errors="replace") as container:
                stream = container.streams.video[0]
                stream.thread_type = "AUTO"
                stream.codec_context.thread_count = THREADS
                for _ in container.decode(stream):
                    pass
    decoded = time.perf_counter()
    model = pretrained_model("clip", PARAMS, Path())[0].eval()
    counts = [len(frames.timestamps(video.video_id)) for video in frames.videos]
    passes = 0.0
    with torch.inference_mode():
        for count in counts:
            for first in range(0, count, FRAMES_A_PASS):
                pixels = torch.zeros(min(FRAMES_A_PASS, count - first), 3, 224, 224)
                before = time.perf_counter()
                model.encode_image(pixels)
                passes += time.perf_counter() - before
    return {"decode_s": decoded - started, "passes_s": passes, "num_frames": sum(counts)}


def main() -> dict[str, Any]:
    """Measure, write the result, and return it."""
    with tempfile.TemporaryDirectory() as folder:
        root, result = Path(folder), {"cpus": os.cpu_count(), "load_before": os.getloadavg()[0]}
        for name, make in (("start", small_films), ("mine", captioned)):
            make(root / name)
            clone = root / f"clone_{name}"
            subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
            save_tensors(clone / "data" / "weights" / "clip.safetensors", initial_weights())
            add_s, run_s = two_commands(clone, root / name, name)
            result |= {f"{name}_add_s": add_s, f"{name}_run_s": run_s}
        apply_experiment(clone)
        frames = PackedFrames(clone / "data" / "frames" / "mine")
        bare = least(root / "mine", frames)
        measured = read_json(clone / "metrics" / "retrieval" / "clip-mean.json")
    work_s = result["mine_add_s"] + result["mine_run_s"] - result["start_add_s"] - result["start_run_s"]
    result |= bare | {
        "num_videos": len(frames.videos),
        "r_at_1": measured["t2v"]["R@1"],
        "work_s": work_s,
        "against_decoding_and_passes": work_s / (bare["decode_s"] + bare["passes_s"]),
    }
    write_json(RESULT, result, digits=2)
    return result


if __name__ == "__main__":
    for name, value in main().items():
        print(f"{name}: {value}")
