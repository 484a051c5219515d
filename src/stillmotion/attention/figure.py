"""Figures of what models attend to: frames and words by Mug, and patches by the branch of a STAN.

Source: Liu et al. 2023 (papers/mug-stan.txt), figures 9 and 10.

Shapes: F frames, L tokens, G by G patches of a frame, S size of a thumbnail.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from stillmotion.attention.store import AttendedExamples
from stillmotion.printed import one_line
from stillmotion.video.packed import PackedFrames
from stillmotion.video.thumbnails import thumbnail_strip

BAR, EVEN, ATTENDED = "#4878a8", "#aaaaaa", "#d62728"
MOST_RED = 0.75
"""Share of the colour in the patch that is attended to most."""
WIDTH_IN = 7.5
LONGEST_TEXT = 70
"""Characters of a caption in a title."""
BARS_IN, COSINES_IN, WORDS_IN = 0.45, 0.55, 1.3
"""Heights; that of the words has room for a title."""
SHORT_NAMES = {"<start_of_text>": "<start>", "<end_of_text>": "<end>"}


def drawn_attention(found: Mapping[str, AttendedExamples], stored: PackedFrames) -> dict[str, Figure]:
    """A figure for each model that has examples, by name.

    Args:
        found: by model.
        stored: the frames of the dataset.
    """
    figures = {}
    for model, examples in found.items():
        if examples.rows:
            strips = [
                thumbnail_strip(stored.all(row["video_id"]), row["stored_frames"], len(row["stored_frames"]))
                for row in examples.rows
            ]
            figures[f"attention-{model}"] = attention_panels(examples, strips)
    return figures


def attention_panels(found: AttendedExamples, strips: Sequence[NDArray[np.uint8]]) -> Figure:
    """Panels of each example: weights of the frames, the frames, where a STAN looks, cosines, weights of the words.

    Args:
        found: at least one example.
        strips: the frames of each in a row.
    """
    num_strips = 1 if found.attention_NFGG is None else 2
    heights = [BARS_IN, *[strip_height(strips) for _ in range(num_strips)], COSINES_IN, BARS_IN]
    figure = plt.figure(figsize=(WIDTH_IN, (sum(heights) + WORDS_IN) * len(strips)), layout="constrained")
    parts = figure.subfigures(len(strips), 1, squeeze=False)[:, 0]
    for place, (part, row, strip) in enumerate(zip(parts, found.rows, strips, strict=True)):
        panels = part.subplots(len(heights), 1, gridspec_kw={"height_ratios": heights})
        _draw_weights(panels[0], row["text_to_frame"], "frame")
        panels[0].set_xticks([])
        panels[0].set_title(_title(row), loc="left", fontsize=8, parse_math=False)
        _draw_strip(panels[1], strip)
        if found.attention_NFGG is not None:
            _draw_strip(panels[2], attended_strip(strip, found.attention_NFGG[place]))
        _draw_cosines(panels[-2], np.array(row["cosines"]))
        _draw_weights(panels[-1], row["video_to_token"], "token")
        names = [SHORT_NAMES.get(token, one_line(token)) for token in row["tokens"]]
        panels[-1].set_xticks(range(len(names)), names, fontsize=6, rotation=90, parse_math=False)
    return figure


def strip_height(strips: Sequence[NDArray[np.uint8]]) -> float:
    """Inches that a strip as wide as the figure has, of the one with the largest frames."""
    return max(WIDTH_IN * strip.shape[0] / strip.shape[1] for strip in strips)


def attended_strip(strip: NDArray[np.uint8], attention_FGG: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The frames in grey, and the redder the more a place is attended to.

    The scale is that of the clip: of its patches, the one with the most attention is the reddest.

    Args:
        strip: (S, F · S, 3), the frames in a row.
        attention_FGG: of each frame.
    """
    size = strip.shape[0]
    scaled_FGG = (attention_FGG / attention_FGG.max()).astype(np.float32)
    large = [Image.fromarray(scaled_GG).resize((size, size), Image.Resampling.BILINEAR) for scaled_GG in scaled_FGG]
    share = MOST_RED * np.concatenate([np.asarray(picture) for picture in large], axis=1)[..., None]
    grey = np.asarray(Image.fromarray(strip).convert("L"), dtype=np.float32)[..., None]
    return ((1 - share) * grey + share * 255 * np.array(to_rgb(ATTENDED))).round().astype(np.uint8)


def _title(row: Mapping[str, Any]) -> str:
    text = one_line(row["text"])
    short = text if len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT - 1]}…"
    return f"“{short}” in {one_line(row['video_id'])}"


def _draw_weights(axes: Any, weights: Sequence[float], noun: str) -> None:
    axes.bar(range(len(weights)), weights, color=BAR, width=0.7)
    axes.axhline(1 / len(weights), color=EVEN, linestyle="--", linewidth=0.8)
    axes.set_xlim(-0.5, len(weights) - 0.5)
    axes.set_ylabel(noun, fontsize=7)
    axes.tick_params(axis="y", labelsize=6)
    axes.tick_params(axis="x", length=0)


def _draw_strip(axes: Any, strip: NDArray[np.uint8]) -> None:
    # not resampled: the pixels that are stored are those in the file
    axes.imshow(strip, extent=(0, 1, 0, 1), aspect="auto", interpolation="none")
    axes.set_axis_off()


def _draw_cosines(axes: Any, cosines_LF: NDArray[np.float64]) -> None:
    axes.imshow(cosines_LF.T, aspect="auto", interpolation="none", cmap="viridis")
    axes.set_ylabel("cosines", fontsize=7)
    axes.set_xticks([])
    axes.set_yticks([0, len(cosines_LF[0]) - 1], ["first", "last"], fontsize=6)
    span = f"{cosines_LF.min():.2f} (dark) to {cosines_LF.max():.2f} (bright)"
    axes.set_title(span, loc="right", fontsize=6, pad=2)
