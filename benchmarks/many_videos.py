"""What 10,000 videos cost against 100, where nothing has to be decoded: DVC and the stages that look at each of them.

    python -m benchmarks.many_videos

Stand-ins of three frames, which differ in a box that players ignore, in a folder that `dvc add` knows. In a clone of
the last commit: `download`, `sample_frames` from a full memo, and where nothing has changed `dvc repro` of both and of
the whole default pipeline, which was run with as little training as it takes. Beside it what DVC alone takes: a
project of one stage, `touch`, that depends on the same folder.
Writes benchmarks/results/many_videos.json.
"""

import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import av
import numpy as np
import ruamel.yaml

from stillmotion.io.tables import write_json

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "many_videos.json"
FEW, MANY = 100, 10_000
REPEATS = 3
SOURCE, RAW, FRAMES = "data/sources/many", "data/raw/many", "data/frames/many"


def make_film(path: Path) -> bytes:
    """Three frames."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for level in (50, 100, 150):
            image = np.full((64, 64, 3), level, dtype=np.uint8)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        output.mux(stream.encode(None))
    return path.read_bytes()


def write_source(folder: Path, film: bytes, count: int) -> None:
    """The videos and a captions.csv."""
    folder.mkdir(parents=True)
    rows = ["video,caption,split"]
    for number in range(count):
        name, split = f"v{number:05}.mp4", ("train", "validation", "test")[number % 3]
        (folder / name).write_bytes(film + struct.pack(">I4sI", 12, b"free", number))
        rows.append(f"{name},the film of number {number},{split}")
    (folder / "captions.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


def measure(count: int) -> dict[str, float]:
    """Seconds of each command with so many videos."""
    with tempfile.TemporaryDirectory() as name:
        clone = Path(name) / "clone"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        yaml = ruamel.yaml.YAML()
        params = yaml.load((clone / "params.yaml").read_text(encoding="utf-8"))
        params["dataset"] = "many"
        params["backbones"]["small_clip"]["steps"] = 6
        params["recipes"]["patch_dropout"]["epochs"] = params["train_aggregator"]["epochs"] = 1
        with (clone / "params.yaml").open("w", encoding="utf-8") as file:
            yaml.dump(params, file)
        write_source(clone / SOURCE, make_film(Path(name) / "film.mp4"), count)
        environment = os.environ | {"STILLMOTION_MEMO": str(Path(name) / "memo"), "PYTHONPATH": str(clone / "src")}

        def run(*command: str) -> float:
            started = time.perf_counter()
            done = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(f"{' '.join(command)}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
            print(f"{count} videos: {' '.join(command)[:60]}: {time.perf_counter() - started:.1f} s", flush=True)
            return time.perf_counter() - started

        sample = (sys.executable, "src/sample_frames.py", "--raw", f"{RAW}/tables", "--output", FRAMES)
        seconds = {
            "dvc_add": run("dvc", "add", SOURCE),
            "download": run(sys.executable, "src/download.py", "--source", SOURCE, "--output", RAW),
            "sample_frames": run(*sample),
            "sample_frames_from_memo": run(*sample),
            "repro_from_memo": run("dvc", "repro", "sample_frames@many"),
        }
        seconds["nothing_to_do_until_frames"] = min(run("dvc", "repro", "sample_frames@many") for _ in range(REPEATS))
        seconds["repro_of_the_rest"] = run("dvc", "repro")
        seconds["nothing_to_do"] = min(run("dvc", "repro") for _ in range(REPEATS))
        seconds["nothing_to_do_of_dvc_alone"] = nothing_to_do_of_dvc_alone(clone / SOURCE, Path(name) / "alone")
        frames = [file for file in (clone / FRAMES).rglob("*") if file.is_file()]
        return seconds | {"files_of_the_store": len(frames)}


def nothing_to_do_of_dvc_alone(source: Path, project: Path) -> float:
    """Seconds of `dvc repro` in a project that has nothing but the folder, added, and a stage that depends on it."""
    shutil.copytree(source, project / "videos")
    stage = {"cmd": "touch looked", "deps": ["videos"], "outs": ["looked"]}
    (project / "dvc.yaml").write_text(json.dumps({"stages": {"look": stage}}), encoding="utf-8")

    def run(*command: str) -> float:
        started = time.perf_counter()
        subprocess.run(command, cwd=project, check=True, capture_output=True)
        return time.perf_counter() - started

    for command in (("git", "init"), ("dvc", "init"), ("dvc", "add", "videos"), ("dvc", "repro")):
        run(*command)
    return min(run("dvc", "repro") for _ in range(REPEATS))


def main() -> dict[str, Any]:
    """Measure and write the result."""
    result = {"cpus": os.cpu_count(), "load_before": os.getloadavg()[2]}
    result |= {f"{count}_videos": measure(count) for count in (FEW, MANY)}
    for name in ("nothing_to_do_until_frames", "nothing_to_do"):
        result[f"{name}_ratio"] = result[f"{MANY}_videos"][name] / result[f"{FEW}_videos"][name]
    for name in ("nothing_to_do", "nothing_to_do_of_dvc_alone"):
        result[f"{name}_more_s"] = result[f"{MANY}_videos"][name] - result[f"{FEW}_videos"][name]
    write_json(RESULT, result, digits=2)
    return result


if __name__ == "__main__":
    for name, value in main().items():
        print(f"{name}: {value}")
