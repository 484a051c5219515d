"""What it costs and changes to keep frames as JPEG: bytes, times of the stages that read them, and trained results.

    python -m benchmarks.frame_formats

In a clone of the last commit, on the results of the default `dvc repro` in this one: frames are sampled in each format,
the fine-tuned built-in model embeds both and is scored on both, and the base is fine-tuned on both; nothing comes from
the memo. Seconds are those of processors, with the stage's start. Frames of 64 px are the hardest case: of 224 px a
block of JPEG holds less of the picture. Writes benchmarks/results/frame_formats.json.
"""

import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import ruamel.yaml

from stillmotion.embedding.reader import Embeddings
from stillmotion.io.tables import read_json, write_json

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "frame_formats.json"
FORMATS = ("raw", "jpeg")
MODEL, BASE, RECIPE = "small_clip-patch_dropout", "small_clip", "patch_dropout"
RAW = ("--raw", "data/raw/toy/tables")


def run_stage(clone: Path, *command: str) -> float:
    """Processor seconds of a stage."""

    def used() -> float:
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return children.ru_utime + children.ru_stime

    before = used()
    environment = os.environ | {"STILLMOTION_MEMO": "off", "PYTHONPATH": str(clone / "src")}
    done = subprocess.run([sys.executable, *command], cwd=clone, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr[-2000:]}")
    return used() - before


def measure(clone: Path, form: str) -> dict[str, Any]:
    """What one format costs and gives; the embeddings stay in the clone."""
    yaml = ruamel.yaml.YAML()
    params = yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["sample_frames"]["format"] = form
    with (clone / "params.yaml").open("w", encoding="utf-8") as file:
        yaml.dump(params, file)
    frames, embedded, tuned, scored = (f"{kind}-{form}" for kind in ("frames", "embedded", "tuned", "scored"))
    store = ("--frames", frames)
    model = ("--model", f"models/backbones/{MODEL}")
    seconds = {
        "sample_frames": run_stage(clone, "src/sample_frames.py", *RAW, "--output", frames),
        "embed": run_stage(clone, "src/embed.py", *model, *RAW, *store, "--output", embedded),
        "finetune": run_stage(
            clone,
            *("src/finetune.py", "--recipe", RECIPE, "--seed", "0", "--backbone", f"models/backbones/{BASE}"),
            *(*RAW, *store, "--output", tuned, "--plot", f"{tuned}.json"),
        ),
    }
    aggregator = ("--aggregator", f"models/aggregators/{MODEL}-mean")
    outputs = ("--metrics", f"{scored}.json", "--predictions", scored)
    run_stage(clone, "src/evaluate_retrieval.py", "--scorer", "mean", *model, *aggregator, *RAW,
              "--embeddings", embedded, *outputs)  # fmt: skip
    losses = [row["loss"] for row in read_json(clone / f"{tuned}.json")]
    return {
        "megabytes": sum(file.stat().st_size for file in (clone / frames).rglob("*") if file.is_file()) / 1e6,
        "processor_s": seconds,
        "t2v_r_at_1": read_json(clone / f"{scored}.json")["t2v"]["R@1"],
        "last_training_loss": losses[-1],
    }


def main() -> dict[str, Any]:
    """Measure and write the result."""
    with tempfile.TemporaryDirectory() as name:
        clone = Path(name) / "clone"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        for folder in ("data/raw", "models"):
            (clone / folder).mkdir(parents=True, exist_ok=True)
            for made in (ROOT / folder).iterdir():
                if not (clone / folder / made.name).exists():
                    (clone / folder / made.name).symlink_to(made.resolve())
        result: dict[str, Any] = {"cpus": os.cpu_count(), "load_before": os.getloadavg()[2]}
        result |= {form: measure(clone, form) for form in FORMATS}
        raw, jpeg = (Embeddings(clone / f"embedded-{form}").frames for form in FORMATS)
        cosines = np.sum(np.asarray(raw, np.float64) * np.asarray(jpeg, np.float64), axis=1)
        result["cosine_of_frames"] = {"median": float(np.median(cosines)), "least": float(cosines.min())}
    write_json(RESULT, result, digits=5)
    return result


if __name__ == "__main__":
    for name, value in main().items():
        print(f"{name}: {value}")
