"""What sample_frames costs, against ffmpeg decoding the same files and throwing the frames away.

    python -m benchmarks.sample_frames

The stage runs as a command, as in the pipeline, with the memo off, at 224 px with 64 uniform frames and one
for each 2 s. Per-video figures are the difference between 40 and 10 videos, over 30: the start of Python
is in neither, and is given apart. Writes benchmarks/results/sample_frames.json.
"""

import os
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import ruamel.yaml

from stillmotion.io.records import Video, save_records
from stillmotion.io.tables import write_json

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "sample_frames.json"
WIDTH, HEIGHT, RATE, DURATION_S = 640, 360, 30, 30
FEW, MANY = 10, 40
REPEATS = 3


@dataclass(frozen=True)
class Cost:
    """Of a command and all its children."""

    wall_s: float
    cpu_s: float
    peak_mib: float
    """Of its largest process."""


def measure(command: list[str], **settings: Any) -> Cost:
    started = time.perf_counter()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, **settings)
    assert process.stderr is not None
    log = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{command[0]} failed: {log.decode(errors='replace')}")
    return Cost(
        wall_s=time.perf_counter() - started,
        cpu_s=usage.ru_utime + usage.ru_stime,
        peak_mib=usage.ru_maxrss / 1024,
    )


def make_film(path: Path) -> bytes:
    """A textured picture that drifts, under film grain: about as many bits a frame as a film from the net."""
    rng = np.random.default_rng(0)
    large = rng.integers(40, 216, (24, 40, 3), dtype=np.uint8)
    picture = av.VideoFrame.from_ndarray(large, format="rgb24").reformat(WIDTH * 2, HEIGHT * 2, "rgb24").to_ndarray()
    grain = rng.integers(0, 12, (8, HEIGHT, WIDTH, 3), dtype=np.uint8)
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.bit_rate = 700_000
        for number in range(RATE * DURATION_S):
            top = int(HEIGHT / 2 * (1 + np.sin(number / 70)))
            left = int(WIDTH / 2 * (1 + np.cos(number / 110)))
            image = picture[top : top + HEIGHT, left : left + WIDTH] + grain[number % len(grain)]
            output.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        output.mux(stream.encode(None))
    return path.read_bytes()


def prepare(root: Path) -> list[Path]:
    """MANY films of equal length, and raw tables that name FEW and MANY of them."""
    film = make_film(root / "film.mp4")
    paths = [root / f"film_{number:02}.mp4" for number in range(MANY)]
    for number, path in enumerate(paths):
        path.write_bytes(film + struct.pack(">I4sI", 12, b"free", number))
    for count in (FEW, MANY):
        (root / f"raw_{count}").mkdir()
        videos = [
            Video(path.stem, path.name, "train", None, None, None, None, None, None, "ok") for path in paths[:count]
        ]
        save_records(root / f"raw_{count}", Video, videos)
    yaml = ruamel.yaml.YAML()
    params = yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["sample_frames"].update(size_px=224, num_uniform=64, clip_length_s=2.0)
    yaml.dump(params, root / "params.yaml")
    return paths


def run_stage(root: Path, *, videos: int, workers: int) -> Cost:
    script = str(ROOT / "src" / "sample_frames.py")
    command = [sys.executable, script, "--raw", f"raw_{videos}", "--output", "frames"]
    environment = os.environ | {"STILLMOTION_MEMO": "off", "STILLMOTION_WORKERS": str(workers)}
    return measure(command, cwd=root, env=environment)


def run_ffmpeg(paths: list[Path]) -> Cost:
    costs = [measure(["ffmpeg", "-v", "error", "-threads", "1", "-i", str(path), "-f", "null", "-"]) for path in paths]
    return Cost(
        sum(cost.wall_s for cost in costs),
        sum(cost.cpu_s for cost in costs),
        max(cost.peak_mib for cost in costs),
    )


def main() -> dict[str, Any]:
    """Measure, write the result, and return it."""
    if shutil.which("ffmpeg") is None:
        raise SystemExit("benchmarks.sample_frames: ffmpeg is not there; install it (apt-get install ffmpeg)")
    version = subprocess.run(["ffmpeg", "-version"], capture_output=True, text=True, check=True).stdout.split()[2]
    cases = [(videos, workers) for workers in (1, 2) for videos in (FEW, MANY)]
    runs: dict[tuple[int, int], list[Cost]] = {case: [] for case in cases}
    ffmpeg: list[Cost] = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        paths = prepare(root)
        bits = paths[0].stat().st_size * 8 / DURATION_S
        # Interleaved, so that what else the machine does falls on all of them alike.
        for _ in range(REPEATS):
            ffmpeg.append(run_ffmpeg(paths[:FEW]))
            for videos, workers in cases:
                runs[videos, workers].append(run_stage(root, videos=videos, workers=workers))

    def median(costs: list[Cost], name: str) -> float:
        return statistics.median(getattr(cost, name) for cost in costs)

    def per_video(workers: int, name: str) -> float:
        return (median(runs[MANY, workers], name) - median(runs[FEW, workers], name)) / (MANY - FEW)

    ffmpeg_cpu = median(ffmpeg, "cpu_s") / FEW
    result = {
        "film": f"{WIDTH}x{HEIGHT} H.264, {DURATION_S} s at {RATE} frames/s, {bits / 1e6:.2f} Mbit/s",
        "ffmpeg": version,
        "repeats": REPEATS,
        "cpus": os.cpu_count(),
        "load_before": os.getloadavg()[2],
        "cpu_s_per_video": {"ffmpeg": ffmpeg_cpu, "sample_frames": per_video(1, "cpu_s")},
        "cpu_ratio_to_ffmpeg": per_video(1, "cpu_s") / ffmpeg_cpu,
        "cpu_ratio_to_ffmpeg_with_start": median(runs[MANY, 1], "cpu_s") / MANY / ffmpeg_cpu,
        "wall_s_per_video": {f"workers_{workers}": per_video(workers, "wall_s") for workers in (1, 2)},
        "speedup_of_two_workers": per_video(1, "wall_s") / per_video(2, "wall_s"),
        "speedup_of_two_workers_with_start": median(runs[MANY, 1], "wall_s") / median(runs[MANY, 2], "wall_s"),
        "peak_mib_of_largest_process": {
            f"videos_{videos}": median(runs[videos, 2], "peak_mib") for videos in (FEW, MANY)
        },
        "all_cpu_s": {
            f"videos_{videos}_workers_{workers}": [cost.cpu_s for cost in costs]
            for (videos, workers), costs in runs.items()
        },
    }
    write_json(RESULT, result, digits=3)
    return result


if __name__ == "__main__":
    for name, value in main().items():
        print(f"{name}: {value}")
