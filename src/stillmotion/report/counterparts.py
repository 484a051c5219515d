"""Which of our systems a published one corresponds to, and where its number lies.

A counterpart matches the source and the system of a row of data/published_results.csv by regular expression, and
finds our values for the row's metrics where the active dataset is the same and the system has run.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from stillmotion.report.differences import num_clips
from stillmotion.report.evidence import Evidence


@dataclass(frozen=True)
class Ours:
    """Our values beside those of a published system."""

    label: str
    values: Mapping[str, str]
    """By the published name of the metric, in the unit printed there."""


@dataclass(frozen=True)
class Counterpart:
    """Published systems that we build too."""

    source: str
    """Regular expression for the whole source."""
    system: str
    """Regular expression for the whole system; its groups go to `find`."""
    published_on: str
    """Regular expression for the whole dataset there."""
    dataset: str
    """The folder under data/sources/ that holds the same data; empty where the numbers need none."""
    metrics: tuple[str, ...]
    """Those published metrics that ours has too."""
    commands: tuple[int, ...]
    """Which of the section's commands run it."""
    find: Callable[[Mapping[str, str], Evidence], Ours | None]

    def match(self, source: str, dataset: str, system: str) -> Mapping[str, str] | None:
        """The groups of the system's name, or None where this is no counterpart of it."""
        if not (re.fullmatch(self.source, source) and re.fullmatch(self.published_on, dataset)):
            return None
        found = re.fullmatch(self.system, system)
        return None if found is None else found.groupdict(default="")


XCLIP = {
    ("32", "8"): "xclip_base_patch32",
    ("16", "8"): "xclip_base_patch16",
    ("32", "16"): "xclip_base_patch32_16_frames",
    ("16", "16"): "xclip_base_patch16_16_frames",
    ("16", "32"): "xclip_base_patch16_zero_shot",
}
"""Backbones of the thesis by patch size and frames; the last is the only published one that takes 32 frames."""
AGGREGATORS = {"": "mean", "mean": "mean", "transformer-mean": "transformer_mean", "class-token": "class_token"}
CLIP = {"B/32": "clip_vit_b_32", "B/16": "clip_vit_b_16", "L/14": "clip_vit_l_14"}
VCLIPPER = "vit_b_32"
SUFFIXES = {"R1@0.5": "", "frame_AP@0.5": "_frames"}
"""What the names of selections in params.yaml end with, by the objective of their thresholds."""

VAL_1, MSRVTT_1K, QVHIGHLIGHTS_VAL = 4917, 1000, 1550
"""Queries of the published test splits: ours, the missing ones included, must be as many to be the same data."""

EPOCH = 9008
"""Videos of the train split of ActivityNet Captions (10,009) without the 10 % for validation."""

THESIS_METRICS = {"R@1": "t2v R@1", "R@5": "t2v R@5", "R@10": "t2v R@10", "medR": "t2v MedR"}
HIT_RATES = {
    f"{way}_{theirs}": f"{way} {name}"
    for way in ("t2v", "v2t")
    for theirs, name in {**{f"hit@{k}": f"R@{k}" for k in (1, 2, 5, 10)}, "mrr": "MRR", "map": "mAP"}.items()
}
RECALLS = {
    f"{way}_{theirs}": f"{way} {name}"
    for way in ("t2v", "v2t")
    for theirs, name in {"R@1": "R@1", "R@5": "R@5", "R@10": "R@10", "MdR": "MedR", "MnR": "MeanR"}.items()
}
WINDOW_METRICS = {
    "R1@0.5": "brief MR-full-R1@0.5",
    "R1@0.7": "brief MR-full-R1@0.7",
    "mAP": "brief MR-full-mAP",
    "mAP@0.5": "brief MR-full-mAP@0.5",
    "mAP@0.75": "brief MR-full-mAP@0.75",
    **{f"MR-{length}-mAP": f"brief MR-{length}-mAP" for length in ("long", "middle", "short")},
}
FRAME_METRICS = {
    **{f"frame_{name}": f"frames {name}" for name in ("accuracy", "precision", "recall", "F1", "IoU")},
    "frame_AP05": "frames AP@0.5",
    "frame_AP07": "frames AP@0.7",
}


