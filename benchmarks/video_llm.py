"""What all layers and poolings of a video LLM cost, against the bare forward pass of the same inputs.

    python -m benchmarks.video_llm

Two architectures of published width at a reduced depth, with random weights: SmolVLM2-500M's and VideoLLaMA3-2B's. Two
passes are measured in turn: the model of transformers called with ready inputs, and what this project keeps of the same
inputs; and once more with the processor in both. `ratio` is the median of the pairs' ratios. The stage embed runs as a
command on few and on many videos, whose peak memories say whether it grows with their number. Writes
benchmarks/results/video_llm.json.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import ruamel.yaml
import torch
from tests.tiny_video_llms import SETTINGS, write

from benchmarks.embed import run_stage, write_store
from stillmotion.backbones.video_llm.checkpoint import pretrained_video_llm
from stillmotion.backbones.video_llm.transformers_model import TransformersVideoLLM
from stillmotion.config.video_llms import POOLINGS, VideoLLMBackboneParams
from stillmotion.io.tables import write_json

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "video_llm.json"
PAIRS, NUM_FRAMES, SIZE_PX, TEXTS = 7, 2, 224, 8
FEW, MANY = 2, 8
"""Videos of the stage, which runs with one of the models."""
STAGED = "video_llama_3"
CASES: dict[str, dict[str, Any]] = {
    "smolvlm": {
        "llm": {"hidden_size": 960, "intermediate_size": 2560, "num_attention_heads": 15, "num_key_value_heads": 5},
        "vision": {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "patch_size": 16},
        "size_px": 512,
        "scale_factor": 4,
    },
    "video_llama_3": {
        "llm": {"hidden_size": 1536, "intermediate_size": 8960, "num_attention_heads": 12, "num_key_value_heads": 2},
        "vision": {"hidden_size": 1152, "intermediate_size": 4304, "num_attention_heads": 16},
        "size_px": SIZE_PX,
    },
}
DEPTHS = {"llm": 6, "vision": 1}


def made(member: str, folder: Path) -> tuple[TransformersVideoLLM, dict[str, Any]]:
    """The model with initial weights, and where it came from."""
    sizes = CASES[member]
    shallow = {part: dict(sizes[part], num_hidden_layers=depth) for part, depth in DEPTHS.items()}
    write(member, folder / member, weights=False, **sizes | shallow)
    block = SETTINGS | {"num_frames": NUM_FRAMES, "poolings": list(POOLINGS), "family": "video_llm"}
    block |= {"checkpoint": "folder", "revision": "main", "weights": "random", "seed": 0}
    model, source = pretrained_video_llm(member, VideoLLMBackboneParams(**block), folder)
    assert isinstance(model, TransformersVideoLLM)
    return model, source


def paired(bare: Callable[[], object], kept: Callable[[], object]) -> dict[str, float]:
    """Medians of both, measured in turn, and of their ratio."""
    bare()
    kept()
    seconds = []
    for _ in range(PAIRS):
        pair = []
        for run in (bare, kept):
            started = time.perf_counter()
            run()
            pair.append(time.perf_counter() - started)
        seconds.append(pair)
    return {
        "bare_s": statistics.median(pair[0] for pair in seconds),
        "kept_s": statistics.median(pair[1] for pair in seconds),
        "ratio": statistics.median(pair[1] / pair[0] for pair in seconds),
    }


@torch.no_grad()
def passes(model: TransformersVideoLLM) -> dict[str, Any]:
    """A video, and a batch of texts: the bare pass against all layers and poolings."""
    frames = np.random.default_rng(0).integers(0, 256, (NUM_FRAMES, SIZE_PX, SIZE_PX, 3), dtype=np.uint8)
    times = np.arange(float(NUM_FRAMES))
    ready = model.video_inputs([frames], [times])
    counted = ready["input_ids"] == getattr(model.model.config, model.visual_token)
    texts = ["a red circle moves to the left, and then " + "again " * number for number in range(TEXTS)]
    rows = model.tokenizer(texts, padding=True, return_tensors="pt")
    tokens = {name: rows[name] for name in ("input_ids", "attention_mask")}

    def bare(inputs: dict[str, Any]) -> object:
        return model.model.model(**inputs, use_cache=False)

    return {
        "tokens": ready["input_ids"].shape[1],
        "layers": model.num_layers + 1,
        "poolings": len(POOLINGS),
        "video": paired(lambda: bare(ready), lambda: model.keep(model.states_of(ready, counted, ""))),
        "video_from_frames": paired(
            lambda: bare(model.video_inputs([frames], [times])),
            lambda: model.keep_clips(frames, np.arange(NUM_FRAMES)[None], NUM_FRAMES, times),
        ),
        "texts": paired(lambda: bare(tokens), lambda: model.keep_texts(texts, TEXTS)),
    }


def stage_peaks(model: TransformersVideoLLM, source: dict[str, Any], folder: Path) -> dict[str, float]:
    """Peak MiB of the stage by the number of videos."""
    none = dict.fromkeys(("expansion", "pretraining", "recipe", "seed"))
    model.save(folder / "model", source | {"system": none | {"model": model.family, "base": model.family}})
    yaml = ruamel.yaml.YAML()
    params = yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["run"] |= {"probed": [], "assessed": [], "selected": []}
    params["embed"] |= {"clip_counts": [1], "spans": False, "single_frames": False}
    with (folder / "params.yaml").open("w", encoding="utf-8") as file:
        yaml.dump(params, file)
    peaks = {}
    for count in (FEW, MANY):
        with tempfile.TemporaryDirectory(dir=folder) as place:
            run = Path(place)
            write_store(run, size_px=SIZE_PX, num_videos=count, num_frames=84)
            for name in ("model", "params.yaml"):
                (run / name).symlink_to(folder / name)
            peaks[str(count)] = run_stage(run, os.environ | {"STILLMOTION_MEMO": "off"})[1]
    return peaks


def main() -> dict[str, Any]:
    """Measure the architectures and write the result."""
    result: dict[str, Any] = {"pairs": PAIRS, "cpus": os.cpu_count(), "load_before": os.getloadavg()[0]}
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    for member in CASES:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            model, source = made(member, folder)
            result[member] = passes(model)
            if member == STAGED:
                result[member]["peak_mib_by_num_videos"] = stage_peaks(model, source, folder)
        write_json(RESULT, result, digits=3)
    return result


if __name__ == "__main__":
    for name, value in main().items():
        print(f"{name}: {value}")
