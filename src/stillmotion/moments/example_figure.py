"""The figure of example queries: frames, windows, and both similarity curves over time.

VClipper (Caravaca 2024), figures 13 and 14.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from stillmotion.printed import one_line
from stillmotion.video.packed import PackedFrames
from stillmotion.video.thumbnails import MOST, MOST_IN_A_FIGURE, thumbnail_strip

TRUE, CHOSEN, CURVE, RAW, CHANGE = "#7fb77e", "#c44e52", "#222222", "#aaaaaa", "#4878a8"
LONGEST_QUERY = 70
"""Characters of a query in a title."""


def example_figure(examples: Sequence[Mapping[str, Any]], stored: PackedFrames, change: float | None) -> Figure:
    """The examples with as many frames of their videos as a figure can hold; see `example_panels`."""
    num = max(1, min(MOST, MOST_IN_A_FIGURE // len(examples)))
    strips = [thumbnail_strip(stored.all(row["vid"]), row["stored_frames"], num) for row in examples]
    return example_panels(examples, strips, change)


def example_panels(
    examples: Sequence[Mapping[str, Any]], strips: Sequence[NDArray[np.uint8]], change: float | None
) -> Figure:
    """Four panels a query: the video's frames, true and chosen windows, Sc with λ, CFSc with α and the cuts.

    Args:
        examples: rows of examples.jsonl, at least one.
        strips: the row of frames of each (`thumbnails.thumbnail_strip`).
        change: α, None where the method has none.
    """
    figure = plt.figure(figsize=(7.5, 3.3 * len(examples)), layout="constrained")
    parts = figure.subfigures(len(examples), 1, squeeze=False)[:, 0]
    for part, example, strip in zip(parts, examples, strips, strict=True):
        picture_axes, window_axes, sc_axes, cfsc_axes = part.subplots(
            4, 1, sharex=True, gridspec_kw={"height_ratios": [0.62, 0.4, 1.2, 0.9]}
        )
        duration = example["duration"]
        _draw_strip(picture_axes, strip, duration)
        picture_axes.set_title(_title(example), loc="left", fontsize=8, parse_math=False)
        _draw_windows(window_axes, example)
        _draw_similarity(sc_axes, example)
        _draw_changes(cfsc_axes, example, change)
        cfsc_axes.set_xlim(0, duration)
        cfsc_axes.set_xlabel("seconds")
    return figure


def _title(example: Mapping[str, Any]) -> str:
    query = one_line(example["query"])
    short = query if len(query) <= LONGEST_QUERY else f"{query[: LONGEST_QUERY - 1]}…"
    return f"{example['place']}: “{short}” in {one_line(example['vid'])}, IoU {example['top1_iou']:.2f}"


def _draw_strip(axes: Any, strip: NDArray[np.uint8], duration: float) -> None:
    # not resampled: the pixels that are stored are those in the file
    axes.imshow(strip, extent=(0, duration, 0, 1), aspect="auto", interpolation="none")
    axes.set_axis_off()


def _draw_windows(axes: Any, example: Mapping[str, Any]) -> None:
    for start, end in example["true_windows"]:
        axes.barh(1, end - start, left=start, height=0.6, color=TRUE)
    for rank, (start, end, _) in enumerate(example["predicted_windows"]):
        axes.barh(0, end - start, left=start, height=0.6, color=CHOSEN, alpha=1.0 if rank == 0 else 0.35)
    axes.set_yticks([1, 0], ["true", "chosen"], fontsize=7)
    axes.set_ylim(-0.5, 1.5)
    axes.tick_params(left=False, bottom=False)
    axes.spines[:].set_visible(False)


def _draw_similarity(axes: Any, example: Mapping[str, Any]) -> None:
    length, duration = example["clip_length_s"], example["duration"]
    starts_T = length * np.arange(len(example["sc"]))
    middles_T = (starts_T + np.minimum(starts_T + length, duration)) / 2
    _shade(axes, example)
    axes.plot(middles_T, example["processed"], color=CURVE, linewidth=1.1)
    axes.axhline(example["threshold"], color=CHOSEN, linestyle="--", linewidth=0.9)
    axes.set_ylabel("Sc")
    if example["processed"] != example["sc"]:
        raw_axes = axes.twinx()
        raw_axes.plot(middles_T, example["sc"], color=RAW, linewidth=0.8)
        raw_axes.set_ylabel("raw Sc", color=RAW)
        raw_axes.tick_params(colors=RAW)
        # the post-processed curve lies above the raw one, which `norm` only stretches
        axes.set_zorder(raw_axes.get_zorder() + 1)
        axes.patch.set_visible(False)


def _draw_changes(axes: Any, example: Mapping[str, Any], change: float | None) -> None:
    length = example["clip_length_s"]
    _shade(axes, example)
    axes.plot(length * (1 + np.arange(len(example["cfsc"]))), example["cfsc"], color=CHANGE, linewidth=1.1)
    for cut in example["cuts"]:
        axes.axvline(length * cut, color=CURVE, linestyle=":", linewidth=0.9)
    if change is not None:
        axes.axhline(change, color=CHANGE, linestyle="--", linewidth=0.9)
    axes.set_ylabel("CFSc")


def _shade(axes: Any, example: Mapping[str, Any]) -> None:
    for start, end in example["true_windows"]:
        axes.axvspan(start, end, color=TRUE, alpha=0.3, linewidth=0)