def _shown(value: float, scale: float) -> str:
    return f"{value * scale:.2f}" if scale == 1 else f"{value * scale:.4f}"


def _values(measured: Mapping[str, Any], names: Mapping[str, str], scale: float = 1.0) -> dict[str, str]:
    """Values by published name; `names` says `part metric` for each, and seeds give a value its spread."""
    values = {}
    for theirs, path in names.items():
        part, name = path.split(" ")
        if name in measured[part]:
            values[theirs] = _shown(measured[part][name], scale)
            if "std" in measured[part]:
                values[theirs] += f" ± {_shown(measured[part]['std'][name], scale)}"
    return values


def _is_size(protocol: Mapping[str, Any], size: int) -> bool:
    return bool(protocol["num_queries"] + protocol["missing_queries"] == size)


def _lost(protocol: Mapping[str, Any]) -> str:
    return f"; {protocol['missing_videos']} videos missing" if protocol["missing_videos"] else ""


def retrieval(
    evidence: Evidence, system: str, clips: int, names: Mapping[str, str], size: int, scale: float = 1.0
) -> Ours | None:
    """A system of retrieval with that many clips, on a test split of that many queries."""
    measured = evidence.metrics["retrieval"].get(system)
    part = measured["by_num_clips"].get(str(clips)) if measured else None
    if not measured or not part or not _is_size(measured["protocol"], size):
        return None
    return Ours(f"{system}, {num_clips(clips)}{_lost(measured['protocol'])}", _values(part, names, scale))


def thesis_retrieval(groups: Mapping[str, str], evidence: Evidence) -> Ours | None:
    """`X-CLIP B/16-8f fine-tuned + mean aggregation frames=16`: two clips of eight frames."""
    backbone = XCLIP[groups["patch"], groups["frames"]]
    model = f"{backbone}-half_patches" if groups["kind"] == "fine-tuned" else backbone
    clips = int(groups["total"] or groups["frames"]) // int(groups["frames"])
    return retrieval(evidence, f"{model}-{AGGREGATORS[groups['aggregator']]}", clips, THESIS_METRICS, VAL_1)


def hit_rates(groups: Mapping[str, str], evidence: Evidence) -> Ours | None:
    """Published X-CLIPs on MSR-VTT, one clip, as fractions."""
    system = f"{groups['name'].replace('-', '_')}-mean"
    return retrieval(evidence, system, 1, HIT_RATES, MSRVTT_1K, 0.01)


def zero_shot_clip(groups: Mapping[str, str], evidence: Evidence) -> Ours | None:
    """OpenAI's CLIP with its frames averaged, on MSR-VTT."""
    return retrieval(evidence, f"{CLIP[groups['size']]}-mean", 1, RECALLS, MSRVTT_1K)


def _moments(groups: Mapping[str, str], evidence: Evidence, objective: str) -> tuple[str, Mapping[str, Any]] | None:
    method, post = groups["method"] or "VC1", groups.get("post", "log_smooth_norm")
    system = f"{VCLIPPER}-{method.lower()}_{post}{SUFFIXES[objective]}"
    measured = evidence.metrics["moments"].get(system)
    if not measured or "brief" not in measured or not _is_size(measured["protocol"], QVHIGHLIGHTS_VAL):
        return None
    if measured["protocol"]["thresholds"]["objective"] != objective:
        return None  # the params of a selection can be changed under its name
    return f"{system}{_lost(measured['protocol'])}", measured


def windows(groups: Mapping[str, str], evidence: Evidence) -> Ours | None:
    """VC1 and VC2 with thresholds for windows; where no more is said, with what the source ends with."""
    found = _moments(groups, evidence, "R1@0.5")
    if found is None:
        return None
    label, measured = found
    return Ours(label, {**_values(measured, WINDOW_METRICS), "mIoU": _shown(measured["mIoU"], 1)})


