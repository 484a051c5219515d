"""Markdown tables of the results page, from metrics JSON."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from stillmotion.report.evidence import over_seeds

Metrics = Mapping[str, Mapping[str, Any]]
"""Content of the metrics files of one task, by system."""


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1) -> str:
    """A table with its first columns, `left` of them, set left and the others right."""
    lines = [_row(header), "|---" * left + "|---:" * (len(header) - left) + "|"]
    return "\n".join(lines + [_row(row) for row in rows])


def _row(cells: Sequence[str]) -> str:
    # ids and reasons come from outside: none of them may end a cell or a row
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"


def figure_link(name: str, figures: Sequence[str]) -> list[str]:
    """The paragraph that shows a figure, where there is one of that name."""
    return [f"![{name}](figures/{name}.svg)"] if name in figures else []


def number(value: Any, digits: int = 1) -> str:
    """A number, or a dash where there is none."""
    return "–" if value is None else f"{value:.{digits}f}"


def with_interval(values: Mapping[str, Any], name: str) -> str:
    """A value with its 95 % interval, such as `63.1 (55.6 to 70.6)`."""
    interval = values.get("ci95", {}).get(name)
    if interval is None:
        return number(values.get(name))
    return f"{number(values[name])} ({number(interval[0])} to {number(interval[1])})"


def retrieval_table(metrics: Metrics) -> str:
    """Both directions of retrieval by system."""
    rows = []
    for system, values in metrics.items():
        if not values["t2v"]:
            continue
        t2v, v2t = values["t2v"], values["v2t"]
        spread = f"{number(t2v['std']['R@1'])}" if "std" in t2v else "–"
        numbers = [number(t2v[name]) for name in ("R@2", "R@5", "R@10", "MedR", "MRR")]
        rows.append([system, with_interval(t2v, "R@1"), spread, *numbers, with_interval(v2t, "R@1")])
    header = ["system", "T2V R@1", "± seeds", "R@2", "R@5", "R@10", "MedR", "MRR", "V2T R@1"]
    return markdown_table(header, rows) if rows else "The dataset has no captions of whole videos in its test split."


def seeds_table(metrics: Metrics) -> str:
    """Means of text-to-video metrics, and their spread, over the seeds of a recipe; empty where none has several."""
    shown = {system: values["t2v"] for system, values in metrics.items() if values["t2v"]}
    rows = []
    for label, group in over_seeds(shown).items():
        if len(group) > 1:
            of_seeds = [[shown[system][name] for system in group] for name in ("R@1", "R@5", "R@10", "MedR", "MeanR")]
            rows.append([label, *(f"{np.mean(found):.1f} ± {np.std(found, ddof=1):.1f}" for found in of_seeds)])
    return markdown_table(["T2V", "R@1", "R@5", "R@10", "median rank", "mean rank"], rows) if rows else ""


def clips_table(metrics: Metrics) -> str:
    """Text-to-video R@1 by number of clips; nothing where no system has more than one."""
    shown = {system: values["by_num_clips"] for system, values in metrics.items() if len(values["by_num_clips"]) > 1}
    counts = sorted({int(count) for by_clips in shown.values() for count in by_clips})
    rows = []
    for system, by_clips in shown.items():
        measured = (by_clips.get(str(count)) for count in counts)
        rows.append([system, *(with_interval(values["t2v"], "R@1") if values else "–" for values in measured)])
    header = ["T2V R@1", *("1 clip" if count == 1 else f"{count} clips" for count in counts)]
    return markdown_table(header, rows) if rows else ""


def actions_table(metrics: Metrics) -> str:
    """Top-1 accuracy by number of shots."""
    if not metrics:
        return "params.run names no model that is probed."
    shown = {system: values for system, values in metrics.items() if values["zero_shot"]}
    if not shown:
        return "The dataset has no actions in its test split."
    shots = sorted({int(shot) for values in shown.values() for shot in values["top1"]})
    rows = []
    for system, values in shown.items():
        probes = (values["top1"].get(str(shot)) for shot in shots)
        cells = [f"{number(probe['mean'])} ± {number(probe['std'])}" if probe else "–" for probe in probes]
        rows.append([system, with_interval(values["zero_shot"], "top1"), *cells])
    return markdown_table(["model", "zero-shot", *(f"{shot} shots" for shot in shots)], rows)


def resources_table(metrics: Metrics) -> str:
    """Parameters and FLOPs; what depends on the machine stays in the metrics files."""
    rows = [
        [
            system,
            f"{values['parameters']:,}",
            f"{values['trainable_parameters']:,}",
            number(values["forward_flops"] / 1e9, 2),
            number(values["backward_flops"] / 1e9, 2),
        ]
        for system, values in metrics.items()
    ]
    return markdown_table(["model", "parameters", "trained", "forward GFLOPs", "backward GFLOPs"], rows)


def architectures_table(metrics: Metrics) -> str:
    """Counted cost of a training step of full-size architectures, and what patch dropout and freezing leave of it."""
    every = [step for values in metrics.values() for step in values["steps"]]
    keep_rates = sorted({step["keep_rate"] for step in every if step["keep_rate"] < 1}, reverse=True)
    depths = sorted({step["frozen_blocks"] for step in every if step["frozen_blocks"]})
    rows = []
    for name, values in metrics.items():
        steps = {(step["keep_rate"], step["frozen_blocks"]): step for step in values["steps"]}
        whole = steps.get((1.0, 0))
        cells = ["–", "–", "–"]
        if whole is not None:
            flops = [number(whole[f"{way}_flops"] / 1e9) for way in ("forward", "backward")]
            cells = [*flops, number(whole["peak_memory_mib"], 0)]
        cells += [_share(steps.get((rate, 0)), whole, "forward_flops") for rate in keep_rates]
        cells += [_share(steps.get((1.0, depth)), whole, "backward_flops") for depth in depths]
        rows.append([name, f"{values['parameters']:,}", *cells])
    header = ["architecture", "parameters", "forward GFLOPs", "backward GFLOPs", "memory in MiB"]
    header += [f"forward, keep rate {rate:g}" for rate in keep_rates]
    header += [f"backward, {depth} blocks frozen" for depth in depths]
    return markdown_table(header, rows)


def branches_table(metrics: Metrics) -> str:
    """Counted cost of a STAN as a multiple of that of its CLIP, where both were measured; empty where none was."""
    clips = {_same_clip(values): values for values in metrics.values() if values["settings"]["family"] == "clip"}
    rows = []
    for name, values in metrics.items():
        clip = clips.get(_same_clip(values))
        if values["settings"]["family"] != "stan" or clip is None:
            continue
        step, other = (
            {(step["keep_rate"], step["frozen_blocks"]): step for step in found["steps"]}.get((1.0, 0))
            for found in (values, clip)
        )
        shares = [_share(step, other, of) for of in ("forward_flops", "backward_flops", "peak_memory_mib")]
        rows.append([name, clip["architecture"], f"× {values['parameters'] / clip['parameters']:.2f}", *shares])
    header = ["architecture", "against", "parameters", "forward", "backward", "memory"]
    return markdown_table(header, rows) if rows else ""


def _same_clip(values: Mapping[str, Any]) -> tuple[Any, ...]:
    """What a STAN and its CLIP have in common."""
    return values["settings"].get("architecture"), values["num_frames"], values["batch_size"]


def _share(step: Mapping[str, Any] | None, whole: Mapping[str, Any] | None, name: str) -> str:
    return "–" if step is None or whole is None else f"× {step[name] / whole[name]:.2f}"


def videos_table(videos: Iterable[Any], captions: Iterable[Any], moments: Iterable[Any]) -> str:
    """Counts by split: videos, those left out, captions, moments."""
    videos, captions, moments = list(videos), list(captions), list(moments)
    split_of = {video.video_id: video.split for video in videos}
    rows = []
    for split in ("train", "validation", "test"):
        own = [video for video in videos if video.split == split]
        counts = [
            len(own),
            sum(not video.ok for video in own),
            sum(split_of.get(caption.video_id) == split for caption in captions),
            sum(split_of.get(moment.vid) == split for moment in moments),
        ]
        rows.append([split, *map(str, counts)])
    return markdown_table(["split", "videos", "left out", "captions", "moment queries"], rows)