def selected_frames(groups: Mapping[str, str], evidence: Evidence) -> Ours | None:
    """VC1 and VC2 with thresholds for frames, as fractions."""
    found = _moments(groups, evidence, "frame_AP@0.5")
    return None if found is None else Ours(found[0], _values(found[1], FRAME_METRICS, 0.01))


def _step(evidence: Evidence, architecture: str, keep_rate: float) -> Mapping[str, Any] | None:
    """A counted training step with no block frozen; its forward pass in multiply-adds of one clip and text."""
    measured = evidence.metrics["architectures"].get(architecture)
    if measured is None:
        return None
    for step in measured["steps"]:
        if step["keep_rate"] == keep_rate and step["frozen_blocks"] == 0:
            return {**step, "multiply_adds": step["forward_flops"] / 2 / measured["batch_size"]}
    return None


def architecture(groups: Mapping[str, str], evidence: Evidence) -> Ours | None:
    """Parameters, the memory of a training step, and multiply-adds of a clip with a text, counted at full size."""
    name = f"xclip_base_patch{groups['patch']}_{groups['frames'] or 8}f"
    measured, step = evidence.metrics["architectures"].get(name), _step(evidence, name, 1.0)
    if measured is None or step is None:
        return None
    return Ours(
        name,
        {
            "params_M": f"{measured['parameters'] / 1e6:.6f}",
            "gpu_memory_GB": f"{step['peak_memory_mib'] * 2**20 / 1e9:.2f}",
            "GFLOPs_per_view": f"{step['multiply_adds'] / 1e9:.0f}",
        },
    )


def learning_rate(groups: Mapping[str, str], evidence: Evidence) -> Ours | None:
    """A learning rate of base/32, on validation."""
    name = f"learning_rate_{groups['optimizer'].lower()}"
    return _ablation(evidence, name, float(groups["rate"]), XCLIP["32", "8"], 1.0)


def keep_rate(groups: Mapping[str, str], evidence: Evidence) -> Ours | None:
    """A patch keep rate: multiply-adds of an epoch, and R@1 on validation as a fraction.

    The thesis names neither the model nor what it counts: 348 · 10¹² are the multiply-adds of base/32 with 8 frames
    for the 9,008 videos that 90 % of the train split are.
    """
    rate, found = float(groups["rate"]), None
    if evidence.dataset == "activitynet":
        found = _ablation(evidence, "patch_keep_rate", rate, XCLIP["32", "8"], 0.01)
    step = _step(evidence, "xclip_base_patch32_8f", rate)
    if step is None:
        return found
    flops = {"TFLOPs_fvcore": f"{step['multiply_adds'] * EPOCH / 1e12:.0f}"}
    if found is None:
        return Ours("xclip_base_patch32_8f", flops)
    return Ours(f"{found.label}; xclip_base_patch32_8f", {**found.values, **flops})


def _ablation(evidence: Evidence, name: str, value: float, model: str, scale: float) -> Ours | None:
    ablation = evidence.ablation(name)
    if ablation is None or not ablation["model"].startswith(model):
        return None
    for point in ablation["points"]:
        if point["value"] == value and point["runs"]:
            scores = [run["validation_R@1"] for run in point["runs"]]
            spread = f" ± {_shown(float(np.std(scores, ddof=1)), scale)}" if len(scores) > 1 else ""
            return Ours(f"{ablation['model']} ({name})", {"R@1": _shown(float(np.mean(scores)), scale) + spread})
    return None


def probe_crossover(groups: Mapping[str, str], evidence: Evidence) -> Ours | None:
    """The fewest samples a class with which the probe is above zero-shot, by X-CLIP."""
    found = []
    for model in XCLIP.values():
        values = evidence.metrics["actions"].get(model)
        if values and values["top1"]:
            above = [int(n) for n, probe in values["top1"].items() if probe["mean"] > values["zero_shot"]["top1"]]
            found.append(f"{min(above) if above else 'never'} ({model})")
    return Ours("linear probe", {"shots_per_class": ", ".join(found)}) if found else None
